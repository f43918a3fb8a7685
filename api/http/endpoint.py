"""/graphql: the door that agents and people come through.

A plain ASGI application: what a framework does for each request costs more than most answers do.

By GET there are queries only, and by POST only JSON, which no page of somebody else can have a
browser send unasked. So nobody's browser can be made to change anything here, nor to show what it
was answered: nothing of ours allows other origins to read it.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self, TypeVar

from graphql import GraphQLError, OperationType
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from api.access import Caller, Keyring, Scope, Unauthenticated
from api.documents import Json
from api.gateway.gateway import Gateway, Operation
from api.gateway.planning import MAX_REQUEST_BYTES
from api.gateway.writes import Writer
from api.graphql.context import Context
from api.graphql.plans import RULES, WITHOUT_INTROSPECTION, Plan, Plans, Ready
from api.graphql.schema import schema, written
from api.http.answers import Answers, Key
from api.http.graphiql import PAGE_HEADERS
from api.http.negotiation import (
    MediaType,
    answer_type,
    has,
    is_json,
    is_local,
    prefers_page,
    takes_gzip,
)
from api.http.persisted import Persisted
from api.http.rate import Rate
from api.http.reply import ALWAYS, GZIP_FROM, Draft, Refused, Reply, answered, failed, zipped
from api.http.request import Asked, read_body, read_parameters

T = TypeVar("T")

# What the writer takes is not refused at the door, however it is written down: a Cyrillic letter
# has two bytes, and six as an escape in JSON.
MAX_BODY_BYTES = 3 * MAX_REQUEST_BYTES + 1_000_000
_LARGE = 1_000_000  # bytes of a body, from which they are few at once: each takes memory
_LARGE_AT_ONCE = 2
# What a request costs beside being one, in requests of the usual kind.
_BYTES_A_REQUEST = 20_000  # of a body, in which secrets may have to be looked for
_PAID_AT_ONCE = 50  # requests, of a body that is yet to come in full
_CHARACTERS_A_REQUEST = 200  # of a document that was not seen before
_VALUES_A_REQUEST = 200  # that may be in the answer
_MOST_ERRORS = 100  # of one operation
_REFUSED_SECONDS = 1.0  # until a caller who has asked too often hears of it, and can ask again
_BODY_SECONDS = 60.0  # for a body to arrive
_QUERY_SECONDS = 30.0  # for a query, whatever it has to wait for
_UNWATCHED_SECONDS = 0.05  # after which it is noticed when the caller hangs up
_ZIPPED_ASIDE = 100_000  # bytes from which compressing takes a millisecond or more from others
_REPEATS = (2, 1, 0)  # how often a query may be repeated yet, when the cache moved on meanwhile
# What may change while the head does not: an answer that tells of it is not given again.
_VOLATILE = frozenset({"hot", "cacheStatus", "healthChecks", "unreadableDocuments"})
_METHODS = b"GET, HEAD, OPTIONS, POST"
_OPTIONS = Reply(204, (*ALWAYS, (b"allow", _METHODS)))


class Gone(Exception):
    """The caller has hung up."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A request, but for its body."""

    method: str
    query_string: bytes
    headers: Mapping[bytes, bytes]
    receive: Receive
    address: str
    held: AsyncExitStack
    """What is given back when the answer is ready."""

    @classmethod
    def of(cls, scope: Connection, receive: Receive) -> Self:
        address, _ = scope.get("client") or ("", 0)
        return cls(
            scope["method"],
            scope["query_string"],
            dict(scope["headers"]),
            receive,
            address,
            AsyncExitStack(),
        )

    @property
    def wants(self) -> MediaType | None:
        return answer_type(self.headers.get(b"accept"))

    @property
    def is_for_the_page(self) -> bool:
        is_operation = b"query=" in self.query_string or b"extensions=" in self.query_string
        return not is_operation and prefers_page(self.headers.get(b"accept"))


