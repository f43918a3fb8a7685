"""The wire to GitHub: gql over one aiohttp connection pool. Foreign errors end here."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self, cast
from urllib.parse import urlsplit

import aiohttp
from gql import Client, GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import (
    TransportConnectionFailed,
    TransportProtocolError,
    TransportQueryError,
    TransportServerError,
)
from graphql import DocumentNode
from yarl import URL

from api.documents import Json
from api.master.answers import Answer, GraphQLErrorJson
from api.master.credentials import Credentials
from api.master.errors import MasterError, Unreachable
from api.master.metering import Meter, Metering, Quota, cost, read_quota, read_token_end

USER_AGENT = "annoris-gateway"
# GitHub allows 100 at once for all of a user's programs together. Readers who look for the head
# use up to 36 of these, and are not to keep writes from the rest.
_CONNECTIONS = 45
_CONNECT_SECONDS = 5.0
_TOKEN_SECONDS = 4.0  # for an App's token, to leave time for what it is wanted for


class AnswerLost(Exception):
    """A request may have reached GitHub, and no answer came back."""

    def __init__(self, message: str, *, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out  # or else the connection was lost


@dataclass(slots=True)
class _Exchange:
    """What HTTP said, which gql does not pass on. One a request.

    `sent`: whether GitHub may have got the request, and may carry it out.
    """

    sent: bool = False
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


_exchange: ContextVar[_Exchange] = ContextVar("exchange")


async def _keep_answer(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    exchange = _exchange.get(None)
    if exchange is None:
        return await handler(request)
    exchange.sent = True
    response = await handler(request)
    exchange.status, exchange.headers = response.status, response.headers
    exchange.body = await response.read()
    return response


class GitHub:
    """GitHub's API at one address, for one account. Use as an async context manager.

    `timeout` bounds each request as a whole, in seconds.
    """

    def __init__(self, api_url: str, credentials: Credentials, *, timeout: float) -> None:
        self.timeout = timeout
        self._rest_url = api_url.rstrip("/")
        self._origin = URL(self._rest_url).origin()
        self._credentials = credentials
        transport = AIOHTTPTransport(
            url=graphql_url(self._rest_url),
            headers={"User-Agent": USER_AGENT},
            ssl_close_timeout=1,
            client_session_args={
                "connector": aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=75),
                "timeout": aiohttp.ClientTimeout(
                    total=timeout, sock_connect=min(timeout, _CONNECT_SECONDS)
                ),
                "middlewares": (self._authorize, _keep_answer, self._count),
            },
        )
        self._transport = transport
        self._client = Client(transport=transport, execute_timeout=None)
        self._session: AsyncClientSession | None = None
        self.is_com = urlsplit(api_url).hostname == "api.github.com"
        self._metering = Metering()
        self.quota = Quota()
        # When GitHub last answered anything, by `time.monotonic`: a refusal is an answer, too; a
        # gateway that does not reach it (5xx) is none.
        self.answered_at = float("-inf")
        self.token_expires_at: datetime | None = None  # also None for an App, which gets others

    async def __aenter__(self) -> Self:
        self._session = await self._client.connect_async(reconnecting=False)  # type: ignore[no-untyped-call]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None
        await self._client.close_async()  # type: ignore[no-untyped-call]

    @property
    def requests(self) -> int:
        """Sent so far, by all of this process: GraphQL, REST and for tokens."""
        return self._metering.total.requests

    def metered(self) -> AbstractContextManager[Meter]:
        """Count what is spent in the block, in this task and in those that are begun in it."""
        return self._metering.metered()

    @property
    def exhausted_for(self) -> float:
        """Seconds for which the quota is used up, as GitHub last told; 0 if it is not."""
        if self.quota.remaining != 0 or self.quota.reset_at is None:
            return 0.0
        return max(0.0, (self.quota.reset_at - datetime.now(UTC)).total_seconds())

    async def graphql(
        self,
        document: DocumentNode,
        variables: Mapping[str, Json],
        *,
        seconds: float | None = None,
    ) -> Answer:
        """Send one operation. `seconds`: to give up sooner than is usual.

        Raises Unreachable when it was never sent, or what kept us from getting a token for it;
        AnswerLost when it is not known whether GitHub got it.
        """
        if self._session is None:
            raise Unreachable("The connection to GitHub is closed.")
        exchange = _Exchange()
        token = _exchange.set(exchange)
        try:
            async with asyncio.timeout(seconds):
                data = await self._session.execute(
                    GraphQLRequest(document, variable_values=dict(variables)),
                    # A redirected POST would arrive as a GET, without what was asked.
                    extra_args={"allow_redirects": False},
                )
            return self._answer(exchange, data=data)
        except TransportQueryError as error:
            return self._answer(exchange, data=error.data, errors=error.errors or ())
        except (TransportServerError, TransportProtocolError, AssertionError):
            # gql asserts that there are data where there are no errors.
            return self._answer(exchange, message=_message(exchange.body))
        except TransportConnectionFailed as error:
            lost = _lost(error.__cause__ or error, exchange)
        except TimeoutError as error:
            lost = _lost(error, exchange)
        finally:
            _exchange.reset(token)
        if isinstance(lost, AnswerLost):
            self._metering.spend(points=cost(None))
        raise lost  # not from within: aiohttp's errors hold the request, and so the token

    async def raw_blob(self, repository: str, oid: str) -> Answer | bytes:
        """The bytes of a blob through REST, which GraphQL's `text` cannot carry unharmed.

        Raises Unreachable when no answer came, or what kept us from getting a token.
        """
        status, headers, content = await self._rest(
            "GET",
            f"/repos/{repository}/git/blobs/{oid}",
            {"Accept": "application/vnd.github.raw+json"},
        )
        return content if status == 200 else Answer(status, headers, message=_message(content))

    async def _rest(
        self,
        method: Literal["GET", "POST"],
        path: str,
        headers: Mapping[str, str],
        *,
        middlewares: Sequence[aiohttp.ClientMiddlewareType] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - aiohttp's
    ) -> tuple[int, Mapping[str, str], bytes]:
        session = self._transport.session if self._session else None
        if session is None:
            raise Unreachable("The connection to GitHub is closed.")
        try:
            async with session.request(
                method,
                f"{self._rest_url}{path}",
                headers=headers,
                allow_redirects=method == "GET",
                middlewares=middlewares,
                timeout=timeout or session.timeout,
            ) as response:
                return response.status, response.headers, await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = _reason(error)
        raise Unreachable(f"GitHub did not answer: {reason}.")  # not from within, as above

    async def _authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request with the token; where it is refused and there is another, once more."""
        if request.url.origin() != self._origin:
            return await handler(request)  # redirected: the token is not for others
        token = await self._credentials.token(self._post)
        request.headers["Authorization"] = f"bearer {token}"
        response = await handler(request)
        if response.status != 401 or not self._credentials.renews:
            return response
        # What was refused like this was not carried out: even a commit may be sent again.
        response.release()
        if exchange := _exchange.get(None):
            exchange.sent = False
        token = await self._credentials.token(self._post, refused=token)
        request.headers["Authorization"] = f"bearer {token}"
        return await handler(request)

    async def _count(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        self._metering.spend(requests=1)
        response = await handler(request)
        self._metering.spend(received=len(await response.read()))
        if response.status < 500:
            self.answered_at = time.monotonic()
        if not self._credentials.renews:
            self.token_expires_at = read_token_end(response.headers) or self.token_expires_at
        return response

    async def _post(self, path: str, bearer: str) -> Answer:
        """How credentials ask for a token. Raises Unreachable when no answer came."""
        status, headers, content = await self._rest(
            "POST",
            path,
            {"Accept": "application/vnd.github+json", "Authorization": f"bearer {bearer}"},
            middlewares=(self._count,),
            timeout=aiohttp.ClientTimeout(total=_TOKEN_SECONDS),
        )
        return Answer(status, headers, _json(content), message=_message(content))

    def _answer(
        self,
        exchange: _Exchange,
        *,
        data: object = None,
        errors: object = (),
        message: str | None = None,
    ) -> Answer:
        self.quota = read_quota(exchange.headers) or self.quota
        self._metering.spend(points=cost(data if isinstance(data, dict) else None))
        listed = errors if isinstance(errors, list) else []
        known = [
            cast(GraphQLErrorJson, {name: said for name, said in error.items() if said is not None})
            for error in listed
            if isinstance(error, dict)
        ]
        return Answer(
            exchange.status,
            exchange.headers,
            data if isinstance(data, dict) else None,
            known,
            message,
        )


def graphql_url(rest_url: str) -> str:
    """The GraphQL address that belongs to a REST root (GitHub.com, GHE.com or GHES)."""
    path = urlsplit(rest_url).path.rstrip("/")
    if path.endswith("/api/v3"):
        return f"{rest_url.removesuffix('/v3')}/graphql"
    return f"{rest_url}/graphql"


def _json(body: bytes) -> dict[str, Json]:
    """A body that is a JSON object; empty if it is anything else."""
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _message(body: bytes) -> str | None:
    message = _json(body).get("message")
    return message if isinstance(message, str) else None


def _lost(cause: BaseException, exchange: _Exchange) -> MasterError | AnswerLost:
    if isinstance(cause, MasterError):
        return cause  # there was no token to send it with
    never_sent = not exchange.sent or isinstance(
        cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
    )
    sentence = f"GitHub did not answer: {_reason(cause)}."
    if never_sent:
        return Unreachable(sentence)
    return AnswerLost(sentence, timed_out=isinstance(cause, TimeoutError))


def _reason(cause: BaseException) -> str:
    """A reason without addresses, which may be private."""
    if isinstance(cause, TimeoutError):
        return "the time-out passed"
    if isinstance(cause, aiohttp.ClientConnectorError):
        return "the connection was refused"
    return "the connection was lost"
