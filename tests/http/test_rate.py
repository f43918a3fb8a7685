"""A caller asks as often as the limit says, through however many processes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from time import monotonic
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.access import Scope, new_key
from api.http.rate import Rate
from sandbox.github import GitHub
from sandbox.redis import Redis
from tests.freezing import frozen
from tests.system import System, running

MINUTE = 60


class Shared:
    """What Redis does, and now and then does not."""

    def __init__(self) -> None:
        self.counted = Counter[str]()
        self.is_there = True

    async def count(self, name: str, amount: int, _seconds: int) -> int | None:
        await asyncio.sleep(0)
        if not self.is_there:
            return None
        self.counted[name] += amount
        return self.counted[name]


async def admitted(rates: list[Rate], steps: list[tuple[int, int]]) -> int:
    """Of (process, requests at once): how many may come."""
    waits = [
        wait
        for process, requests in steps
        for wait in await asyncio.gather(
            *(rates[process % len(rates)].seconds_to_wait("claude") for _ in range(requests))
        )
    ]
    return waits.count(0)


@given(
    most=st.integers(1, 200),
    processes=st.integers(1, 4),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), max_size=30),
)
async def test_all_processes_together_admit_no_more_than_the_limit_and_little_less(
    most: int, processes: int, steps: list[tuple[int, int]]
) -> None:
    shared = Shared()
    rates = [Rate(most, shared.count, lambda: 1_000.0) for _ in range(processes)]

    found = await admitted(rates, steps)

    asked = sum(requests for _, requests in steps)
    assert found <= most
    assert found >= min(asked, most - (processes - 1) * -(-most // 20))


@given(
    most=st.integers(1, 200),
    steps=st.lists(st.tuples(st.just(0), st.integers(1, 50)), max_size=30),
    there=st.booleans(),
)
async def test_alone_a_process_admits_just_what_the_limit_says(
    most: int, steps: list[tuple[int, int]], there: bool
) -> None:
    shared = Shared()
    shared.is_there = there

    found = await admitted([Rate(most, shared.count, lambda: 1_000.0)], steps)

    assert found == min(most, sum(requests for _, requests in steps))


@given(
    most=st.integers(1, 200),
    prices=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 300)), max_size=60),
    processes=st.integers(1, 3),
)
async def test_what_is_dear_counts_for_as_many_requests_or_for_none_at_all(
    most: int, prices: list[tuple[int, int]], processes: int
) -> None:
    shared = Shared()
    rates = [Rate(most, shared.count, lambda: 1_000.0) for _ in range(processes)]
    left = most
    for process, asked in prices:
        wait = await rates[process % processes].seconds_to_wait("claude", asked)
        price = min(asked, max(1, most // 4))
        if wait:
            assert processes > 1 or left < price
        else:
            left -= price
    assert left >= 0


async def test_who_has_asked_too_often_waits_for_the_next_minute_and_nobody_else() -> None:
    now = 10 * MINUTE + 12.5
    rate = Rate(3, Shared().count, lambda: now)

    assert [await rate.seconds_to_wait("claude") for _ in range(5)] == [0, 0, 0, 48, 48]
    assert await rate.seconds_to_wait("ann") == 0
    now += 47.4
    assert await rate.seconds_to_wait("claude") == 1
    now += 0.2
    assert await rate.seconds_to_wait("claude") == 0


async def test_few_requests_ask_redis_and_none_while_it_is_away() -> None:
    asked, is_there = 0, True

    async def count(_name: str, amount: int, _seconds: int) -> int | None:
        nonlocal asked
        asked += 1
        return asked * amount if is_there else None

    now = 1_000.0
    rate = Rate(1_000, count, lambda: now)
    for _ in range(500):
        await rate.seconds_to_wait("claude")
    assert asked == 10

    is_there = False
    for _ in range(500):
        await rate.seconds_to_wait("claude")
    assert asked == 11
    now += 5.0
    for _ in range(500):
        await rate.seconds_to_wait("ann")
    assert asked == 12


# Over HTTP


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.http.endpoint._REFUSED_SECONDS", 0.1)


async def statuses(*systems: System, secret: str, requests: int) -> Counter[int]:
    found = Counter[int]()
    for n in range(requests):
        system, began = systems[n % len(systems)], monotonic()
        async with system.http.post(
            f"{system.url}/graphql",
            json={"query": "{ __typename }"},
            headers={"Authorization": f"Bearer {secret}"},
        ) as response:
            found[response.status] += 1
            if response.status == 429:
                answer = await response.json()
                [error] = answer["errors"]
                assert error["extensions"]["code"] == "RATE_LIMITED"
                assert response.headers["Retry-After"] == str(error["extensions"]["retryAfter"])
                assert "40 requests" in error["message"]
                assert monotonic() - began >= 0.1  # whoever asks again at once wins nothing
    return found


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    """A Redis that may be frozen."""
    async with Redis() as server:
        yield server


async def test_two_processes_count_together_and_each_alone_without_redis(
    github: GitHub, database_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.app.Rate", partial(Rate, clock=lambda: 1_000.0))  # one minute for all
    secret, key = new_key("claude", [Scope.READ])
    other, its_key = new_key("ann", [Scope.READ])
    settings = {
        "API_KEYS": f"{key},{its_key}",
        "RATE_LIMIT_PER_MINUTE": "40",
        "REDIS_URL": redis.url,
    }
    async with (
        running(github, database_url, settings) as one,
        running(github, database_url, settings) as two,
    ):
        found = await statuses(one, two, secret=secret, requests=60)
        assert 38 <= found[200] <= 40
        assert found[200] + found[429] == 60
        assert await statuses(one, secret=other, requests=5) == {200: 5}
        with frozen(redis):
            found = await statuses(one, secret=other, requests=60)
        assert found[200] == 35


async def test_without_keys_the_address_is_the_caller_if_there_is_a_limit(
    github: GitHub, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.app.Rate", partial(Rate, clock=lambda: 1_000.0))
    async with running(github, database_url, {"RATE_LIMIT_PER_MINUTE": "40"}) as system:
        assert await statuses(system, secret="none", requests=45) == {200: 40, 429: 5}


# What is dear

DEAR = """
query Dear($n: Int = 100) { projects(first: 20, consistency: MASTER) { nodes {
  sessions(first: $n) { nodes { id title status } } } } }
