"""POST /webhooks/github: GitHub tells of pushes. A hint to look, never a fact to rely on."""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from urllib.parse import parse_qs

from cachetools import TTLCache
from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from api.master.master import Master
from api.wiring import Parts

router = APIRouter()
log = logging.getLogger(__name__)

_MAX_BYTES = 25 * 1024 * 1024  # GitHub sends no larger payload
_SECONDS = 10.0  # for a payload to arrive: GitHub itself waits no longer for the answer
_HANG_UP = {"Connection": "close"}  # else the server would read on, to throw it away
_FORM = "application/x-www-form-urlencoded"
_REMEMBERED, _MEMORY_SECONDS = 10_000, 600.0


class _Repository(BaseModel):
    full_name: str


class Push(BaseModel):
    """What matters here of a push event. Of a branch that was deleted `after` is all zeros."""

    ref: str
    after: str
    repository: _Repository

    def moves(self, master: Master) -> bool:
        """Whether the master's branch is where this was pushed to."""
        # GitHub's names of owners and repositories know no case; those of branches do.
        is_ours = self.repository.full_name.lower() == master.repository.lower()
        return is_ours and self.ref == master.ref


class Deliveries:
    """The deliveries that were heeded lately, known again by their signatures.

    A signature covers every byte of a payload. The id of a delivery is not signed: who captured
    one could send it again under another; and when GitHub delivers again, id and bytes are those
    of the first time. So the signature is enough. It is forgotten after a while: a person who has
    GitHub deliver again, because something was down, is to be heard. Each process remembers for
    itself: what another one takes for new costs one look at the master.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._heeded = TTLCache[bytes, None](_REMEMBERED, _MEMORY_SECONDS, clock)

    def is_new(self, signature: bytes) -> bool:
        """Whether this one was not heeded lately. From now on it was."""
        if signature in self._heeded:
            return False
        self._heeded[signature] = None
        return True


@router.post("/webhooks/github", status_code=202)
async def webhook(request: Request) -> Response:
    """202: the master will be looked at soon, if need be. 401: not signed with our secret.

    What there is to do is done after the answer.
    """
    parts: Parts = request.app.state.parts
    deliveries: Deliveries = request.app.state.deliveries
    secret = parts.settings.github_webhook_secret
    if secret is None:
        raise HTTPException(403, "Webhooks are off: set GITHUB_WEBHOOK_SECRET.", _HANG_UP)
    payload = await _payload(request)
    signature = hmac.new(secret.get_secret_value().encode(), payload, hashlib.sha256)
    given = request.headers.get("x-hub-signature-256", "")
    if not hmac.compare_digest(f"sha256={signature.hexdigest()}".encode(), given.encode()):
        raise HTTPException(401, "The signature is not that of GITHUB_WEBHOOK_SECRET.")
    event = request.headers.get("x-github-event", "")
    if event == "ping":
        log.info("GitHub's webhook is set up")
    elif event == "push":
        push = read_push(payload, request.headers.get("content-type", ""))
        if push is None:
            log.warning("GitHub signed a push that cannot be read: the next sync finds it")
        elif push.moves(parts.gateway.master) and deliveries.is_new(signature.digest()):
            parts.gateway.request_sync(push.after)
    return Response(status_code=202)


def read_push(payload: bytes, content_type: str) -> Push | None:
    """The push that a payload tells of, in either form that GitHub sends. None if it is none."""
    try:
        if content_type.startswith(_FORM):
            [text] = parse_qs(payload.decode())["payload"]
            return Push.model_validate_json(text)
        return Push.model_validate_json(payload)
    except (ValueError, KeyError):
        return None


async def _payload(request: Request) -> bytes:
    """The raw body. Raises HTTPException when it is too large, too slow or cut off."""
    too_large = HTTPException(413, "The payload is larger than GitHub sends.", _HANG_UP)
    if int(request.headers.get("content-length", 0)) > _MAX_BYTES:
        raise too_large
    payload = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for chunk in request.stream():
                payload += chunk
                if len(payload) > _MAX_BYTES:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, "The payload did not arrive in time.", _HANG_UP) from None
    except ClientDisconnect:
        raise HTTPException(400, "The payload was cut off.") from None  # nobody is there to hear
    return bytes(payload)
