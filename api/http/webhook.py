"""POST /webhooks/github: GitHub tells of pushes. A hint to look, never a fact to rely on."""

import hashlib
import hmac
import logging

import orjson
from fastapi import APIRouter, Request, Response

from api.wiring import Parts

router = APIRouter()
log = logging.getLogger(__name__)

_MAX_BYTES = 25 * 1024 * 1024  # GitHub sends no larger payload


@router.post("/webhooks/github")
async def webhook(request: Request) -> Response:
    """202: the master will be looked at soon. 401: not signed with GITHUB_WEBHOOK_SECRET."""
    parts: Parts = request.app.state.parts
    secret = parts.settings.github_webhook_secret
    if secret is None:
        return Response("Webhooks are off: set GITHUB_WEBHOOK_SECRET.", 403)
    body = await _read(request)
    if body is None:
        return Response("The payload is larger than GitHub sends.", 413)
    expected = hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()
    given = request.headers.get("x-hub-signature-256", "")
    if not hmac.compare_digest(f"sha256={expected}".encode(), given.encode()):
        return Response("The signature is not that of GITHUB_WEBHOOK_SECRET.", 401)
    if request.headers.get("x-github-event") == "push" and _concerns_us(body, parts):
        parts.gateway.request_sync()
    return Response(status_code=202)


async def _read(request: Request) -> bytes | None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            return None
    return bytes(body)


def _concerns_us(body: bytes, parts: Parts) -> bool:
    try:
        push = orjson.loads(body)
        repository, ref = push["repository"]["full_name"], push["ref"]
    except (ValueError, TypeError, KeyError):
        return False
    master = parts.gateway.master
    return bool(repository == master.repository and ref == master.ref)
