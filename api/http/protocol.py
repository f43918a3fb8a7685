"""How connections are read and written: uvicorn's quick parser, with what it lacks."""

import asyncio
import sys
from typing import Any, cast

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_MAX_BYTES = 64 * 1024  # as uvicorn's other parser has it; a URL may carry a long query
_HEAD_SECONDS = 20.0  # for a URL and headers to arrive, from the connecting or their first byte
_SHARE = 0.75  # of the files that a process may have open, for connections to it


def _most_connections() -> int:
    if sys.platform == "win32":
        return 10_000
    import resource  # noqa: PLC0415

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int(_SHARE * soft) if soft != resource.RLIM_INFINITY else 100_000


_MOST_CONNECTIONS = _most_connections()


class _Gathering:
    """A transport that sends at once what is written at once: uvicorn writes headers, then a body.

    For each, the kernel is asked once; which takes longer than all that we do for many an answer.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))


class _NeverUpgrading(HttpRequestParser):
    """A parser that goes on with HTTP/1.1 where another protocol is offered, as HTTP allows.

    Clients in Java offer HTTP/2 with every first request. The parser would take its body for what
    is said in that protocol, and uvicorn for the next request.
    """

    def __init__(self, protocol: "BoundedProtocol") -> None:
        super().__init__(protocol)
        self._protocol = protocol

    def feed_data(self, data: Any) -> None:
        while True:
            try:
                return super().feed_data(data)
            except HttpParserUpgrade as offer:
                if not self._protocol.declined:
                    raise
                data = self._protocol.declined + data[offer.args[0] :]


class BoundedProtocol(HttpToolsProtocol):
    """Hangs up on whoever sends more than 64 KB at a stretch that belong to no body, or too slowly.

    The parser keeps a URL and headers until they end, and trailers too: without a bound, one who
    never ends them fills the memory. And each connection is an open file: without a bound of time
    and number, those who never say anything leave none for PostgreSQL and GitHub.

    `declined`: the beginning of a request that offers another protocol, without the offer.
    """

    _pending = 0
    _is_in_head = False
    _alarm: asyncio.TimerHandle | None = None
    declined = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.parser = _NeverUpgrading(self)
        super().connection_made(cast(asyncio.Transport, _Gathering(transport)))
        if len(self.connections) > _MOST_CONNECTIONS:
            self.transport.close()
        self._hurry()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._pending += len(data)
        super().data_received(data)
        if self._is_in_head or self._is_idle:
            self._hurry()
        if self._pending > _MAX_BYTES and not self.transport.is_closing():
            self.send_400_response("The URL and the headers are too long.")

    def on_message_begin(self) -> None:
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._pending = 0
        self._is_in_head = False
        self._relax()
        self.declined = self._without_offer() if self._is_offer else b""
        if not self.declined:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending = 0
        if not self.declined:  # else it is yet to come
            super().on_message_complete()

    def _hurry(self) -> None:
        if self._alarm is None:
            self._alarm = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def _relax(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _give_up(self) -> None:
        self._alarm = None
        if self.flow.read_paused or not self._is_idle:
            self._hurry()  # it is we who do not read on, or have not answered yet
        elif not self.transport.is_closing():
            self.transport.close()

    @property
    def _is_idle(self) -> bool:
        """Whether no request is under way; one may have begun to arrive."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    @property
    def _is_offer(self) -> bool:
        # A CONNECT is one without a header that could be left out, and no request of ours.
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += (b"%s: %s" % header for header in self.headers if header[0] != b"upgrade")
        return b"\r\n".join([*lines, b"", b""])
