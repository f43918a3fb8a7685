"""The circuit: when readers are refused, and when no longer."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.gateway import circuit as module
from api.gateway.circuit import Line
from sandbox.github import Fault, GitHub
from sandbox.postgres import Postgres
from tests.clone import Clone
from tests.system import Answer, System, running
from tests.waiting import until

DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
READ = """
query Read($level: Consistency! = CACHE, $maxStaleness: Int, $atLeast: GitObjectID) {
  sessions(first: 3, consistency: $level, maxStaleness: $maxStaleness, atLeast: $atLeast) {
    totalCount provenance { source commit stale fallback }
  }
}
"""
CREATE = """
mutation { createSession(input: {title: "T", markdown: "x"}) { commit { oid } cache } }
"""
OLD: dict[str, object] = {"maxStaleness": 0}
SAYS_OPEN = "GitHub does not answer; reads that need it are refused"


# --- the rule --------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["a probe is sent", "somebody is answered", "the probe fails"])))
def test_only_a_probe_without_any_answer_since_shows_an_outage_and_any_answer_ends_it(
    events: list[str],
) -> None:
    line, sent_at = Line(float("-inf"), float("-inf")), None
    is_down, is_answered = False, False
    for now, event in enumerate(events):
        match event:
            case "a probe is sent" if sent_at is None:
                sent_at, is_answered = now, False
            case "somebody is answered":
                line = replace(line, answered_at=now)
                is_down, is_answered = False, True
            case "the probe fails" if sent_at is not None:
                if line.is_silent_since(sent_at):
                    line = replace(line, probed_at=sent_at)
                is_down, sent_at = is_down or not is_answered, None

        assert line.is_dead == is_down


# --- it opens, and closes by itself ----------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence shows after a moment, as it does else after seconds."""
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "_PROBE_SECONDS", 1.0)


@pytest.fixture
def probed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it stays open, so that a test can look at what is sent."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 60.0)


@pytest.fixture
async def patient(github: GitHub, database_url: str) -> AsyncIterator[System]:
    """A gateway that would wait for a minute for each request to GitHub."""
    async with running(github, database_url, {"MASTER_TIMEOUT_SECONDS": "60"}) as system:
        await system.sync()
        yield system


async def opens(system: System) -> None:
    async def is_open() -> bool:
        return system.parts.gateway.circuit.is_open

    await until(is_open, "the circuit is open")


async def reads(system: System, level: str = "MASTER") -> Answer:
    """Read when GitHub is back."""
    answer = await system.ask(READ, level=level)

    async def is_read() -> bool:
        nonlocal answer
        answer = await system.ask(READ, level=level)
        return not answer.errors

    await until(is_read, "it is read")
    return answer


def is_refused(answer: Answer) -> bool:
    return answer.code == "MASTER_UNAVAILABLE" and (
        "has not answered since" in answer.errors[0]["message"]
    )


@pytest.mark.usefixtures("probed_once")
async def test_without_github_readers_are_refused_and_nothing_is_sent_for_them(
    system: System,
) -> None:
    await system.github.stop()
    assert (await system.ask(READ, level="MASTER")).code == "MASTER_UNAVAILABLE"
    await opens(system)
    before = system.requests

    for level in ("MASTER", "VERIFIED"):
        assert is_refused(await system.ask(READ, level=level))
    assert system.requests == before
    told = (await system.ask(READ, **OLD)).data["sessions"]["provenance"]

    assert (told["source"], told["stale"], told["fallback"]) == (
        "CACHE",
        True,
        "MASTER_UNAVAILABLE",
    )


async def test_when_github_is_back_it_is_read_by_itself(system: System) -> None:
    for _ in range(2):
        await system.github.stop()
        await system.ask(READ, level="MASTER")
        await opens(system)

        await system.github.start()

        answer = await reads(system)
        assert answer.data["sessions"]["provenance"]["commit"] == system.github.head


@pytest.mark.usefixtures("quick")
async def test_a_mute_github_holds_nobody_for_long(patient: System, github: GitHub) -> None:
    """Each request may take a minute. Who has something else waits for a moment, and the others
    until it is known that there is no use.
    """
    hang = github.faults.add(Fault(kind="hang", operation="query", count=None))
    async with asyncio.timeout(40):
        waiting = [
            asyncio.create_task(patient.ask(READ, level=level)) for level in ("MASTER", "VERIFIED")
        ]
        await hang.wait_until_struck()
        told = (await patient.ask(READ, **OLD)).data["sessions"]["provenance"]
        assert (told["source"], told["stale"]) == ("CACHE", True)

        assert all(is_refused(answer) for answer in await asyncio.gather(*waiting))
        assert is_refused(await patient.ask(READ, level="MASTER"))

        github.faults.clear()
        await reads(patient)


@pytest.mark.usefixtures("quick")
async def test_what_an_open_view_reads_is_bounded_as_well(
    patient: System, github: GitHub, clone: Clone
) -> None:
    clone.push({"autosaves/2026/new.md": "# New\n"})
    github.faults.add(Fault(kind="hang", operation_name="Trees", count=None))
    github.faults.add(Fault(kind="hang", operation_name="Head", nth=2, count=None))
    async with asyncio.timeout(40):
        answer = await patient.ask(READ, level="MASTER")

    assert is_refused(answer)