"""


async def status_of(system: System, secret: str, body: object) -> int:
    async with system.http.post(
        f"{system.url}/graphql", json=body, headers={"Authorization": f"Bearer {secret}"}
    ) as response:
        return response.status


@pytest.mark.parametrize(
    ("body", "price"),
    [
        ({"query": "{ __typename }"}, 1),
        ({"query": f"{{ __typename }} #{'x' * 985}"}, 1 + 1001 // 200),
        ({"query": "{ __typename }", "variables": {"x": "x" * 1_000_000}}, 1 + 50),
        ({"query": DEAR, "variables": {"n": 3}}, 1 + (1 + 20 * (2 + 3 * 4)) // 200),
        ({"query": DEAR}, 1 + (1 + 20 * (2 + 100 * 4)) // 200),
    ],
)
async def test_the_price_is_one_request_and_more_for_what_takes_more(
    github: GitHub,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    body: dict[str, object],
    price: int,
) -> None:
    monkeypatch.setattr("api.app.Rate", partial(Rate, clock=lambda: 1_000.0))
    secret, key = new_key("claude", [Scope.READ])
    limit = str(4 * price)
    environment = {"API_KEYS": str(key), "RATE_LIMIT_PER_MINUTE": limit}
    async with running(github, database_url, environment) as system:
        assert await status_of(system, secret, body) == 200
        left = Counter[int]()
        for _ in range(3 * price + 1):
            left[await status_of(system, secret, {"query": "{ __typename }"})] += 1

    assert left == {200: 3 * price, 429: 1}


async def test_what_is_known_by_now_costs_no_more_than_any_other_request(
    github: GitHub, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.app.Rate", partial(Rate, clock=lambda: 1_000.0))
    long = {"query": f"{{ cacheStatus {{ head }} }} #{'x' * 2_000}"}
    async with running(github, database_url, {"RATE_LIMIT_PER_MINUTE": "40"}) as system:
        found = [await status_of(system, "none", long) for _ in range(31)]

    assert found == [200] * 30 + [429]  # 1 + 10 for the first


async def test_a_body_costs_a_quarter_of_the_limit_at_most(
    github: GitHub, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is cut when it comes."""
    monkeypatch.setattr("api.app.Rate", partial(Rate, clock=lambda: 1_000.0))
    large = {"query": "{ __typename }", "variables": {"x": "x" * 12_000_000}}
    async with running(github, database_url, {"RATE_LIMIT_PER_MINUTE": "400"}) as system:
        found = [await status_of(system, "none", large) for _ in range(4)]

    assert found == [200] * 3 + [429]  # 101 each


@pytest.mark.parametrize("most", [4, 40, 600, 3_000])
async def test_whatever_is_allowed_can_be_paid_for(most: int) -> None:
    rate = Rate(most, Shared().count, lambda: 1_000.0)

    assert [await rate.seconds_to_wait("claude", price) for price in (1, 1_250, 1_250, 100)] == [
        0
    ] * 4


async def test_what_is_refused_for_its_size_costs_a_request_and_says_why(
    github: GitHub, database_url: str
) -> None:
    secret, key = new_key("claude", [Scope.READ])
    too_large = DEAR.replace("first: 20", "first: 100").replace(
        "id title", "id project { id } title"
    )
    async with running(github, database_url, {"API_KEYS": str(key)}) as system:
        for _ in range(40):
            async with system.http.post(
                f"{system.url}/graphql",
                json={"query": too_large},
                headers={"Authorization": f"Bearer {secret}"},
            ) as response:
                [error] = (await response.json())["errors"]
                assert error["extensions"]["code"] == "LIMIT_EXCEEDED"


async def test_a_body_is_paid_for_as_it_comes_and_one_refused_holds_nobody_up(
    github: GitHub, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who hangs up has paid for what came, and who is refused gives its place back at once."""
    monkeypatch.setattr("api.app.Rate", partial(Rate, clock=lambda: 1_000.0))
    monkeypatch.setattr("api.http.endpoint._REFUSED_SECONDS", 12.0)
    mine, my_key = new_key("claude", [Scope.READ])
    yours, your_key = new_key("ann", [Scope.READ])
    keys = {"API_KEYS": f"{my_key},{your_key}", "RATE_LIMIT_PER_MINUTE": "400"}
    async with running(github, database_url, keys) as system:
        port = urlsplit(system.url).port
        refused = []
        for _ in range(6):  # 101 each: three are paid for, and two more in part
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"POST /graphql HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {mine}\r\n"
                "Content-Type: application/json\r\nContent-Length: 8000000\r\n\r\n".encode()
            )
            writer.write(b" " * 8_000_000)
            refused.append(writer)

        large = {"query": "{ __typename }", "variables": {"x": "x" * 1_100_000}}
        for _ in range(4):
            assert await asyncio.wait_for(status_of(system, yours, large), 10) == 200
        for writer in refused:
            writer.transport.abort()
