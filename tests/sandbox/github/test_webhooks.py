"""Push webhooks: signed, complete, sent for API commits and for pushes, and as unreliable as
real ones when asked.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sandbox.github import Fault, GitHub, Webhook
from sandbox.github.webhooks import signature
from tests.sandbox.github.client import Client, git

SECRET = "It's a Secret to Everybody"


@dataclass
class Receiver:
    """A server that notes what is delivered to it."""

    url: str = ""
    status: int = 202
    events: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self, request: web.Request) -> web.Response:
        self.events.append((dict(request.headers), await request.read()))
        self._arrived.set()
        return web.Response(status=self.status)

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.events) < count:
                self._arrived.clear()
                await self._arrived.wait()

    @property
    def pushes(self) -> list[dict[str, Any]]:
        return [json.loads(body) for headers, body in self.events if is_push(headers)]


def is_push(headers: dict[str, str]) -> bool:
    return headers["X-GitHub-Event"] == "push"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    application = web.Application(client_max_size=2**26)
    application.add_routes([web.post("/hook", receiver.receive)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def hooked(github: GitHub, receiver: Receiver) -> GitHub:
    """The stand-in with a webhook whose ping has arrived and is forgotten."""
    github.webhook = Webhook(receiver.url, SECRET)
    await receiver.wait_for(1)
    await github.webhooks.idle()
    receiver.events.clear()
    return github


def test_signatures_are_those_of_githubs_documentation() -> None:
    assert signature(SECRET, b"Hello, World!") == (
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    )


async def test_a_new_webhook_is_greeted_with_a_ping(github: GitHub, receiver: Receiver) -> None:
    github.webhook = Webhook(receiver.url)
    await receiver.wait_for(1)
    headers, body = receiver.events[0]
    assert headers["X-GitHub-Event"] == "ping"
    assert "X-Hub-Signature-256" not in headers, "nothing to sign with"
    assert json.loads(body)["hook"]["config"]["url"] == receiver.url


async def test_an_api_commit_is_announced_and_signed(
    client: Client, hooked: GitHub, receiver: Receiver
) -> None:
    before = hooked.head
    oid = (await client.commit({"a.md": b"1", "README.md": b"2"}, ["tools/run.sh"])).commit_oid
    await receiver.wait_for(1)
    headers, body = receiver.events[0]
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Hub-Signature-256"] == f"sha256={digest}"
    assert headers["X-Hub-Signature"].startswith("sha1=")
    assert headers["X-GitHub-Event"] == "push"
    assert headers["X-GitHub-Delivery"]
    assert headers["X-GitHub-Hook-ID"]
    assert headers["User-Agent"].startswith("GitHub-Hookshot/")
    assert headers["Content-Type"] == "application/json"
    (push,) = receiver.pushes
    assert (push["ref"], push["before"], push["after"]) == ("refs/heads/main", before, oid)
    assert (push["created"], push["deleted"], push["forced"]) == (False, False, False)
    assert push["repository"]["full_name"] == "annoris/documents"
    assert push["pusher"]["name"] == "annoris-sandbox"
    assert push["head_commit"]["id"] == oid
    (commit,) = push["commits"]
    assert commit["message"] == "Write\n\nbecause"
    assert commit["added"] == ["a.md"]
    assert commit["removed"] == ["tools/run.sh"]
    assert commit["modified"] == ["README.md"]
    assert commit["author"]["username"] == "annoris-sandbox"
    assert "action" not in push


async def test_a_push_over_http_is_announced_with_its_commits_in_order(
    hooked: GitHub, receiver: Receiver, tmp_path: Path
) -> None:
    before = hooked.head
    clone = await cloned(hooked, tmp_path)
    for name in ("one", "two"):
        (clone / f"{name}.md").write_text(name)
        await git(clone, "add", ".")
        await git(clone, "commit", "-q", "-m", name)
    await git(clone, "push", "-q")
    await receiver.wait_for(1)
    await hooked.webhooks.idle()
    (push,) = receiver.pushes
    assert (push["before"], push["after"]) == (before, hooked.head)
    assert [commit["message"] for commit in push["commits"]] == ["one\n", "two\n"]
    assert [commit["added"] for commit in push["commits"]] == [["one.md"], ["two.md"]]


async def test_a_push_past_the_server_is_noticed(
    hooked: GitHub, receiver: Receiver, path: Path, tmp_path: Path
) -> None:
    await git(tmp_path, "clone", "-q", str(path), "clone")
    clone = tmp_path / "clone"
    await git(clone, "commit", "-q", "--allow-empty", "-m", "direct")
    await git(clone, "push", "-q")
    await receiver.wait_for(1)
    assert receiver.pushes[0]["after"] == hooked.head


async def test_creation_force_push_and_deletion_are_told_apart(
    hooked: GitHub, receiver: Receiver, tmp_path: Path
) -> None:
    clone = await cloned(hooked, tmp_path)
    await git(clone, "checkout", "-q", "-b", "side")
    await git(clone, "commit", "-q", "--allow-empty", "-m", "one")
    await git(clone, "push", "-q", "origin", "side")
    await receiver.wait_for(1)
    await git(clone, "commit", "-q", "--amend", "--allow-empty", "-m", "other")
    await git(clone, "push", "-q", "-f", "origin", "side")
    await receiver.wait_for(2)
    await git(clone, "push", "-q", "origin", ":side")
    await receiver.wait_for(3)
    created, forced, deleted = receiver.pushes
    assert created["created"]
    assert created["before"] == "0" * 40
    assert len(created["commits"]) == 1
    assert forced["forced"]
    assert forced["before"] == created["after"]
    assert deleted["deleted"]
    assert deleted["after"] == "0" * 40
    assert deleted["commits"] == []
    assert deleted["head_commit"] is None


async def test_deliveries_can_be_dropped_and_redelivered_under_the_same_guid(
    client: Client, hooked: GitHub, receiver: Receiver
) -> None:
    hooked.faults.add(Fault(kind="webhook_drop"))
    await client.commit({"a.md": b"1"})
    await hooked.webhooks.idle()
    assert receiver.events == []
    async with client.session.get(f"{hooked.url}/_control/deliveries") as response:
        (*_, delivery) = await response.json()
    assert delivery["delivered"] is False
    address = f"{hooked.url}/_control/deliveries/{delivery['guid']}/attempts"
    for _ in range(2):
        async with client.session.post(address) as response:
            assert (await response.json())["delivered"] is True
    assert [headers["X-GitHub-Delivery"] for headers, _ in receiver.events] == [
        delivery["guid"]
    ] * 2
    assert receiver.events[0][1] == receiver.events[1][1]


async def test_deliveries_can_be_duplicated_and_reordered(
    client: Client, hooked: GitHub, receiver: Receiver
) -> None:
    hooked.faults.add(Fault(kind="webhook_duplicate"))
    await client.commit({"a.md": b"1"})
    await receiver.wait_for(2)
    assert len({headers["X-GitHub-Delivery"] for headers, _ in receiver.events}) == 1
    receiver.events.clear()

    hooked.faults.add(Fault(kind="webhook_reorder"))
    first = (await client.commit({"a.md": b"2"})).commit_oid
    await hooked.webhooks.idle()
    second = (await client.commit({"a.md": b"3"})).commit_oid
    await receiver.wait_for(2)
    assert [push["after"] for push in receiver.pushes] == [second, first]


async def test_a_delayed_delivery_does_not_hold_up_the_stop(
    client: Client, hooked: GitHub, receiver: Receiver
) -> None:
    hooked.faults.add(Fault(kind="webhook_delay", ms=600_000))
    await client.commit({"a.md": b"1"})
    await hooked.stop()
    assert receiver.events == []


async def test_a_receiver_that_is_away_is_noted_and_nothing_else_happens(
    client: Client, hooked: GitHub
) -> None:
    hooked.webhook = Webhook("http://127.0.0.1:9/nobody")
    await client.commit({"a.md": b"1"})
    await hooked.webhooks.idle()
    attempts = hooked.webhooks.deliveries[-1].attempts
    assert [attempt.status for attempt in attempts] == [None]
    assert "failed to connect" in attempts[0].note


async def cloned(github: GitHub, tmp_path: Path) -> Path:
    await git(tmp_path, "clone", "-q", github.clone_url, "clone")
    return tmp_path / "clone"