class GraphQLEndpoint:
    """GraphQL over HTTP. `page` is the HTML that a browser gets, if it gets any."""

    def __init__(
        self,
        gateway: Gateway,
        writer: Writer,
        *,
        page: str | None,
        keyring: Keyring,
        rate: Rate | None,
        introspection: bool,
    ) -> None:
        self._gateway = gateway
        self._writer = writer
        self._keyring = keyring
        self._rate = rate
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._plans = Plans(schema, RULES if introspection else WITHOUT_INTROSPECTION)
        self._persisted = Persisted()
        self._answers = Answers(gateway)
        headers = {"Content-Type": "text/html; charset=utf-8", **PAGE_HEADERS}
        own = ((name.lower().encode(), value.encode()) for name, value in headers.items())
        headers_of_page = tuple(dict([*ALWAYS, *own]).items())
        self._page = Reply(200, headers_of_page, page.encode()) if page else None

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        call = _Call.of(scope, receive)
        try:
            async with call.held:
                reply = await self._reply(call)
        except Gone:
            return  # nobody is there to hear
        except Refused as refused:
            reply = refused.reply(call.wants or MediaType.JSON)
        except Exception as error:
            internal = written(GraphQLError(str(error), original_error=error), {})
            reply = failed(500, call.wants or MediaType.JSON, internal)
        await _send(reply, call, send)

    async def _reply(self, call: _Call) -> Reply:
        """Raises Refused, Gone."""
        match call.method:
            case "POST":
                caller = await self._caller(call)  # who may not come in has nothing read either
                raw = await self._body(call, caller)
            case "GET" | "HEAD":
                if self._page and call.is_for_the_page:
                    return self._page
                caller = await self._caller(call)
                raw = call.query_string
            case "OPTIONS":
                return _OPTIONS
            case _:
                raise Refused(
                    405,
                    "Use POST, or GET for a query.",
                    headers=((b"allow", _METHODS),),
                    hang_up=True,
                )
        media_type = call.wants
        if media_type is None:
            raise Refused(406, f"Accept {MediaType.JSON} or {MediaType.GRAPHQL}.")
        is_post = call.method == "POST"
        key = (b"POST" if is_post else b"GET", media_type.encode(), raw)
        if caller.may(Scope.READ) and (kept := self._answers.find(key)):
            return kept.reply()
        asked = read_body(raw) if is_post else read_parameters(raw)
        return (await self._answer(asked, key, media_type, call, caller)).reply()

    async def _caller(self, call: _Call) -> Caller:
        """Who asks. Raises Refused."""
        if self._keyring.is_open and not is_local(call.headers.get(b"host", b"")):
            raise Refused(
                403,
                "Without API keys the gateway answers to localhost only, or any page in a browser "
                "on this machine could use it. Set API_KEYS to be reached by other names.",
                code="FORBIDDEN",
                hang_up=True,
            )
        try:
            caller = self._keyring.caller(call.headers.get(b"authorization"), datetime.now(UTC))
        except Unauthenticated as error:
            headers = ((b"www-authenticate", b'Bearer realm="annoris"'),)
            raise Refused(
                401, str(error), code="UNAUTHENTICATED", headers=headers, hang_up=True
            ) from None
        await self._charge(1, call, caller)
        return caller

    async def _charge(self, price: int, call: _Call, caller: Caller) -> None:
        """Count so many requests of a caller. Raises Refused if that is too much."""
        if not price or self._rate is None:
            return
        if wait := await self._rate.seconds_to_wait(caller.name or call.address, price):
            await call.held.aclose()
            # Whoever asks again at once costs as much as a request that is answered.
            await asyncio.sleep(_REFUSED_SECONDS)
            raise Refused(
                429,
                f"{caller.name or 'This address'} has used up its {self._rate.most:,} requests of "
                f"this minute; a dear one counts for several. Try again in {wait} seconds.",
                code="RATE_LIMITED",
                headers=((b"retry-after", b"%d" % wait),),
                hang_up=True,
                retryAfter=wait,
            )

    async def _body(self, call: _Call, caller: Caller) -> bytes:
        """The body of a POST, paid for as it comes.

        Raises Refused if it is no JSON, too large, too slow or too dear, and Gone.
        """
        if not is_json(call.headers.get(b"content-type")):
            raise Refused(
                415, "Send JSON in UTF-8, as Content-Type: application/json.", hang_up=True
            )
        if call.headers.get(b"content-encoding", b"identity") != b"identity":
            raise Refused(415, "Send the body as it is, without a Content-Encoding.", hang_up=True)
        if int(call.headers.get(b"content-length", b"0")) > MAX_BODY_BYTES:
            raise _too_large()
        body, is_large, paid = bytearray(), False, 0
        dearest = self._rate.dearest if self._rate else 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await call.receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    body += message.get("body", b"")
                    if len(body) > _LARGE and not is_large:
                        is_large = True
                        await call.held.enter_async_context(self._large)
                    if len(body) > MAX_BODY_BYTES:
                        raise _too_large()
                    is_whole = not message.get("more_body")
                    due = min(len(body) // _BYTES_A_REQUEST, dearest) - paid
                    if is_whole or due >= _PAID_AT_ONCE:
                        await self._charge(due, call, caller)
                        paid += due
                    if is_whole:
                        return bytes(body)
        except TimeoutError:
            said = f"The request did not arrive within {_BODY_SECONDS:g} seconds."
            raise Refused(
                408,
                said,
                code="LIMIT_EXCEEDED",
                hang_up=True,
                limit="seconds",
                maximum=_BODY_SECONDS,
            ) from None

    async def _answer(
        self, asked: Asked, key: Key, media_type: MediaType, call: _Call, caller: Caller
    ) -> Draft:
        is_post = call.method == "POST"
        text = self._persisted.text_of(asked)
        if not self._plans.knows(text, asked.operation_name):
            await self._charge(len(text) // _CHARACTERS_A_REQUEST, call, caller)
        plan = self._plans.plan(text, asked.operation_name)
        if not isinstance(plan, Plan):
            return answered(media_type, {"errors": _written(plan, {})})
        is_mutation = plan.operation is OperationType.MUTATION
        if is_mutation and not is_post:
            said = "Send a mutation by POST: a GET changes nothing."
            raise Refused(405, said, headers=((b"allow", b"POST"),))
        _check_scope(caller, Scope.WRITE if is_mutation else Scope.READ)
        self._persisted.remember(asked)
        ready = plan.ready(asked.variables)
        if not isinstance(ready, Ready):
            return answered(media_type, {"errors": _written(ready, {})})
        await self._charge(ready.price // _VALUES_A_REQUEST, call, caller)
        for left in (0,) if is_mutation else _REPEATS:
            async with Operation(self._gateway, repeats=left > 0) as reads:
                context = Context(self._gateway, self._writer, reads, caller)
                running = ready.run(context)
                # A mutation goes on: what its caller asked for is done, also if nobody hears of it.
                result = await (running if is_mutation else _in_time(running, call))
            if not reads.has_moved:
                break
        # By now the operation is closed: a caller who takes the answer slowly is not to keep a
        # connection to the cache.
        answer: dict[str, object] = {}
        if result.data is not None or any(error.path for error in result.errors or ()):
            answer["data"] = result.data  # else it was not carried out at all
        if result.errors:
            answer["errors"] = _written(result.errors, context.saved)
        draft = answered(media_type, answer, may_be_kept=not is_post and not result.errors)
        if _VOLATILE.isdisjoint(plan.fields) and not result.errors and (basis := reads.basis):
            self._answers.keep(key, draft, basis)
        return draft


def _written(errors: Sequence[GraphQLError], saved: Mapping[str | int, str]) -> list[Json]:
    """Errors as they go into the answer. Of very many, one tells how many more there are."""
    told: list[Json] = [written(error, saved) for error in errors[:_MOST_ERRORS]]
    if (more := len(errors) - _MOST_ERRORS) > 0:
        more_of_them = GraphQLError(f"There are {more:,} more errors.")
        told.append(written(more_of_them, saved))
    return told


def _check_scope(caller: Caller, scope: Scope) -> None:
    """Raises Refused."""
    if not caller.may(scope):
        has = " and ".join(sorted(caller.scopes))
        raise Refused(
            403,
            f"The API key {caller.name} may {has} only; this needs the scope {scope}. Nothing was "
            "done.",
            code="FORBIDDEN",
        )


def _too_large() -> Refused:
    said = f"A request has at most {MAX_BODY_BYTES:,} bytes. Write fewer documents at once."
    return Refused(
        413, said, code="LIMIT_EXCEEDED", hang_up=True, limit="bytes", maximum=MAX_BODY_BYTES
    )


async def _in_time(work: Coroutine[object, object, T], call: _Call) -> T:
    """What comes of work that takes no longer than a query may. Raises Refused, and Gone."""
    try:
        async with asyncio.timeout(_QUERY_SECONDS):
            return await _unless_gone(work, call)
    except TimeoutError:
        raise Refused(
            503,
            f"The query has taken {_QUERY_SECONDS:g} seconds, which is the limit. Ask for smaller "
            "pages, or for fewer texts at once.",
            code="LIMIT_EXCEEDED",
            limit="seconds",
            maximum=_QUERY_SECONDS,
        ) from None


async def _unless_gone(work: Coroutine[object, object, T], call: _Call) -> T:
    """What comes of work that nobody wants any more once the caller has hung up. Raises Gone."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # all code runs in one
    loop, watching = asyncio.get_running_loop(), list[asyncio.Task[None]]()
    # Most work ends before: it is not worth a task.
    timer = loop.call_later(
        _UNWATCHED_SECONDS,
        lambda: watching.append(loop.create_task(_cancel_when_gone(task, call))),
    )
    try:
        return await work
    except asyncio.CancelledError:
        if any(watcher.done() for watcher in watching) and not task.uncancel():
            raise Gone from None
        raise  # the server ends
    finally:
        timer.cancel()
        for watcher in watching:
            watcher.cancel()


async def _cancel_when_gone(task: asyncio.Task[object], call: _Call) -> None:
    while (await call.receive())["type"] != "http.disconnect":
        pass
    task.cancel()


async def _send(reply: Reply, call: _Call, send: Send) -> None:
    status, headers, body = reply.status, reply.headers, reply.body
    if reply.tag and has(call.headers.get(b"if-none-match", b""), reply.tag):
        status, body = 304, b""
    elif len(body) >= GZIP_FROM and takes_gzip(call.headers.get(b"accept-encoding")):
        is_long = len(body) >= _ZIPPED_ASIDE
        body = await asyncio.to_thread(zipped, body) if is_long else zipped(body)
        headers = (*headers, (b"content-encoding", b"gzip"))
    if status not in {204, 304}:
        headers = (*headers, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if call.method == "HEAD" else body})
