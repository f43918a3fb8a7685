"""The webhook's door: only what GitHub signed is heeded, once, and nothing is believed."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http import webhook
from api.http.webhook import Deliveries, read_push
from sandbox.github import Fault, GitHub, Webhook
from sandbox.postgres import Postgres
from sandbox.redis import Redis
from tests.clone import Clone, git
from tests.freezing import frozen
from tests.http.deliveries import PATH, SECRET, deliver, digest, push, rings, signed
from tests.sync.oracle import assert_equals_master
from tests.system import System, running
from tests.waiting import cached_commit, reaches, settled, until
from tests.writes.asking import NO_OID, ROOM, write

ELSEWHERE = "1" * 40  # a commit that the cache is not at
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    """A Redis that may be frozen, and that no other test rings in."""
    async with Redis() as server:
        yield server


@pytest.fixture
async def system(github: GitHub, database_url: str, redis: Redis) -> AsyncIterator[System]:
    """A gateway that rings for a worker; none is there to take the jobs away."""
    environment = {"REDIS_URL": redis.url, "GITHUB_WEBHOOK_SECRET": SECRET}
    async with running(github, database_url, environment) as gateway:
        await gateway.sync()
        yield gateway


@pytest.fixture
async def alone(github: GitHub, database_url: str) -> AsyncIterator[System]:
    """A gateway without Redis, which does itself what is to be done."""
    async with running(github, database_url, {"GITHUB_WEBHOOK_SECRET": SECRET}) as gateway:
        await gateway.sync()
        yield gateway


@asynccontextmanager
async def connected(
    system: System,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = system.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


def test_the_signature_is_the_one_of_githubs_documentation() -> None:
    assert digest(b"Hello, World!") == (
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    )


PUSH = push(ELSEWHERE)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (PUSH, signed(PUSH), 202),
        (b"{", signed(b"{"), 202),
        (b"[1]", signed(b"[1]"), 202),
        (b"\xff", signed(b"\xff"), 202),
        (b"", signed(b""), 202),
        (PUSH, signed(PUSH, "another"), 401),
        (PUSH, {"X-GitHub-Event": "push"}, 401),
        (PUSH, {"X-Hub-Signature-256": "sha256=é"}, 401),
        (PUSH, {"X-Hub-Signature-256": digest(PUSH)}, 401),
        (PUSH, {"X-Hub-Signature-256": f"sha256={digest(PUSH).upper()}"}, 401),
        (PUSH + b" ", signed(PUSH), 401),
    ],
)
async def test_only_what_github_signed_is_taken(
    system: System, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert await deliver(system, body, headers) == status

    assert bool(await rings(system)) == (body == PUSH and status == 202)


async def test_without_a_secret_every_delivery_is_refused(
    github: GitHub, database_url: str
) -> None:
    async with running(github, database_url) as system:
        assert await deliver(system, PUSH) == 403


async def test_a_form_is_read_like_json_and_signed_as_it_was_sent(system: System) -> None:
    body = urlencode({"payload": PUSH.decode()}).encode()

    assert await deliver(system, body, signed(body) | {"Content-Type": FORM}) == 202
    assert await deliver(system, body, signed(PUSH) | {"Content-Type": FORM}) == 401

    assert await rings(system) == 1


async def test_names_of_repositories_are_compared_without_case_as_github_does(
    system: System,
) -> None:
    await deliver(system, push(ELSEWHERE, name="Annoris/DOCUMENTS"))

    assert await rings(system) == 1


@pytest.mark.parametrize(
    "body",
    [
        push(ELSEWHERE, ref="refs/heads/x"),
        push(ELSEWHERE, ref="refs/heads/MAIN"),
        push(ELSEWHERE, ref="refs/heads/x/main"),
        push(ELSEWHERE, ref="refs/tags/main"),
        push(ELSEWHERE, name="annoris/documents-of-others"),
        push(ELSEWHERE, name="other/documents"),
    ],
)
async def test_pushes_to_other_branches_and_repositories_ring_nobody(
    system: System, body: bytes
) -> None:
    assert await deliver(system, body) == 202

    assert await rings(system) == 0


@pytest.mark.parametrize("event", ["ping", "create", "", "PUSH"])
async def test_other_events_ring_nobody(system: System, event: str) -> None:
    assert await deliver(system, PUSH, signed(PUSH, event=event)) == 202

    assert await rings(system) == 0


async def test_the_greeting_of_a_new_webhook_is_noted(
    system: System, github: GitHub, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        github.webhook = Webhook(f"{system.url}{PATH}", SECRET)
        await github.webhooks.idle()

    assert "webhook is set up" in caplog.text
    assert github.webhooks.deliveries[0].attempts[0].status == 202


async def test_a_deleted_branch_is_looked_at_and_the_cache_stays_as_it_is(
    alone: System, github: GitHub, caplog: pytest.LogCaptureFixture
) -> None:
    head = github.head
    git(github.path, "branch", "-m", "main", "renamed")

    async def noticed() -> bool:
        return "The branch main does not exist" in caplog.text

    await deliver(alone, push(NO_OID))
    await until(noticed, "the branch is missed")

    assert await cached_commit(alone) == head


# Once


async def test_a_delivery_sent_again_rings_nobody_under_its_own_id_or_a_fresh_one(
    system: System,
) -> None:
    headers = signed(PUSH)
    await deliver(system, PUSH, headers)
    assert await rings(system) == 1
    assert system.parts.doorbell.redis
    await system.parts.doorbell.redis.flushdb()

    assert await deliver(system, PUSH, headers) == 202
    assert await deliver(system, PUSH, signed(PUSH)) == 202

    assert await rings(system) == 0


def test_a_delivery_is_heard_again_after_ten_minutes_because_a_person_may_have_asked() -> None:
    now = 0.0
    deliveries = Deliveries(lambda: now)
    assert deliveries.is_new(b"one")

    now = 599.0
    assert not deliveries.is_new(b"one")
    now = 601.0
    assert deliveries.is_new(b"one")


def test_the_memory_of_deliveries_is_bounded() -> None:
    deliveries = Deliveries()

    for number in range(20_000):
        assert deliveries.is_new(number.to_bytes(32))

    assert not deliveries.is_new((19_999).to_bytes(32))
    assert deliveries.is_new((0).to_bytes(32)), "the oldest are forgotten first"
    assert len(deliveries._heeded) == 10_000


async def test_what_is_refused_or_ignored_is_not_remembered(system: System) -> None:
    await deliver(system, PUSH, signed(PUSH, "another"))
    await deliver(system, PUSH, signed(PUSH, event="create"))

    await deliver(system, PUSH)

    assert await rings(system) == 1


# Our own commits, and those that the cache has


async def test_a_push_of_the_commit_that_the_cache_is_at_rings_nobody(system: System) -> None:
    written = await write(system, "updateProject", id=ROOM, status="resting")
    assert written["cache"] == "UPDATED"

    assert await deliver(system, push(written["commit"]["oid"])) == 202

    assert await rings(system) == 0


async def test_our_own_commit_asks_nothing_of_github(alone: System) -> None:
    written = await write(alone, "updateProject", id=ROOM, status="resting")
    requests = alone.requests

    await deliver(alone, push(written["commit"]["oid"]))
    await settled(alone)

    assert alone.requests == requests


async def test_a_branch_that_is_set_back_to_a_commit_of_the_ledger_is_looked_at(
    system: System, clone: Clone
) -> None:
    before = system.github.head or ""
    clone.push({"autosaves/pushed.md": "# Pushed\n"})
    await system.sync()
    clone.reset(before)

    await deliver(system, push(before))

    assert await rings(system) == 1


async def test_when_postgresql_cannot_tell_the_worker_is_rung(
    github: GitHub, postgres: Postgres, redis: Redis
) -> None:
    environment = {"REDIS_URL": redis.url, "GITHUB_WEBHOOK_SECRET": SECRET}
    async with running(github, postgres.url, environment) as system:
        await system.sync()
        await postgres.kill()

        await deliver(system, push(system.github.head))

        assert await rings(system) == 1


async def test_an_empty_cache_is_filled(github: GitHub, database_url: str) -> None:
    async with running(github, database_url, {"GITHUB_WEBHOOK_SECRET": SECRET}) as system:
        await deliver(system, push(github.head))
        await settled(system)

        assert await cached_commit(system) == github.head


# A hint and no more


async def test_a_late_delivery_of_an_older_commit_moves_nothing_back(
    alone: System, clone: Clone
) -> None:
    older = clone.push({"autosaves/one.md": "# One\n"})
    newer = clone.push({"autosaves/two.md": "# Two\n"})

    await deliver(alone, push(newer))
    await settled(alone)
    await deliver(alone, push(older))
    await settled(alone)

    assert await cached_commit(alone) == newer


async def test_a_commit_that_does_not_exist_does_no_harm(alone: System) -> None:
    await deliver(alone, push("not a commit \0"))
    await settled(alone)

    assert await cached_commit(alone) == alone.github.head


async def test_what_a_lost_delivery_was_to_tell_comes_with_the_next(
    alone: System, github: GitHub, clone: Clone
) -> None:
    github.webhook = Webhook(f"{alone.url}{PATH}", SECRET)
    await github.webhooks.idle()
    lost = github.faults.add(Fault(kind="webhook_drop"))
    await asyncio.to_thread(clone.push, {"autosaves/one.md": "# One\n"})
    await lost.wait_until_struck()

    newest = await asyncio.to_thread(clone.push, {"autosaves/two.md": "# Two\n"})

    await until(reaches(alone, newest), "the push has arrived")
    await assert_equals_master(alone.parts.gateway.cache, github.path, alone.parts.gateway.layout)


async def test_the_answer_waits_for_none_of_the_stores(
    github: GitHub, postgres: Postgres, redis: Redis
) -> None:
    environment = {"REDIS_URL": redis.url, "GITHUB_WEBHOOK_SECRET": SECRET}
    async with running(github, postgres.url, environment) as system:
        await system.sync()
        github.faults.add(Fault(kind="hang", count=None))
        with frozen(postgres), frozen(redis):
            assert await deliver(system, PUSH) == 202


# What is not read


async def test_a_payload_that_is_announced_as_too_large_is_refused_before_a_byte_is_read(
    system: System,
) -> None:
    async with connected(system) as (reader, writer):
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 26214401\r\n\r\n".encode()
        )

        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in answer, "else the server reads on, for nothing"


async def test_a_payload_that_is_not_announced_is_not_read_beyond_its_limit(
    system: System,
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b"x" * 1_000_000

    try:
        async with system.http.post(f"{system.url}{PATH}", data=endless()) as response:
            assert response.status == 413
    except aiohttp.ClientOSError:
        pass  # it hung up while we still sent


async def test_a_payload_as_large_as_github_sends_is_taken(system: System) -> None:
    body = PUSH + b" " * (25 * 1024 * 1024 - len(PUSH))

    assert await deliver(system, body) == 202

    assert await rings(system) == 1


@pytest.mark.parametrize(
    "framing", ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"]
)
async def test_a_payload_that_does_not_end_is_not_waited_for_for_ever(
    system: System, framing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_SECONDS", 0.1)
    async with connected(system) as (reader, writer):
        writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{framing}".encode())

        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close\r\n" in answer


async def test_a_payload_that_is_cut_off_is_no_error_of_ours(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(system) as (_, writer):
        writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        await writer.drain()

    assert await deliver(system, PUSH) == 202
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# Whatever the payload is

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
broken_pushes = st.fixed_dictionaries(
    {},
    optional={
        "ref": json_values,
        "after": json_values,
        "repository": json_values | st.dictionaries(st.just("full_name"), json_values),
    },
)


@given(st.binary() | (json_values | broken_pushes).map(lambda value: json.dumps(value).encode()))
def test_a_payload_is_a_push_or_none_and_never_an_error(payload: bytes) -> None:
    for content_type in ("application/json", FORM, ""):
        read_push(payload, content_type)
        read_push(b"payload=" + payload, content_type)
        read_push(b"payload=" + quote(payload).encode(), content_type)


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_both_forms_of_a_payload_say_the_same(after: str, ref: str, name: str) -> None:
    payload = push(after, ref=ref, name=name)

    read = read_push(payload, "application/json")

    assert read
    assert (read.after, read.ref, read.repository.full_name) == (after, ref, name)
    assert read == read_push(urlencode({"payload": payload.decode()}).encode(), FORM)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 1_000_000,
        b'{"repository": ' * 100_000,
        b'{"ref": "refs/heads/main", "after": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"9" * 1_000_000,
        b'{"ref": ' + b"9" * 100_000 + b"}",
        b'{"ref": "\\ud800", "after": "x", "repository": {"full_name": "\\udfff"}}',
        b'{"ref": "a", "after": "b", "repository": {"full_name": "c"}}' * 2,
        b"\xef\xbb\xbf{}",
        b"payload=" * 10_000,
        b"%" * 10_000,
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", FORM])
def test_what_is_built_to_break_a_reader_is_no_push(payload: bytes, content_type: str) -> None:
    assert read_push(payload, content_type) is None
