"""Requests as they are written, with nothing tidied up by a client."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from socket import create_connection, socket
from typing import Any
from urllib.parse import urlencode

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Got:
    """An answer. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the only error."""
        [error] = self.content["errors"]
        assert error["message"]
        return str(error["extensions"]["code"])

    @property
    def media_type(self) -> str:
        return self.headers["content-type"].removesuffix("; charset=utf-8")


def send(
    port: int,
    method: str,
    target: str = "/graphql",
    body: bytes | Iterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Got:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        chunked = isinstance(body, Iterator)
        connection.request(method, target, body, dict(headers or {}), encode_chunked=chunked)
        answer = connection.getresponse()
        return Got(
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            answer.read(),
        )
    finally:
        connection.close()


def post(port: int, content: object, **headers: str) -> Got:
    """Send content as JSON, or bytes as they are. `accept_encoding`: the header of that name."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return send(port, "POST", body=body, headers=JSON | _named(headers))


def get(
    port: int,
    given: Mapping[str, object],
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> Got:
    """Ask by the parameters of the URL; what is no text is sent as JSON."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in given.items()
    }
    return send(port, method, f"/graphql?{urlencode(texts)}", headers=headers)


@contextmanager
def connected(port: int) -> Iterator[socket]:
    with create_connection(("127.0.0.1", port), timeout=30) as connection:
        yield connection


def received(connection: socket) -> bytes:
    """All that comes until the other side hangs up."""
    parts = list(iter(lambda: connection.recv(65_536), b""))
    return b"".join(parts)


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
