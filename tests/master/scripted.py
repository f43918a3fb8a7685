"""A server that says what a test tells it: for answers that no healthy GitHub would give."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

from api.documents import Json

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Said:
    """One HTTP answer, literally."""

    body: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON

    @classmethod
    def json(cls, body: Json, status: int = 200, **headers: str) -> Self:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(json.dumps(body), status, named)


@dataclass
class Scripted:
    """Answers each request with the next of what it was told; the last one stays."""

    url: str = ""
    script: deque[Said] = field(default_factory=deque)
    asked: list[web.BaseRequest] = field(default_factory=list)

    def say(self, *answers: Said) -> None:
        self.script = deque(answers)

    @property
    def connections(self) -> int:
        """From how many connections it was asked."""
        return len({id(request.protocol) for request in self.asked})

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        self.asked.append(request)
        said = self.script.popleft() if len(self.script) > 1 else self.script[0]
        return web.Response(
            body=said.body.encode(),
            status=said.status,
            headers={"Content-Type": said.content_type, **said.headers},
        )
