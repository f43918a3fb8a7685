"""Several processes on one cache: what one has written or synced, the others do not go back from.

Each reader asks the same again and again, as agents do: if answers are kept anywhere, they are the
ones that are kept. A process hears of what another did a little later, and never unhears it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import asyncpg
import pytest

from sandbox.github import GitHub
from tests.filling import fill
from tests.sync.oracle import commit as push
from tests.system import System, running
from tests.truth import DRILL, Answering, Question, Reply, Truth, one, page, put
from tests.waiting import until
from tests.wire import Wire
from tests.writes.gateways import gateways

PATIENT = {
    "DATABASE_TIMEOUT_SECONDS": "10",  # so that no busy machine is taken for a dead one
    "MASTER_TIMEOUT_SECONDS": "10",
    "WRITE_TIMEOUT_SECONDS": "20",
}
ASKED = [one("session", DRILL), page(first=4)]
CACHE = ("CACHE", False, None, None)
UPDATE = """
mutation Update($id: ID!, $status: String!) {
  updateSession(input: {id: $id, status: $status}) { commit { oid } cache }
}
"""


@dataclass
class Reader:
    """Somebody who asks one process the same questions, until he is told to stop."""

    system: Answering
    replies: list[Reply] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task
        self._task.cancel()
        await asyncio.wait({self._task})
        assert self._task.cancelled(), self._task.exception()

    async def _ask(self) -> None:
        while True:
            for question in ASKED:
                self.replies.append(await put(self.system, question))
            await asyncio.sleep(0.01)

    async def sees(self, commit: str) -> None:
        async def is_seen() -> bool:
            last = self.replies[-len(ASKED) :]
            return len(last) == len(ASKED) and {reply.commit for reply in last} == {commit}

        await until(is_seen, "what happened is seen")

    def check(
        self, truth: Truth, line: Sequence[str], known: Sequence[tuple[datetime, str]] = ()
    ) -> None:
        """Each answer is true, and no older than one that was complete when it was asked for.

        `line`: the commits that the cache was brought to, in that order. `known`: those that this
        process made itself, and since when it has said so.
        """
        place = {commit: number for number, commit in enumerate(line)}
        for number, reply in enumerate(self.replies):
            truth.check(reply)
            assert {told.way for told in reply.told} == {CACHE}
            before = [earlier.commit for earlier in self.replies[:number][-1:]]
            before += [commit for at, commit in known if at < reply.asked_at]
            assert place[reply.commit] >= max((place[commit] for commit in before), default=0)


async def update(system: Answering, status: str) -> str:
    """The commit that it made, which the cache has at once."""
    answer = await system.ask(UPDATE, id=DRILL, status=status)
    assert answer.errors == []
    assert answer.data["updateSession"]["cache"] == "UPDATED"
    return str(answer.data["updateSession"]["commit"]["oid"])


async def test_processes_follow_each_other_and_never_go_back(
    github: GitHub, database_url: str, tmp_path: Path
) -> None:
    """Writes through either of two, and pushes that a third one syncs, a force-push among them."""
    truth, line = Truth(github.path), [github.head or ""]
    known: list[list[tuple[datetime, str]]] = [[], []]
    await fill(github, database_url)
    async with gateways(2, github, database_url, tmp_path, **PATIENT) as servers:
        one_reader, other_reader = readers = Reader(servers[0]), Reader(servers[1])
        async with one_reader, other_reader:
            for number in range(3):
                for writer in (0, 1):
                    line.append(await update(servers[writer], f"status {number} of {writer}"))
                    known[writer].append((datetime.now(UTC), line[-1]))
                    await readers[1 - writer].sees(line[-1])
                lost = push(github.path, {DRILL: f"# Pushed {number}\n".encode()})
                await fill(github, database_url)
                back = push(github.path, {DRILL: f"# Forced {number}\n".encode()}, parent="main~1")
                line += [lost, back]
                await fill(github, database_url)
                for reader in readers:
                    await reader.sees(back)
        for reader, said in zip(readers, known, strict=True):
            reader.check(truth, line, said)


@pytest.fixture
async def database_in_step(github: GitHub, database_url: str) -> str:
    await fill(github, database_url)
    return database_url


@pytest.fixture
async def system(github: GitHub, database_in_step: str) -> AsyncIterator[System]:
    async with running(github, database_in_step, PATIENT) as gateway:
        yield gateway


@pytest.fixture
async def wire(database_in_step: str) -> AsyncIterator[Wire]:
    """The neighbour's to the cache."""
    async with Wire.to_postgres(database_in_step) as wire:
        yield wire


