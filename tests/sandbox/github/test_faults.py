"""Each fault, over the wire: what the client sees, and what is true at the repository."""

import asyncio
import hashlib
import time

import aiohttp
import pytest
from pydantic import ValidationError

from sandbox.github import Fault, GitHub, control
from sandbox.github.faults import STRIKES, Faults, Target
from tests.sandbox.github.client import Client

VIEWER = "{ viewer { login } }"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_502_page_may_hide_a_commit_that_landed(
    client: Client, github: GitHub, when: str
) -> None:
    before = github.head
    github.faults.add(Fault(kind="bad_gateway", when=when))
    async with client.session.post(
        f"{github.url}/graphql", json={"query": VIEWER}, headers=client.headers()
    ) as response:
        assert response.status == 502
        assert response.content_type == "text/html"
        assert "x-ratelimit-limit" not in response.headers
    github.faults.add(Fault(kind="bad_gateway", when=when, operation="mutation"))
    with pytest.raises(aiohttp.ContentTypeError):
        await client.commit({"a.md": b"1"})
    assert (github.head != before) is (when == "after")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_dropped_connection_may_hide_a_commit_that_landed(
    client: Client, github: GitHub, when: str
) -> None:
    before = github.head
    github.faults.add(Fault(kind="dropped", when=when))
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.commit({"a.md": b"1"})
    assert (github.head != before) is (when == "after")
    assert (await client.commit({"b.md": b"1"})).commit_oid, "it struck once"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_timeout_is_a_504_with_a_json_body(
    client: Client, github: GitHub, when: str
) -> None:
    before = github.head
    github.faults.add(Fault(kind="gateway_timeout", when=when))
    answer = await client.commit({"a.md": b"1"})
    assert answer.status == 504
    assert answer.json["message"].startswith("We couldn't respond to your request in time.")
    assert (github.head != before) is (when == "after")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("status", [200, 502])
async def test_something_went_wrong_has_no_type(
    client: Client, github: GitHub, when: str, status: int
) -> None:
    before = github.head
    github.faults.add(Fault(kind="something_wrong", when=when, status=status))
    answer = await client.commit({"a.md": b"1"})
    assert answer.status == status
    assert answer.data is None
    assert "type" not in answer.error
    assert answer.error["message"].startswith("Something went wrong while executing your query")
    assert answer.headers["x-github-request-id"] in answer.error["message"]
    assert (github.head != before) is (when == "after")


@pytest.mark.parametrize("spelling", ["RATE_LIMIT", "RATE_LIMITED"])
async def test_the_primary_limit_in_both_spellings(
    client: Client, github: GitHub, spelling: str
) -> None:
    github.faults.add(Fault(kind="rate_limit", type=spelling))
    answer = await client.ask(VIEWER)
    assert answer.status == 200
    assert "data" not in answer.json
    assert answer.error["type"] == spelling
    assert "rate limit" in answer.error["message"]
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert (await client.ask(VIEWER)).headers["x-ratelimit-remaining"] != "0"


@pytest.mark.parametrize(("status", "retry_after"), [(403, 60), (403, None), (200, 30), (429, 1)])
async def test_the_secondary_limit_with_and_without_retry_after(
    client: Client, github: GitHub, status: int, retry_after: int | None
) -> None:
    github.faults.add(Fault(kind="secondary_rate_limit", status=status, retry_after=retry_after))
    answer = await client.ask(VIEWER)
    assert answer.status == status
    assert answer.headers.get("retry-after") == (str(retry_after) if retry_after else None)
    assert set(answer.json) == {"documentation_url", "message"}
    assert answer.json["message"].startswith("You have exceeded a secondary rate limit.")


async def test_latency_is_added_and_drawn_from_a_seed(client: Client, github: GitHub) -> None:
    github.faults.add(Fault(kind="latency", ms=30))
    started = time.monotonic()
    await client.ask(VIEWER)
    assert time.monotonic() - started >= 0.03
    same = [Fault(kind="latency", ms=1, max_ms=9, seed=4) for _ in range(2)]
    drawn = [[fault.duration() for _ in range(20)] for fault in same]
    assert drawn[0] == drawn[1]
    assert 0.001 <= min(drawn[0]) < max(drawn[0]) <= 0.009


