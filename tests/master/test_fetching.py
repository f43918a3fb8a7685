"""Content by oid, for many at the same time: each oid is asked for once, and nobody gets less."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.documents import blob_oid
from api.master.errors import Corrupt, TooMuchAsked, Unreachable
from api.master.fetching import Fetching, Portion, Wanted
from api.master.master import Master
from sandbox.github import Fault, GitHub
from tests.conftest import run
from tests.master.planting import plant, rev

TEXTS = [f"# {n}\n".encode() for n in range(8)]
WANTED = [Wanted(blob_oid(text), len(text)) for text in TEXTS]
CONTENT = {blob_oid(text): text for text in TEXTS}


@pytest.fixture(autouse=True)
def planted(repository: Path) -> None:
    plant(repository, {f"many/{n}.md": text for n, text in enumerate(TEXTS)})


@pytest.fixture
def slow(github: GitHub) -> Fault:
    """So that those who ask in the same moment find the request on its way."""
    return github.faults.add(Fault(kind="latency", ms=100, count=None))


async def test_who_wants_what_is_on_its_way_waits_for_it(
    master: Master, repository: Path, slow: Fault
) -> None:
    tree = rev(repository, "main:many")
    first, second = WANTED[:5], WANTED[3:]

    trees, blobs = await asyncio.gather(
        asyncio.gather(*(master.trees([tree]) for _ in range(5))),
        asyncio.gather(*(master.blobs(wanted) for wanted in (first, second, first, second))),
    )

    assert [list(each) for each in trees] == [[tree]] * 5
    assert blobs == [{w.oid: CONTENT[w.oid] for w in wanted} for wanted in (first, second)] * 2
    assert slow.struck == master.github.requests == 3, "the tree, 5 blobs, and the other 3"


async def test_who_goes_away_takes_nothing_from_the_others(master: Master, slow: Fault) -> None:
    begun = asyncio.create_task(master.blobs(WANTED))
    joined = asyncio.create_task(master.blobs(WANTED))
    await slow.wait_until_struck()

    begun.cancel()

    assert await joined == CONTENT
    assert begun.cancelled()
    assert master.github.requests == 1


async def test_a_failure_is_told_to_all_who_shared_it_and_to_nobody_after(
    master: Master, github: GitHub, slow: Fault
) -> None:
    github.faults.add(Fault(kind="rate_limit"))

    failed = await asyncio.gather(*(master.blobs(WANTED) for _ in range(3)), return_exceptions=True)

    assert len({id(error) for error in failed}) == 1
    assert isinstance(failed[0], Exception)
    assert await master.blobs(WANTED) == CONTENT
    assert slow.struck == 2


@pytest.mark.usefixtures("slow")
async def test_who_shares_a_batch_that_is_too_much_shares_its_halves(
    master: Master, github: GitHub
) -> None:
    github.faults.add(Fault(kind="bad_gateway", count=2))

    everything, one = await asyncio.gather(master.blobs(WANTED), master.blobs(WANTED[-1:]))

    assert everything == CONTENT
    assert one == {WANTED[-1].oid: TEXTS[-1]}


@pytest.mark.usefixtures("slow")
async def test_one_that_is_too_much_by_itself_is_asked_once_for_all(
    master: Master, github: GitHub
) -> None:
    github.faults.add(Fault(kind="bad_gateway", count=None))

    failed = await asyncio.gather(
        *(master.blobs(WANTED[:1]) for _ in range(5)), return_exceptions=True
    )

    assert [type(error) for error in failed] == [TooMuchAsked] * 5
    assert master.github.requests == 1


async def test_a_reader_waits_for_a_while_and_others_as_long_as_it_takes(
    master: Master, github: GitHub
) -> None:
    passed = 0

    @asynccontextmanager
    async def gate() -> AsyncIterator[None]:
        nonlocal passed
        passed += 1
        yield

    hang = github.faults.add(Fault(kind="latency", ms=1_000))
    patient = asyncio.create_task(master.blobs(WANTED))
    await hang.wait_until_struck()
    github.faults.add(Fault(kind="hang"))
    readers = master.behind(gate, patience=0.2)

    with pytest.raises(Unreachable, match=r"anything within 0\.2 seconds"):
        await readers.blobs(WANTED)

    assert await patient == CONTENT, "it does not share with those who are refused sooner"
    assert await readers.blobs(WANTED) == CONTENT, "and they have its memory"
    assert passed == 1


SCRIPT = st.lists(st.sampled_from(["answered", "too much", "corrupt", "slow"]), max_size=30)
READERS = st.lists(
    st.tuples(st.integers(0, 3), st.sets(st.integers(0, 9), min_size=1)), min_size=1, max_size=6
)


@given(SCRIPT, READERS, st.sets(st.integers(0, 5)))
def test_whatever_fails_nobody_gets_less_and_nothing_is_asked_for_twice_at_a_time(
    script: list[str], readers: list[tuple[int, set[int]]], cancelled: set[int]
) -> None:
    """Each gets all that it wants or an error that one of its requests ended with."""
    coming = iter(script)
    asked: Counter[str] = Counter()

    async def fetch(batch: Sequence[Wanted]) -> dict[str, str]:
        asked.update(want.oid for want in batch)
        assert max(asked.values()) == 1
        what = next(coming, "answered")
        for _ in range(5 if what == "slow" else 1):
            await asyncio.sleep(0)
        asked.subtract(want.oid for want in batch)
        if what == "too much":
            raise TooMuchAsked("too much")
        if what == "corrupt":
            raise Corrupt("corrupt")
        return {want.oid: want.oid for want in batch}

    async def read(fetching: Fetching[str], after: int, wanted: set[int]) -> dict[str, str]:
        for _ in range(after):
            await asyncio.sleep(0)
        return await fetching.all(Wanted(str(oid), 1) for oid in wanted)

    async def scenario() -> None:
        fetching = Fetching(fetch, Portion(4), patience=None)
        tasks = [asyncio.create_task(read(fetching, *reader)) for reader in readers]
        await asyncio.sleep(0)
        for i, task in enumerate(tasks):
            if i in cancelled:
                task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for i, (found, (_, wanted)) in enumerate(zip(ended, readers, strict=True)):
            if isinstance(found, dict):
                assert found == {str(oid): str(oid) for oid in wanted}
            elif isinstance(found, asyncio.CancelledError):
                assert i in cancelled
            else:
                assert isinstance(found, TooMuchAsked | Corrupt)
        for _ in range(10):
            await asyncio.sleep(0)
        assert fetching._on_the_way == {}

    run(scenario())