@pytest.fixture
async def neighbour(github: GitHub, database_in_step: str, wire: Wire) -> AsyncIterator[System]:
    environment = {**PATIENT, "DATABASE_TIMEOUT_SECONDS": "5"}
    async with running(github, wire.url_of(database_in_step), environment) as gateway:
        yield gateway


async def test_with_at_least_a_neighbour_is_never_behind(
    system: System, neighbour: System, wire: Wire
) -> None:
    """Also where what it hears comes late, and while it is asked for old answers."""
    truth = Truth(system.github.path)
    wire.back = 0.1
    async with Reader(neighbour):
        for number in range(4):
            made = await update(system, f"status {number}")

            for question in ASKED:
                reply = await put(neighbour, question, atLeast=made)
                truth.check(reply)
                assert reply.told[0].way == CACHE
                assert reply.commit == made


@pytest.mark.parametrize("failure", ["cut", "mute"])
async def test_a_neighbour_that_hears_nothing_any_more_finds_out(
    system: System, neighbour: System, wire: Wire, failure: str
) -> None:
    """Its answers may be old until it does, for seconds. What it kept is worth nothing then."""
    truth, question = Truth(system.github.path), ASKED[0]
    for _ in range(3):
        await put(neighbour, question)
    if failure == "cut":
        wire.cut()
    else:
        wire.hang()
    made, seen = await update(system, "new"), list[str]()

    async def is_seen() -> bool:
        reply = await put(neighbour, question)
        truth.check(reply)
        seen.append(reply.commit)
        return reply.commit == made

    await until(is_seen, "it finds out")

    for _ in range(10):
        assert await is_seen(), "it went back"
    assert (await put(neighbour, question, atLeast=made)).commit == made
    await wire.heal()

    async def is_cached() -> bool:
        reply = await put(neighbour, question)
        assert reply.commit == made
        return reply.told[0].way == CACHE

    await until(is_cached, "the cache answers again")


async def test_what_is_asked_again_tells_its_true_age(
    github: GitHub, neighbour: System, database_in_step: str
) -> None:
    """It grows from answer to answer, until a sync has found nothing new."""
    truth = Truth(github.path)
    replies = [await put(neighbour, question) for _ in range(5) for question in ASKED]
    for reply in replies:
        truth.check(reply)  # each age is from its `asOf` to the moment of its answer
    seen_at = {reply.told[0].as_of for reply in replies}
    assert len(seen_at) == 1

    await fill(github, database_in_step)

    for question in ASKED:

        async def is_renewed(question: Question = question) -> bool:
            reply = await put(neighbour, question)
            truth.check(reply)
            assert reply.told[0].way == CACHE
            return reply.told[0].as_of > max(seen_at)

        await until(is_renewed, "the answer is as young as the cache")


async def test_an_answer_that_is_kept_grows_too_old_like_any_other(
    neighbour: System, github: GitHub
) -> None:
    """To be as young as was asked for is a matter of the moment of the answer."""
    truth, question = Truth(github.path), ASKED[0]

    async def is_too_old() -> bool:
        reply = await put(neighbour, question, maxStaleness=1)
        truth.check(reply)
        assert (reply.asked_at - reply.told[0].as_of).total_seconds() <= 1
        return reply.told[0].way != CACHE

    await until(is_too_old, "the answer is too old")


async def test_what_one_has_repaired_is_right_for_all(
    system: System, neighbour: System, database_in_step: str
) -> None:
    """A repair does not move the head. What was kept of the damage has to go all the same."""
    truth = Truth(system.github.path)
    connection = await asyncpg.connect(database_in_step)
    await connection.execute("UPDATE sessions SET title = 'Forged' WHERE path = $1", DRILL)
    await connection.close()
    for question in ASKED:
        await put(neighbour, question)

    for question in ASKED:
        reply = await put(system, question, consistency="VERIFIED")
        truth.check(reply)

    for question in ASKED:

        async def is_right(question: Question = question) -> bool:
            reply = await put(neighbour, question)
            return bool(reply.content == question.says(truth.at(reply.commit)))

        await until(is_right, "the neighbour tells no damage any more")
        truth.check(await put(neighbour, question))