async def test_a_server_that_stops_lets_waiting_requests_go(client: Client, github: GitHub) -> None:
    hang = github.faults.add(Fault(kind="hang"))
    asking = asyncio.ensure_future(client.ask(VIEWER))
    await hang.wait_until_struck()
    started = time.monotonic()
    await github.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await asking
    assert time.monotonic() - started < 3


async def test_a_lagging_replica_knows_nothing_of_later_commits(
    client: Client, github: GitHub
) -> None:
    old = await client.head()
    github.faults.add(Fault(kind="lagging_head", count=None))
    fresh = (await client.commit({"a.md": b"1"})).commit_oid
    assert github.head == fresh
    assert await client.head() == old
    assert await client.text("a.md", rev="main") is None
    answer = await client.repository(f'object(oid: "{fresh}") {{ oid }}')
    assert answer.repository["object"] is None
    answer = await client.commit({"b.md": b"1"}, head=fresh)
    assert answer.error["type"] == "NOT_FOUND"
    assert answer.error["message"] == f"No commit exists with specified expectedHeadOid '{fresh}'."
    github.faults.clear()
    assert await client.head() == fresh
    assert (await client.commit({"b.md": b"1"}, head=fresh)).commit_oid


async def test_a_replica_may_lag_by_requests_or_by_time(client: Client, github: GitHub) -> None:
    old = await client.head()
    github.faults.add(Fault(kind="lagging_head", count=2, operation="query"))
    fresh = (await client.commit({"a.md": b"1"})).commit_oid
    assert [await client.head() for _ in range(3)] == [old, old, fresh]
    github.faults.add(Fault(kind="lagging_head", ms=60_000, count=None))
    newer = (await client.commit({"a.md": b"2"}, head=fresh)).errors
    assert newer, "even the expected head is unknown to a replica that is a minute behind"
    assert await client.head() == old


async def test_corrupted_text_does_not_hash_to_its_oid(client: Client, github: GitHub) -> None:
    query = 'object(expression: "main:README.md") { oid ... on Blob { text byteSize } }'
    for mode in ("truncated", "corrupted"):
        github.faults.add(Fault(kind="corrupted_blob", mode=mode))
        await client.head()
        blob = (await client.repository(query)).repository["object"]
        data = blob["text"].encode()
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324 - git's
        assert oid != blob["oid"]
        assert (len(data) == blob["byteSize"]) is (mode == "corrupted")


async def test_a_commit_may_land_beside_an_error(client: Client, github: GitHub) -> None:
    github.faults.add(Fault(kind="partial"))
    answer = await client.commit({"a.md": b"1"})
    assert answer.data["createCommitOnBranch"]["commit"]["oid"] == github.head
    assert answer.error["type"] == "FORBIDDEN"
    assert answer.error["path"] == ["createCommitOnBranch", "commit", "signature", "signer"]


async def test_a_revoked_token_is_bad_credentials(client: Client, github: GitHub) -> None:
    github.faults.add(Fault(kind="bad_credentials", count=None))
    assert (await client.ask(VIEWER)).json["message"] == "Bad credentials"


async def test_a_repository_may_vanish_be_renamed_or_archived(
    client: Client, github: GitHub
) -> None:
    missing = github.faults.add(Fault(kind="repository_missing", count=None))
    answer = await client.ask('{ repository(owner: "annoris", name: "documents") { id } }')
    assert answer.error["type"] == "NOT_FOUND"
    github.faults.clear(missing)

    renamed = github.faults.add(Fault(kind="repository_renamed", name="annoris/new", count=None))
    assert (await client.repository("nameWithOwner")).repository["nameWithOwner"] == "annoris/new"
    answer = await client.ask(
        '{ repository(owner: "annoris", name: "documents", followRenames: false) { id } }'
    )
    assert answer.error["type"] == "NOT_FOUND"
    github.faults.clear(renamed)

    github.faults.add(Fault(kind="repository_archived", count=None))
    assert (await client.repository("isArchived")).repository["isArchived"] is True
    assert (await client.commit({"a.md": b"1"})).data == {"createCommitOnBranch": None}


async def test_any_other_error_can_be_made_up(client: Client, github: GitHub) -> None:
    github.faults.add(Fault(kind="graphql_error", type="BRAND_NEW", message="Never seen"))
    answer = await client.ask(VIEWER)
    assert answer.error == {"type": "BRAND_NEW", "message": "Never seen"}
    github.faults.add(Fault(kind="resource_limits"))
    answer = await client.ask(VIEWER)
    assert answer.error["type"] == "RESOURCE_LIMITS_EXCEEDED"


