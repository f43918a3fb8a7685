"""Looks at the head that readers share: never older than the reader, and few."""

import asyncio
from collections.abc import Container, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.gateway.heads import Question, Sight, gap, sharing
from api.master.errors import MasterError, Unreachable
from api.master.master import Master
from api.master.metering import Quota
from sandbox.github import Fault, GitHub
from tests.clone import Clone
from tests.system import System, running

DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
GARDEN = "autosaves/projects/kitchen-garden.md"
NOW = datetime(2026, 11, 27, tzinfo=UTC)
ONE = """
query One($id: ID!, $level: Consistency!, $atLeast: GitObjectID, $maxStaleness: Int) {
  session(id: $id, consistency: $level, atLeast: $atLeast, maxStaleness: $maxStaleness) {
    title provenance { source commit fallback verification }
  }
}
"""


# --- when, and with whom ---------------------------------------------------------------------

latencies = st.floats(0, 30)
quotas = st.builds(
    lambda limit, used, seconds: Quota(
        remaining=max(0, limit - used), limit=limit, reset_at=NOW + timedelta(seconds=seconds)
    ),
    st.integers(1, 15_000),
    st.integers(0, 15_000),
    st.floats(-60, 3_600),
)


@given(latencies, quotas)
def test_a_gap_costs_a_reader_little_and_two_seconds_at_most_when_the_quota_runs_low(
    latency: float, quota: Quota
) -> None:
    assert quota.remaining is not None
    assert quota.limit is not None
    found, least = gap(latency, quota, NOW), gap(latency, Quota(), NOW)

    assert least == pytest.approx(latency / 30)
    assert least <= found <= max(least, 2.0)
    if quota.remaining >= 0.2 * quota.limit:
        assert found == least


@given(latencies, quotas)
def test_what_is_left_of_a_low_quota_lasts_until_it_is_renewed(
    latency: float, quota: Quota
) -> None:
    assert quota.remaining is not None
    assert quota.limit is not None
    assert quota.reset_at is not None
    left, at = quota.remaining, NOW
    if left == 0 or left >= 0.2 * quota.limit:
        return
    for _ in range(200):  # as if readers came all the time
        pause = gap(latency, Quota(left, quota.limit, quota.reset_at), at)
        if quota.reset_at - at < timedelta(milliseconds=1) or pause >= 2.0:
            return
        assert left > 0
        left, at = left - 1, at + timedelta(seconds=pause)


@given(latencies, quotas, st.integers(1, 15_000))
def test_with_less_left_no_gap_is_shorter(latency: float, quota: Quota, spent: int) -> None:
    assert quota.remaining is not None
    less = Quota(max(0, quota.remaining - spent), quota.limit, quota.reset_at)

    assert gap(latency, less, NOW) >= gap(latency, quota, NOW)


questions = st.builds(
    Question,
    path=st.none() | st.integers(0, 99).map(str),
    content=st.booleans(),
    at_least=st.none() | st.none() | st.sampled_from(["a", "b"]),
)


@given(st.lists(questions, min_size=1, max_size=200), st.lists(st.integers(0, 2_000_000)))
def test_each_question_is_in_one_request_and_no_request_is_too_much(
    asked: list[Question], sizes: list[int]
) -> None:
    def size_of(path: str) -> int:
        return sizes[int(path) % len(sizes)] if sizes else 30_000

    left, requests = list(enumerate(asked)), 0
    while left:
        places = sharing([question for _, question in left], size_of)
        shared = [left[place][1] for place in places]
        assert places[0] == 0
        assert len({question.at_least for question in shared}) == 1
        paths = {q.path for q in shared if q.path is not None and not q.at_least}
        texts = {q.path for q in shared if q.path is not None and q.content and not q.at_least}
        assert len(paths) <= 50
        assert len(texts) == 1 or sum(map(size_of, texts)) <= 1_500_000
        left = [each for place, each in enumerate(left) if place not in set(places)]
        requests += 1
    if all(q.path is None for q in asked):
        assert requests == len({q.at_least for q in asked})


