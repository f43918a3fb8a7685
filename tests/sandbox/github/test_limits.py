"""What one call and one hour may cost."""

import asyncio

import pytest

from sandbox.github import Fault, GitHub, Limits
from sandbox.github.limits import Meter
from tests.sandbox.github.client import Client

HISTORY = 'object(expression: "main") { ... on Commit { %s } }'


@pytest.mark.parametrize(
    ("field", "type_", "message"),
    [
        (
            "history { totalCount }",
            "MISSING_PAGINATION_BOUNDARIES",
            (
                "You must provide a `first` or `last` value to properly paginate the `history` "
                "connection."
            ),
        ),
        (
            "history(first: 101) { totalCount }",
            "EXCESSIVE_PAGINATION",
            (
                "Requesting 101 records on the `history` connection exceeds the `first` limit "
                "of 100 records."
            ),
        ),
        (
            'history(first: 1, after: "x") { totalCount }',
            "INVALID_CURSOR_ARGUMENTS",
            "`x` does not appear to be a valid cursor.",
        ),
        (
            "parents { totalCount }",
            "MISSING_PAGINATION_BOUNDARIES",
            (
                "You must provide a `first` or `last` value to properly paginate the `parents` "
                "connection."
            ),
        ),
    ],
)
async def test_connections_need_bounds(
    client: Client, field: str, type_: str, message: str
) -> None:
    answer = await client.repository(HISTORY % field)
    assert answer.error["type"] == type_
    assert answer.error["message"] == message
    assert answer.error["path"][:2] == ["repository", "object"]


async def test_more_than_500000_possible_nodes_are_refused(client: Client) -> None:
    inner = "history(first: 100) { nodes { parents(first: 100) { nodes { parents(first: 100) "
    answer = await client.repository(HISTORY % (inner + "{ totalCount } } } } }"))
    assert answer.error["type"] == "MAX_NODE_LIMIT_EXCEEDED"
    assert "data" not in answer.json


async def test_queries_without_connections_cost_one_point(client: Client) -> None:
    aliases = " ".join(f'o{n}: object(expression: "main") {{ oid }}' for n in range(100))
    answer = await client.ask(
        "{ rateLimit { cost limit remaining used nodeCount } "
        f'repository(owner: "annoris", name: "documents") {{ {aliases} }} }}'
    )
    assert answer.data["rateLimit"] == {
        "cost": 1,
        "limit": 5000,
        "remaining": 4999,
        "used": 1,
        "nodeCount": 0,
    }


async def test_connections_cost_a_point_per_hundred_requests(client: Client) -> None:
    """The documentation's own example, of 1 + 100 + 100 * 50 requests, costs 51."""
    nested = (
        "history(first: 100) { nodes { parents(first: 50) { nodes { parents(first: 1) "
        "{ nodes { oid } } } } } }"
    )
    answer = await client.ask(
        'query { rateLimit { cost nodeCount } repository(owner: "annoris", name: "documents") '
        f"{{ {HISTORY % nested} }} }}"
    )
    assert answer.data["rateLimit"] == {"cost": 51, "nodeCount": 100 + 5_000 + 5_000}


async def test_when_the_points_are_used_up_the_answer_is_an_error_without_data(
    client: Client, github: GitHub
) -> None:
    github.limits = Limits(points_per_hour=2)
    for _ in range(2):
        assert (await client.ask("{ viewer { login } }")).data
    answer = await client.ask("{ viewer { login } }")
    assert answer.status == 200
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert "data" not in answer.json
    assert answer.error["type"] == "RATE_LIMIT"
    assert answer.error["code"] == "graphql_rate_limit"
    assert answer.error["message"] == "API rate limit already exceeded for user ID 1001."


async def test_the_eighty_first_write_within_a_minute_is_refused(client: Client) -> None:
    for number in range(80):
        assert (await client.commit({"a.md": b"%d" % number})).commit_oid
    answer = await client.commit({"a.md": b"80"})
    assert answer.status == 403
    assert answer.headers["retry-after"] == "60"
    assert "errors" not in answer.json
    assert "secondary rate limit" in answer.json["message"]
    assert await client.head(), "reads go on"


async def test_requests_at_the_same_time_are_limited(client: Client, github: GitHub) -> None:
    github.limits = Limits(concurrent=2)
    slow = github.faults.add(Fault(kind="latency", ms=60_000, count=2))
    waiting = [asyncio.ensure_future(client.ask("{ viewer { login } }")) for _ in range(2)]
    await slow.wait_until_struck(2)
    assert (await client.ask("{ viewer { login } }")).status == 403
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


def test_windows_slide_and_the_hour_ends() -> None:
    now = 1_000.0
    meter = Meter(Limits(points_per_hour=10), clock=lambda: now)
    meter.budget("ann", "graphql").used = 10
    assert not meter.budget("ann", "graphql").affords(1)
    for _ in range(80):
        assert meter.secondary("ann", mutation=True) is None
    assert meter.secondary("ann", mutation=True) == "content"
    assert meter.secondary("bob", mutation=True) is None, "each user has an account"
    now += 61
    assert meter.secondary("ann", mutation=True) is None
    now += 3_600
    assert meter.budget("ann", "graphql").affords(10)


def test_a_request_with_a_mutation_weighs_five_points() -> None:
    limits = Limits(content_per_minute=None, content_per_hour=None)
    meter = Meter(limits, clock=lambda: 0.0)
    for _ in range(400):
        assert meter.secondary("ann", mutation=True) is None
    assert meter.secondary("ann", mutation=False) == "points"


def test_no_limit_is_reached_when_they_are_off() -> None:
    meter = Meter(Limits.off(), clock=lambda: 0.0)
    meter.budget("ann", "graphql").used = 1_000_000
    assert meter.budget("ann", "graphql").affords(1)
    assert all(meter.secondary("ann", mutation=True) is None for _ in range(10_000))
    assert all(meter.begin("ann") for _ in range(1_000))