# --- which requests a fault strikes ---------------------------------------------------------


def strikes(fault: Fault, targets: list[Target]) -> list[bool]:
    faults = Faults()
    faults.add(fault)
    return [faults.draw(target).take(fault.kind) is not None for target in targets]


def test_a_fault_strikes_once_unless_told_otherwise() -> None:
    query = Target("query")
    assert strikes(Fault(kind="dropped"), [query] * 3) == [True, False, False]
    assert strikes(Fault(kind="dropped", count=2), [query] * 3) == [True, True, False]
    assert strikes(Fault(kind="dropped", count=None), [query] * 3) == [True] * 3
    assert strikes(Fault(kind="dropped", for_ms=0), [query]) == [False]


def test_a_fault_is_addressed_by_kind_of_request_name_token_and_number() -> None:
    targets = [
        Target("query", "Head", "t1"),
        Target("mutation", "Commit", "t1"),
        Target("query", "Tree", "t2"),
    ]
    assert strikes(Fault(kind="dropped", operation="mutation"), targets) == [False, True, False]
    assert strikes(Fault(kind="dropped", operation_name="Tree"), targets) == [False, False, True]
    assert strikes(Fault(kind="dropped", token="t2"), targets) == [False, False, True]
    assert strikes(Fault(kind="dropped", nth=2), targets) == [False, True, False]
    assert strikes(Fault(kind="ref_moved"), targets) == [False, True, False]


def test_chance_is_seeded() -> None:
    targets = [Target("query")] * 200
    half = Fault(kind="dropped", probability=0.5, seed=1, count=None)
    again = Fault(kind="dropped", probability=0.5, seed=1, count=None)
    struck = strikes(half, targets)
    assert struck == strikes(again, targets)
    assert 60 < sum(struck) < 140


def test_a_fault_that_can_never_strike_is_refused() -> None:
    with pytest.raises(ValidationError, match="cannot strike"):
        Fault(kind="ref_moved", operation="query")


# --- the control endpoint -------------------------------------------------------------------


async def test_faults_are_driven_over_http(client: Client, github: GitHub) -> None:
    control = f"{github.url}/_control"
    wanted = [{"kind": "bad_gateway", "operation": "query"}, {"kind": "latency", "ms": 1}]
    async with client.session.post(f"{control}/faults", json=wanted) as response:
        ids = [one["id"] for one in await response.json()]
    async with client.session.get(f"{control}/faults") as response:
        assert [one["id"] for one in await response.json()] == ids
    assert sorted(fault.kind for fault in github.faults) == ["bad_gateway", "latency"]
    async with client.session.delete(f"{control}/faults/{ids[1]}") as response:
        assert response.status == 204
    assert [fault.kind for fault in github.faults] == ["bad_gateway"]
    async with client.session.delete(f"{control}/faults") as response:
        assert response.status == 204
    assert list(github.faults) == []
    async with client.session.post(f"{control}/faults", json={"kind": "nope"}) as response:
        assert response.status == 400
        assert (await response.json())["errors"]


async def test_requests_are_counted_by_kind(client: Client, github: GitHub) -> None:
    await client.head()
    await client.commit({"a.md": b"1"})
    await client.ask("{ nope }")
    assert github.requests.counts == {"query": 1, "mutation": 1, "invalid": 1}
    assert [one.operation_name for one in github.requests] == ["Head", "Commit", None]
    async with client.session.get(f"{github.url}/_control/requests?last=1") as response:
        shown = await response.json()
    assert shown["counts"] == {"query": 1, "mutation": 1, "invalid": 1}
    assert len(shown["latest"]) == 1
    github.requests.clear()
    assert github.requests.count() == 0


async def test_limits_are_set_over_http(client: Client, github: GitHub) -> None:
    async with client.session.put(
        f"{github.url}/_control/limits", json={"off": True, "concurrent": 7}
    ) as response:
        assert response.status == 200
    assert github.limits.concurrent == 7
    assert github.limits.content_per_minute is None


def test_control_documents_every_kind_and_every_field() -> None:
    text = control.__doc__ or ""
    assert [name for name in (*STRIKES, *Fault.model_fields) if name not in text] == []
