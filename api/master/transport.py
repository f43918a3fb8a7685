"""The wire to GitHub: gql over one aiohttp connection pool. Foreign errors end here."""

import json
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast
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

from api.documents import Json
from api.master.answers import Answer, GraphQLErrorJson
from api.master.errors import Unreachable

USER_AGENT = "annoris-gateway"
_CONNECTIONS = 20  # GitHub allows 100 at once for all of a user's programs together
_CONNECT_SECONDS = 5.0


class AnswerLost(Exception):
    """A request may have reached GitHub, and no answer came back."""

    def __init__(self, message: str, *, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out  # or else the connection was lost


@dataclass(slots=True)
class _Exchange:
    """What HTTP said, which gql does not pass on. One a request."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


_exchange: ContextVar[_Exchange] = ContextVar("exchange")


async def _keep_answer(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    response = await handler(request)
    if exchange := _exchange.get(None):
        exchange.status, exchange.headers = response.status, response.headers
        exchange.body = await response.read()
    return response


class GitHub:
    """GitHub's API at one address with one token. Use as an async context manager.

    `timeout` bounds each request as a whole, in seconds.
    """

    def __init__(self, api_url: str, token: str, *, timeout: float) -> None:
        self._rest_url = api_url.rstrip("/")
        transport = AIOHTTPTransport(
            url=graphql_url(self._rest_url),
            headers={"Authorization": f"bearer {token}", "User-Agent": USER_AGENT},
            ssl_close_timeout=1,
            client_session_args={
                "connector": aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=75),
                "timeout": aiohttp.ClientTimeout(
                    total=timeout, sock_connect=min(timeout, _CONNECT_SECONDS)
                ),
                "middlewares": (_keep_answer,),
            },
        )
        self._transport = transport
        self._client = Client(transport=transport, execute_timeout=None)
        self._session: AsyncClientSession | None = None
        self.is_com = urlsplit(api_url).hostname == "api.github.com"
        self.requests = 0  # sent so far, GraphQL and REST
        self.quota: Mapping[str, str] = {}  # the newest x-ratelimit-* headers

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
    def exhausted_for(self) -> float:
        """Seconds for which the quota is used up, as GitHub last told; 0 if it is not."""
        if self.quota.get("x-ratelimit-remaining") != "0":
            return 0.0
        try:
            return max(0.0, int(self.quota["x-ratelimit-reset"]) - time.time())
        except (KeyError, ValueError):
            return 0.0

    async def graphql(self, document: DocumentNode, variables: Mapping[str, Json]) -> Answer:
        """Send one operation.

        Raises Unreachable when it was never sent, AnswerLost when that is not known.
        """
        if self._session is None:
            raise Unreachable("The connection to GitHub is closed.")
        self.requests += 1
        exchange = _Exchange()
        token = _exchange.set(exchange)
        try:
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
            lost = _lost(error.__cause__ or error)
        finally:
            _exchange.reset(token)
        raise lost  # not from within: aiohttp's errors hold the request, and so the token

    async def raw_blob(self, repository: str, oid: str) -> Answer | bytes:
        """The bytes of a blob through REST, which GraphQL's `text` cannot carry unharmed.

        Raises Unreachable when no answer came.
        """
        session = self._transport.session if self._session else None
        if session is None:
            raise Unreachable("The connection to GitHub is closed.")
        self.requests += 1
        url = f"{self._rest_url}/repos/{repository}/git/blobs/{oid}"
        try:
            async with session.get(
                url, headers={"Accept": "application/vnd.github.raw+json"}
            ) as response:
                content = await response.read()
                if response.status == 200:
                    return content
                return Answer(
                    response.status,
                    response.headers,
                    message=_message(content),
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = _reason(error)
        raise Unreachable(f"GitHub did not answer: {reason}.")  # not from within, as above

    def _answer(
        self,
        exchange: _Exchange,
        *,
        data: object = None,
        errors: object = (),
        message: str | None = None,
    ) -> Answer:
        self.quota = {
            name.lower(): value
            for name, value in exchange.headers.items()
            if name.lower().startswith("x-ratelimit-")
        } or self.quota
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


def _message(body: bytes) -> str | None:
    try:
        content = json.loads(body)
    except ValueError:
        return None
    message = content.get("message") if isinstance(content, dict) else None
    return message if isinstance(message, str) else None


def _lost(cause: BaseException) -> Unreachable | AnswerLost:
    never_sent = isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
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
