"""A wire between the gateway and a server that it needs: it can be slow, stuck, cut or gone.

A TCP proxy. It stands in front of PostgreSQL's socket or of an HTTP server, passes on every byte
as it is, and counts: what tests assert is how often a server was asked, not how long it took.
"""

import asyncio
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

_CHUNK = 65_536
_BACKLOG = 1_000  # the kernel must accept whoever comes, also while nobody here has time


@dataclass(eq=False)
class _Line:
    """One connection: the writers of both its ends, the second once there is one."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None

    def cut(self) -> None:
        for end in (self.client, self.server):
            if end:
                end.transport.abort()


class Wire:
    """One server's wire; an async context manager. Healthy at first.

    `there` and `back`: seconds by which each portion of bytes is late, to the server and from it.
    """

    def __init__(self, host: str, port: int, *, unix: str | None = None) -> None:
        self._address = (host, port)
        self._unix = unix
        self.port = 0
        self.there = self.back = 0.0
        self.accepted = 0
        """Connections so far. Those that were refused do not count."""
        self.asked = 0
        """Bytes that clients sent so far, whether or not they arrived."""
        self.strikes = 0
        """How often `break_off` did what it was told."""
        self._reserved: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: set[_Line] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._left: int | None = None  # bytes of answers until it breaks off
        self._then: Callable[[], object] = self.cut

    @classmethod
    def to_postgres(cls, url: str) -> Self:
        """In front of the server that a URL names, as ours do: by its socket or by its port."""
        parts = urlsplit(url)
        said = {name: values[0] for name, values in parse_qs(parts.query).items()}
        port = parts.port or int(said.get("port", 5432))
        if "host" in said:
            return cls("", port, unix=f"{said['host']}/.s.PGSQL.{port}")
        return cls(parts.hostname or "", port)

    @classmethod
    def to_http(cls, url: str) -> Self:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        return cls(parts.hostname, parts.port)

    async def __aenter__(self) -> Self:
        # Never listening, it keeps the port ours while connections are refused.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port = self._reserved.getsockname()[1]
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.refuse()
        if self._reserved:
            self._reserved.close()

    def url_of(self, url: str) -> str:
        """The same URL, by way of this wire. Without TLS, which the socket does not have."""
        parts = urlsplit(url)
        if parts.scheme.startswith("http"):
            return parts._replace(netloc=f"127.0.0.1:{self.port}").geturl()
        who = re.sub(r"@.*", "", parts.netloc)
        database = parts.path
        return f"{parts.scheme}://{who}@127.0.0.1:{self.port}{database}?sslmode=disable"

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._lines)

    # What may happen to it

    def hang(self) -> None:
        """Accept and say nothing, and pass on nothing more of what is open. `heal` lets it flow."""
        self._flows.clear()

    def cut(self) -> None:
        """Lose every connection. New ones are fine."""
        for line in list(self._lines):
            line.cut()

    async def refuse(self) -> None:
        """Lose every connection, and refuse new ones."""
        if self._server:
            self._server.close()
            self._server = None
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for the loop to close what was aborted

    def break_off(self, after: int, then: Literal["cut", "hang"] = "cut") -> None:
        """Do so as soon as so many more bytes of answers have passed: in the middle of one."""
        self._left = after
        self._then = self.cut if then == "cut" else self.hang

    async def heal(self) -> None:
        """As at first. What was held back arrives, where somebody still waits for it."""
        self.there = self.back = 0.0
        self._left = None
        self._flows.set()
        if not self._server:
            await self._listen()

    # How

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, reuse_port=True, backlog=_BACKLOG
        )

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _Line(writer)
        self._lines.add(line)
        pumps: list[asyncio.Task[None]] = []
        try:
            await self._flows.wait()
            answers, line.server = await self._connect()
            pumps = [
                asyncio.create_task(self._there(reader, line.server)),
                asyncio.create_task(self._back(answers, writer)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            line.cut()  # the server is not there: so it looks from this side
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (line.client, line.server):
                if end:
                    end.close()
            self._lines.discard(line)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._unix:
            return await asyncio.open_unix_connection(self._unix)
        return await asyncio.open_connection(*self._address)

    async def _there(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while data := await client.read(_CHUNK):
            self.asked += len(data)
            await asyncio.sleep(self.there)
            await self._flows.wait()
            server.write(data)
            await server.drain()

    async def _back(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while data := await server.read(_CHUNK):
            await asyncio.sleep(self.back)
            await self._flows.wait()
            if self._left is not None and len(data) > self._left:
                client.write(data[: self._left])
                data = data[self._left :]
                await client.drain()
                self._strike()
                await self._flows.wait()
            elif self._left is not None:
                self._left -= len(data)
            client.write(data)
            await client.drain()

    def _strike(self) -> None:
        self._left = None
        self.strikes += 1
        self._then()