@pytest.mark.usefixtures("probed_once")
async def test_with_both_stores_down_the_error_comes_at_once(
    github: GitHub, postgres: Postgres
) -> None:
    async with running(github, postgres.url, {"DATABASE_TIMEOUT_SECONDS": "0.5"}) as system:
        await system.sync()
        await postgres.kill()
        await github.stop()
        assert (await system.ask(READ)).code == "MASTER_UNAVAILABLE"
        await opens(system)
        requests, statements = system.requests, system.statements

        answer = await system.ask(READ)

        assert is_refused(answer)
        assert (system.requests, system.statements) == (requests, statements)


# --- it does not open for little -------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="dropped", count=2),  # the request, and its one repetition
        Fault(kind="bad_gateway"),
        Fault(kind="something_wrong"),
        Fault(kind="bad_credentials"),
        Fault(kind="hang", operation_name="Head"),
        Fault(kind="latency", ms=700, operation_name="Head"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.count}",
)
async def test_one_failure_among_answers_is_no_outage(
    github: GitHub, database_url: str, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(github, database_url, {"MASTER_TIMEOUT_SECONDS": "3"}) as system:
        await system.sync()
        github.faults.add(fault.model_copy())

        await system.ask(READ, level="MASTER")
        answer = await system.ask(READ, level="MASTER")

        assert answer.errors == []
    assert SAYS_OPEN not in caplog.text


@pytest.mark.usefixtures("quick")
async def test_a_batch_that_is_too_much_is_no_outage(
    system: System, github: GitHub, clone: Clone, caplog: pytest.LogCaptureFixture
) -> None:
    clone.push({f"autosaves/many/{n}.md": f"# {n}\n" for n in range(8)})
    github.faults.add(Fault(kind="bad_gateway", operation_name="Blobs", count=3))

    answer = await system.ask(READ, level="MASTER")

    assert answer.errors == []
    assert answer.data["sessions"]["totalCount"] == 6 + 8
    assert SAYS_OPEN not in caplog.text


# --- it is for readers alone -----------------------------------------------------------------


@pytest.mark.usefixtures("quick", "probed_once")
async def test_writes_are_not_refused_and_what_they_are_answered_closes_it(
    patient: System, github: GitHub
) -> None:
    github.faults.add(Fault(kind="hang", operation="query", count=None))
    await patient.ask(READ, level="MASTER")
    await opens(patient)

    answer = await patient.ask(CREATE)

    assert answer.errors == []
    assert answer.data["createSession"]["commit"]["oid"] == github.head
    assert not patient.parts.gateway.circuit.is_open
    github.faults.clear()
    assert (await patient.ask(READ, level="MASTER")).errors == []


@pytest.mark.usefixtures("probed_once")
async def test_a_sync_is_not_refused(system: System, clone: Clone) -> None:
    await system.github.stop()
    await system.ask(READ, level="MASTER")
    await opens(system)
    await system.github.start()
    pushed = clone.push({"autosaves/a.md": "# A\n"})

    await system.sync()

    told = (await system.ask(READ)).data["sessions"]["provenance"]
    assert (told["commit"], told["source"]) == (pushed, "CACHE")


# --- limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="rate_limit", count=None),
        Fault(kind="secondary_rate_limit", retry_after=None, status=200, count=None),
    ],
    ids=lambda fault: f"{fault.kind} {fault.retry_after}",
)
async def test_while_github_asks_to_wait_no_reader_asks(
    system: System, github: GitHub, fault: Fault
) -> None:
    github.faults.add(fault.model_copy())
    first = await system.ask(READ, level="MASTER")
    before = system.requests

    again = [await system.ask(READ, level=level) for level in ("MASTER", "VERIFIED")]
    assert system.requests == before
    told = (await system.ask(READ, **OLD)).data["sessions"]["provenance"]

    assert [answer.code for answer in (first, *again)] == ["RATE_LIMITED"] * 3
    waits = [answer.errors[0]["extensions"]["retryAfter"] for answer in (first, *again)]
    assert waits[0] >= waits[1] >= waits[2] > 0
    assert (told["stale"], told["fallback"]) == (True, "MASTER_UNAVAILABLE")


async def test_after_the_time_that_github_asked_for_it_is_read_again(
    system: System, github: GitHub
) -> None:
    github.faults.add(Fault(kind="secondary_rate_limit", retry_after=1))
    assert (await system.ask(READ, level="MASTER")).code == "RATE_LIMITED"

    await reads(system)


# --- the end ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
async def test_a_process_ends_while_readers_wait_and_github_is_probed(
    github: GitHub, database_url: str
) -> None:
    github.faults.add(Fault(kind="hang", operation="query", count=None))
    async with running(github, database_url, {"MASTER_TIMEOUT_SECONDS": "60"}) as system:
        waiting = asyncio.create_task(system.ask(READ, level="MASTER"))
        await opens(system)
        assert is_refused(await waiting)

    assert [task for task in asyncio.all_tasks() if "/api/" in repr(task)] == []