# --- what is shared --------------------------------------------------------------------------


async def looks(system: System, *asked: Question) -> list[Sight | MasterError]:
    """What readers are told who come in the same moment."""
    found = await asyncio.gather(
        *(system.parts.gateway.heads.look(question) for question in asked), return_exceptions=True
    )
    assert all(isinstance(each, Sight | MasterError) for each in found)
    return [each for each in found if isinstance(each, Sight | MasterError)]


async def test_readers_of_the_same_moment_share_one_request_whatever_they_look_at(
    system: System, github: GitHub
) -> None:
    before = system.requests
    sights = await looks(
        system, Question(), Question(DRILL, content=True), Question(GARDEN), Question("a/b.md")
    )

    assert system.requests - before == 1
    assert len({id(sight) for sight in sights}) == 1
    [sight] = {id(sight): sight for sight in sights}.values()
    assert isinstance(sight, Sight)
    assert sight.head is not None
    assert sight.head.commit == github.head
    assert {path: bool(entry) for path, entry in sight.entries.items()} == {
        DRILL: True,
        GARDEN: True,
        "a/b.md": False,
    }


async def test_readers_who_wait_for_the_same_commit_share_one_request(
    system: System, clone: Clone
) -> None:
    pushed, known = clone.push({"autosaves/a.md": "# A\n"}), system.requests

    sights = await looks(system, *[Question(at_least=pushed)] * 5, Question())

    assert system.requests - known == 2
    assert {s.head.commit for s in sights if isinstance(s, Sight) and s.head} == {pushed}


@pytest.mark.parametrize("level", ["MASTER", "VERIFIED"])
async def test_many_readers_of_different_documents_cost_few_requests(
    system: System, clone: Clone, level: str
) -> None:
    clone.push({f"autosaves/many/{n}.md": f"# Session {n}\n" for n in range(64)})
    await system.sync()
    system.parts.gateway.heads._latency = 30  # they come within a second, on a busy machine in two
    before = system.requests

    answers = await asyncio.gather(
        *(system.ask(ONE, id=f"autosaves/many/{n}.md", level=level) for n in range(64))
    )

    assert [answer.errors for answer in answers] == [[]] * 64
    assert [answer.data["session"]["title"] for answer in answers] == [
        f"Session {n}" for n in range(64)
    ]
    assert system.requests - before <= 16


async def test_a_page_that_is_verified_costs_one_request(system: System) -> None:
    query = """{ sessions(first: 20, consistency: VERIFIED) {
        totalCount nodes { title markdown } provenance { verification } } }"""
    assert (await system.ask(query)).errors == []
    before = system.requests

    answer = await system.ask(query)

    assert answer.data["sessions"]["provenance"]["verification"] == "MATCHED"
    assert system.requests - before == 1


# --- never older than the reader -------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"level": "MASTER"},
        {"level": "VERIFIED"},
        {"level": "CACHE", "maxStaleness": 0},
    ],
    ids=lambda how: str(how["level"]),
)
async def test_who_comes_after_a_push_sees_it_though_a_look_is_on_its_way(
    system: System, clone: Clone, monkeypatch: pytest.MonkeyPatch, how: dict[str, object]
) -> None:
    """Nor does it wait for that look to end."""
    head_with, has_looked, may_tell = Master.head_with, asyncio.Event(), asyncio.Event()

    async def held(self: Master, paths: Iterable[str], *, contents: Container[str] = ()) -> Any:
        found = await head_with(self, paths, contents=contents)
        if not has_looked.is_set():
            has_looked.set()
            await may_tell.wait()
        return found

    monkeypatch.setattr(Master, "head_with", held)
    early = asyncio.create_task(system.ask(ONE, id=DRILL, **how))
    await has_looked.wait()
    old, pushed = system.github.head, clone.push({DRILL: "# Rewritten\n"})

    answer = await system.ask(ONE, id=DRILL, **how)
    may_tell.set()

    assert answer.data["session"]["provenance"]["commit"] == pushed
    assert answer.data["session"]["title"] == "Rewritten"
    assert (await early).data["session"]["provenance"]["commit"] == old


