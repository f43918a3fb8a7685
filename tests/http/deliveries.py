"""Deliveries as GitHub sends them, and as others would."""

import hashlib
import hmac
import json
import uuid

from api.jobs import QUEUE
from tests.system import System
from tests.waiting import settled

SECRET = "It's a Secret to Everybody"
PATH = "/webhooks/github"


def push(
    after: object, *, ref: object = "refs/heads/main", name: object = "annoris/documents"
) -> bytes:
    """The payload of a push, as far as it is read."""
    return json.dumps({"ref": ref, "after": after, "repository": {"full_name": name}}).encode()


def signed(body: bytes, secret: str = SECRET, event: str = "push") -> dict[str, str]:
    """The headers of a delivery."""
    return {
        "Content-Type": "application/json",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-GitHub-Event": event,
        "X-Hub-Signature-256": f"sha256={digest(body, secret)}",
    }


def digest(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def deliver(system: System, body: bytes, headers: dict[str, str] | None = None) -> int:
    """The status of the answer."""
    async with system.http.post(
        f"{system.url}{PATH}", data=body, headers=headers or signed(body)
    ) as response:
        return response.status


async def rings(system: System) -> int:
    """The jobs that wait for a worker, when all is quiet."""
    await settled(system)
    assert system.parts.doorbell.redis
    return int(await system.parts.doorbell.redis.zcard(QUEUE))
