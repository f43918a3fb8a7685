"""How connections are read and written: uvicorn's quick parser, with the bound that it lacks."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MAX_BYTES = 64 * 1024  # as uvicorn's other parser has it; a URL may carry a long query


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


class BoundedProtocol(HttpToolsProtocol):
    """Hangs up on whoever sends more than 64 KB at a stretch that belong to no body.

    The parser keeps a URL and headers until they end, and trailers too: without a bound, one who
    never ends them fills the memory.
    """

    _pending = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, _Gathering(transport)))

    def data_received(self, data: bytes) -> None:
        self._pending += len(data)
        super().data_received(data)
        if self._pending > _MAX_BYTES and not self.transport.is_closing():
            self.send_400_response("The URL and the headers are too long.")

    def on_headers_complete(self) -> None:
        self._pending = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending = 0
        super().on_message_complete()
