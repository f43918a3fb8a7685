"""What the gateway is compared with: `python -m tests.bench.servers NAME PORT [ARGUMENT]`.

    ceiling   the same bytes each time, without HTTP being read: what the load generator can do
    bare      an ASGI application that answers the bytes of a file of that name
    floor     one that selects the rows with asyncpg and encodes them with orjson
    naive     Strawberry and FastAPI over asyncpg, as their documentation shows it

All but the first run as `annoris start` runs the gateway. The last two answer the same rows to the
same requests; `floor` looks at nothing but the variables.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import asyncpg
import orjson
import strawberry
import uvicorn
from fastapi import FastAPI, Request
from strawberry.fastapi import GraphQLRouter
from uvicorn.loops.auto import auto_loop_factory

from api.documents.listing import Order, read_cursor

HOST = "127.0.0.1"
POOL = 10  # connections, as many as the gateway has

Name = Literal["ceiling", "bare", "floor", "naive"]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_COLUMNS = "path, title, status, priority, agent, occurred_at, tags, revision"
_NEWEST = "ORDER BY occurred_key DESC, path DESC LIMIT $1"
DOCUMENT = f"SELECT {_COLUMNS}, markdown FROM sessions WHERE path = $1"  # noqa: S608
PAGE = f"SELECT {_COLUMNS} FROM sessions {_NEWEST}"  # noqa: S608
BEYOND = f"SELECT {_COLUMNS} FROM sessions WHERE (occurred_key, path) < ($2, $3) {_NEWEST}"  # noqa: S608
FILTERED = (
    f"SELECT {_COLUMNS} FROM sessions WHERE (occurred_key, path) < ($2, $3) AND status = $4 "  # noqa: S608
    f"AND title_folded LIKE '%' || $5 || '%' {_NEWEST}"
)


def bare(directory: str) -> Asgi:
    answers = {f"/{file.name}": file.read_bytes() for file in Path(directory).iterdir()}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _body(receive)
            await _answer(send, answers[scope["path"]])

    return app


def floor(database_url: str) -> Asgi:
    pools: list[asyncpg.Pool] = []
    answers = {"/document": _document, "/page": _page, "/filtered": _filtered}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            pools.append(await _pool(database_url))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await pools[0].close()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            asked = orjson.loads(await _body(receive))
            data = await answers[scope["path"]](pools[0], asked["variables"])
            await _answer(send, orjson.dumps({"data": data}))

    return app


async def _document(pool: asyncpg.Pool, variables: Mapping[str, Any]) -> object:
    row = await pool.fetchrow(DOCUMENT, variables["id"])
    return {"session": _fields(row) | {"markdown": row["markdown"]}}


async def _page(pool: asyncpg.Pool, variables: Mapping[str, Any]) -> object:
    if variables["after"] is None:
        rows = await pool.fetch(PAGE, variables["first"])
    else:
        place = read_cursor(Order.OCCURRED_AT_DESC, variables["after"])
        rows = await pool.fetch(BEYOND, variables["first"], *place)
    return {"sessions": {"nodes": [_fields(row) for row in rows]}}


async def _filtered(pool: asyncpg.Pool, variables: Mapping[str, Any]) -> object:
    place = read_cursor(Order.OCCURRED_AT_DESC, variables["after"])
    where = variables["where"]
    rows = await pool.fetch(
        FILTERED, variables["first"], *place, where["status"], where["titleContains"]
    )
    return {"sessions": {"nodes": [_fields(row) for row in rows]}}


def _fields(row: asyncpg.Record) -> dict[str, object]:
    return {
        "path": row["path"],
        "title": row["title"],
        "status": row["status"],
        "priority": row["priority"],
        "agent": row["agent"],
        "occurredAt": row["occurred_at"],
        "tags": row["tags"],
        "revision": row["revision"],
    }


def naive(database_url: str) -> Asgi:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with await _pool(database_url) as pool:
            app.state.pool = pool
            yield

    async def get_context(request: Request) -> dict[str, asyncpg.Pool]:
        return {"pool": request.app.state.pool}

    app = FastAPI(lifespan=lifespan)
    router: GraphQLRouter[Any, None] = GraphQLRouter(
        strawberry.Schema(query=Query), context_getter=get_context
    )
    app.include_router(router, prefix="/graphql")
    return app


@strawberry.type
class Session:
    path: str
    title: str
    status: str | None
    priority: str | None
    agent: str | None
    occurred_at: datetime | None
    tags: list[str]
    revision: str
    markdown: str | None = None


@strawberry.type
class SessionConnection:
    nodes: list[Session]


@strawberry.input
class SessionFilter:
    status: str
    title_contains: str


@strawberry.type
class Query:
    @strawberry.field
    async def session(
        self,
        info: strawberry.Info,
        id: strawberry.ID,
        max_staleness: int | None = None,  # noqa: ARG002  # so that the request is the same
    ) -> Session | None:
        row = await info.context["pool"].fetchrow(DOCUMENT, id)
        return Session(**row) if row else None

    @strawberry.field
    async def sessions(
        self,
        info: strawberry.Info,
        first: int = 20,
        after: str | None = None,
        where: SessionFilter | None = None,
        max_staleness: int | None = None,  # noqa: ARG002
    ) -> SessionConnection:
        pool = info.context["pool"]
        place = read_cursor(Order.OCCURRED_AT_DESC, after) if after is not None else ()
        if where is not None:
            rows = await pool.fetch(FILTERED, first, *place, where.status, where.title_contains)
        else:
            rows = await pool.fetch(BEYOND if place else PAGE, first, *place)
        return SessionConnection(nodes=[Session(**row) for row in rows])


async def _pool(database_url: str) -> asyncpg.Pool:
    return await asyncpg.create_pool(database_url, min_size=POOL, max_size=POOL)


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    return body


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Canned(asyncio.Protocol):
    """Answers whatever arrives, as one request a packet."""

    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + 5000 * b"x"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, _: bytes) -> None:
        self._transport.write(self.answer)


async def _serve_canned(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Canned, HOST, port)
    await server.serve_forever()


APPS: dict[str, Callable[[str], Asgi]] = {"bare": bare, "floor": floor, "naive": naive}


def main(name: str, port: str, argument: str = "") -> None:
    if name == "ceiling":
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            runner.run(_serve_canned(int(port)))
        return
    app = APPS[name](argument)
    uvicorn.run(app, host=HOST, port=int(port), log_config=None, access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