async def test_among_pushes_no_reader_gets_a_head_that_is_older_than_itself(
    system: System, github: GitHub, clone: Clone
) -> None:
    github.faults.add(Fault(kind="latency", when="after", ms=50, max_ms=400, seed=7, count=None))
    commits = [str(github.head)]
    reading: list[tuple[int, asyncio.Task[object]]] = []

    async def commit_of(level: str, id: str) -> object:
        answer = await system.ask(ONE, id=id, level=level)
        assert answer.errors == []
        return answer.data["session"]["provenance"]["commit"]

    others = ["autosaves/a.md", "autosaves/b.md"]
    for number in range(4):
        commits.append(clone.push(dict.fromkeys([DRILL, *others], f"# {number}\n")))
        reading += [
            (len(commits) - 1, asyncio.create_task(commit_of(level, id)))
            for level in ("MASTER", "VERIFIED")
            for id in (DRILL, *others)
        ]
        await asyncio.sleep(0.05)  # some are on their way by now, and some are not

    for arrived, read in reading:
        assert commits.index(str(await read)) >= arrived


# --- who goes away, and what fails -----------------------------------------------------------


async def test_a_reader_who_goes_away_takes_nothing_from_the_others(
    system: System, github: GitHub
) -> None:
    slow = github.faults.add(Fault(kind="latency", ms=200))
    heads, before = system.parts.gateway.heads, system.requests
    going, staying = (asyncio.create_task(heads.look(Question(DRILL))) for _ in range(2))
    await slow.wait_until_struck()

    going.cancel()

    assert (await staying).head is not None
    assert going.cancelled()
    assert system.requests - before == 1


async def test_nothing_is_sent_for_readers_who_have_all_gone(system: System) -> None:
    heads, before = system.parts.gateway.heads, system.requests
    heads._began_at, heads._latency = asyncio.get_running_loop().time(), 6.0
    going = [asyncio.create_task(heads.look(Question(DRILL))) for _ in range(3)]
    await asyncio.sleep(0)
    for each in going:
        each.cancel()
    await asyncio.gather(*going, return_exceptions=True)

    sight = await heads.look(Question(GARDEN))

    assert system.requests - before == 1
    assert list(sight.entries) == [GARDEN]


async def test_a_failure_is_told_to_all_who_shared_it_and_to_nobody_else(
    system: System, github: GitHub
) -> None:
    github.faults.add(Fault(kind="dropped", count=2))  # the request, and its one repetition

    failed = await looks(system, *[Question(DRILL)] * 5)
    [after] = await looks(system, Question(DRILL))

    assert [type(each) for each in failed] == [Unreachable] * 5
    assert isinstance(after, Sight)


async def test_a_question_that_github_will_not_answer_does_not_fail_the_others(
    system: System, github: GitHub
) -> None:
    """It may be a path that is to blame. What the others look at is found by the trees then."""
    fault = Fault(kind="graphql_error", message="What?", operation_name="HeadWith", count=None)
    github.faults.add(fault)
    system.parts.gateway.heads._latency = 3.0
    before = system.requests

    [alone] = await looks(system, Question(DRILL))
    together = await looks(system, Question(DRILL), Question(GARDEN, content=True))

    assert isinstance(alone, Unreachable)
    assert all(isinstance(sight, Sight) and sight.entries == {} for sight in together)
    assert system.requests - before == 1 + 2


async def test_a_reader_does_not_wait_longer_than_a_request_may_take(
    github: GitHub, database_url: str
) -> None:
    async with running(github, database_url, {"MASTER_TIMEOUT_SECONDS": "1.5"}) as system:
        await system.sync()
        heads = system.parts.gateway.heads
        heads._began_at, heads._latency = asyncio.get_running_loop().time(), 1_000.0

        answer = await system.ask(ONE, id=DRILL, level="MASTER")

    assert answer.code == "MASTER_UNAVAILABLE"
    assert "within 1.5 seconds" in answer.errors[0]["message"]
