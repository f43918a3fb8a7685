"""Committing: whatever fails, a write is in the history once or not at all, and we say which.

What is true is asked of plain git, behind the back of both the gateway and the stand-in.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from api.documents import blob_oid
from api.master.committing import Change, Commit, commit
from api.master.credentials import FixedToken
from api.master.errors import (
    AccessRefused,
    HeadMoved,
    HeadUnknown,
    MasterError,
    Missing,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Unreachable,
)
from api.master.master import Master
from api.master.messages import WRITE as TRAILER
from api.master.messages import Note, compose
from api.master.transport import GitHub as Client
from sandbox.github import Fault, GitHub
from sandbox.github.faults import Kind
from tests.clone import Clone, git
from tests.master.planting import plant, rev

PATH = "autosaves/2026/11/autosave_2026-11-21_new.md"
CONTENT = "# Новая\n".encode()


def change(
    headline: str = "Create it",
    body: str = "",
    *,
    path: str = PATH,
    additions: Mapping[str, bytes] | None = None,
    deletions: Sequence[str] = (),
) -> Change:
    write_id = str(uuid4())
    headline, body = compose([Note(write_id=write_id, message=f"{headline}\n\n{body}")])
    return Change(write_id, headline, body, additions or {path: CONTENT}, deletions)


class Writer:
    """Commits to the repository, and asks git what came of it."""

    def __init__(self, repository: Path, master: Master) -> None:
        self.repository = repository
        self.master = master

    @property
    def head(self) -> str:
        return rev(self.repository, "main")

    async def send(
        self,
        write: Change,
        *,
        expected: str | None = None,
        ask: Sequence[str] = (),
        seconds: float = 20,
    ) -> Commit:
        return await commit(
            self.master, write, expected=expected or self.head, ask=ask, seconds=seconds
        )

    def landed(self, write: Change) -> list[str]:
        """The commits of the branch that carry the write."""
        trailer = f"--grep=^{TRAILER}: {write.write_id}$"
        return git(self.repository, "log", "--format=%H", trailer, "main").decode().split()

    def has_once(self, write: Change, done: Commit) -> bool:
        """Whether the write is in the history once, as the commit says, with its content."""
        return (
            self.landed(write) == [done.oid]
            and rev(self.repository, f"{done.oid}^@") == done.parent
            and rev(self.repository, f"{done.oid}^{{tree}}") == done.tree
            and all(
                git(self.repository, "cat-file", "blob", f"{done.oid}:{path}") == content
                for path, content in write.additions.items()
            )
        )


@pytest.fixture
def writer(repository: Path, master: Master) -> Writer:
    return Writer(repository, master)


@pytest.fixture
async def impatient(repository: Path, github: GitHub) -> AsyncIterator[Writer]:
    """A writer whose requests time out soon."""
    async with Client(github.url, FixedToken(github.token), timeout=3) as client:
        yield Writer(repository, Master(client, github.hosting.name, github.hosting.branch))


@pytest.fixture
async def hasty(repository: Path, github: GitHub) -> AsyncIterator[Writer]:
    """A writer whose requests time out so soon that some may without a fault."""
    async with Client(github.url, FixedToken(github.token), timeout=0.2) as client:
        yield Writer(repository, Master(client, github.hosting.name, github.hosting.branch))


# --- a commit --------------------------------------------------------------------------------


async def test_a_commit_is_one_request_and_names_what_was_asked(
    writer: Writer, github: GitHub, repository: Path
) -> None:
    write, head = change(), writer.head
    done = await writer.send(write, ask=[PATH, "autosaves/2026/11", "autosaves", "absent.md"])
    assert github.requests.count() == writer.master.github.requests == 1
    assert done.parent == head
    assert writer.head == done.oid
    assert writer.has_once(write, done)
    assert done.oids == {
        PATH: blob_oid(CONTENT),
        "autosaves/2026/11": rev(repository, "main:autosaves/2026/11"),
        "autosaves": rev(repository, "main:autosaves"),
    }
    assert (await writer.master.head()).committed_at == done.committed_at


@pytest.mark.parametrize(
    ("headline", "body", "message"),
    [
        ("Create it", "", "Create it\n\n{trailer}"),
        ("Create it", "Because.\n\nAnd so.", "Create it\n\nBecause.\n\nAnd so.\n\n{trailer}"),
        ("Заметка 🌱", "Потому.", "Заметка 🌱\n\nПотому.\n\n{trailer}"),
        ("Create it", f"{TRAILER}: x", f"Create it\n\n{TRAILER}: x\n\n{{trailer}}"),
    ],
)
async def test_the_message_ends_in_a_trailer_that_git_reads(
    writer: Writer, repository: Path, headline: str, body: str, message: str
) -> None:
    write = change(headline, body)
    await writer.send(write)
    trailer = f"{TRAILER}: {write.write_id}"
    said = git(repository, "log", "-1", "--format=%B", "main").decode().rstrip("\n")
    assert said == message.format(trailer=trailer)
    read = git(repository, "interpret-trailers", "--parse", stdin=f"{said}\n".encode())
    assert read.decode().splitlines() == [trailer]


async def test_any_bytes_arrive_as_they_were_sent(writer: Writer) -> None:
    """Base64 with + and /, with and without padding; no byte is normalised."""
    contents = [b"", b"\xfb", b"\xff\xfe", b"\xfb\xef\xbe" * 3, b"a\r\nb", bytes(range(256))]
    additions = {f"{number}.md": content for number, content in enumerate(contents)}
    write = change("Any bytes", additions=additions)
    assert writer.has_once(write, await writer.send(write))


async def test_a_large_document_is_one_commit(writer: Writer) -> None:
    write = change("Large", additions={PATH: b"0123456789" * 200_000})
    assert writer.has_once(write, await writer.send(write))


async def test_deletions_go_with_additions(writer: Writer, repository: Path) -> None:
    gone = "autosaves/priorities/order-seeds.md"
    write = change("Move", deletions=[gone])
    assert writer.has_once(write, await writer.send(write))
    assert gone not in git(repository, "ls-tree", "-r", "--name-only", "main").decode()


# --- refused: nothing was saved, and no second try was made ----------------------------------

REFUSALS: dict[str, tuple[Fault, type[MasterError]]] = {
    "classic protection": (Fault(kind="branch_protection"), Rejected),
    "ruleset": (Fault(kind="ruleset"), Rejected),
    "ruleset, checks": (
        Fault(kind="ruleset", message="3 of 3 required status checks are expected."),
        Rejected,
    ),
    "archived": (Fault(kind="repository_archived"), Rejected),
    "forbidden": (Fault(kind="forbidden"), AccessRefused),
    "forbidden to an app": (
        Fault(kind="forbidden", message="Resource not accessible by integration"),
        AccessRefused,
    ),
    "SAML": (Fault(kind="saml"), AccessRefused),
    "revoked token": (Fault(kind="bad_credentials"), AccessRefused),
    "repository gone": (Fault(kind="repository_missing"), Missing),
    "primary limit": (Fault(kind="rate_limit"), RateLimited),
    "primary limit, old": (Fault(kind="rate_limit", type="RATE_LIMITED"), RateLimited),
    "secondary limit": (Fault(kind="secondary_rate_limit"), RateLimited),
    "secondary limit, silent": (Fault(kind="secondary_rate_limit", retry_after=None), RateLimited),
    "secondary limit, 200": (Fault(kind="secondary_rate_limit", status=200), RateLimited),
    "secondary limit, 429": (Fault(kind="secondary_rate_limit", status=429), RateLimited),
    "ref moved meanwhile": (Fault(kind="ref_moved"), HeadMoved),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_is_told_at_once_and_nothing_was_saved(
    writer: Writer, github: GitHub, name: str
) -> None:
    fault, error = REFUSALS[name]
    github.faults.add(fault.model_copy())
    write = change()
    with pytest.raises(error) as caught:
        await writer.send(write)
    assert writer.landed(write) == []
    assert github.requests.count() == 1
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after >= 60


async def test_a_token_that_may_only_read_is_refused(writer: Writer, github: GitHub) -> None:
    for token, identity in github.tokens.items():
        github.tokens[token] = type(identity)(identity.login, permission="READ")
    write = change()
    with pytest.raises(AccessRefused, match="needs write access to contents"):
        await writer.send(write)
    assert writer.landed(write) == []


async def test_a_head_that_moved_before_is_told_and_nothing_was_saved(
    writer: Writer, clone: Clone
) -> None:
    old, write = writer.head, change()
    clone.push({"theirs.md": "x"})
    with pytest.raises(HeadMoved) as caught:
        await writer.send(write, expected=old)
    assert type(caught.value) is HeadMoved
    assert writer.landed(write) == []


async def test_a_branch_that_is_not_there_is_missing(
    client: Client, github: GitHub, repository: Path
) -> None:
    elsewhere = Writer(repository, Master(client, github.hosting.name, "absent"))
    with pytest.raises(Missing, match="Branch not found"):
        await elsewhere.send(change())
    assert github.requests.count() == 1


async def test_a_deletion_of_nothing_is_rejected_as_a_whole(writer: Writer) -> None:
    write = change("Delete", deletions=["absent.md"])
    with pytest.raises(Rejected, match="does not exist"):
        await writer.send(write)
    assert writer.landed(write) == []


@pytest.mark.parametrize("expected", ["abc", "HEAD"])
async def test_a_head_that_is_no_oid_is_rejected(
    writer: Writer, github: GitHub, expected: str
) -> None:
    with pytest.raises(Rejected, match="invalid value"):
        await writer.send(change(), expected=expected)
    assert github.requests.count() == 1


async def test_a_server_that_cannot_be_reached_got_nothing(writer: Writer, github: GitHub) -> None:
    write = change()
    await github.stop()
    with pytest.raises(Unreachable):
        await writer.send(write, expected=writer.head)
    assert writer.landed(write) == []


# --- lost answers ----------------------------------------------------------------------------

LOST: dict[str, Fault] = {
    "502": Fault(kind="bad_gateway"),
    "504": Fault(kind="gateway_timeout"),
    "dropped": Fault(kind="dropped"),
    "something wrong": Fault(kind="something_wrong"),
    "something wrong, 502": Fault(kind="something_wrong", status=502),
    "hang": Fault(kind="hang"),
}


def lost(name: str, **changed: object) -> Fault:
    return LOST[name].model_copy(update={"operation": "mutation", **changed})


@pytest.mark.parametrize("name", LOST)
async def test_a_commit_whose_answer_was_lost_is_found(
    impatient: Writer, github: GitHub, name: str
) -> None:
    """After it landed. It is found in the history and not sent again."""
    github.faults.add(lost(name, when="after"))
    write = change()
    assert impatient.has_once(write, await impatient.send(write))
    assert impatient.master.github.requests == 2, "sent once, looked for once"


@pytest.mark.parametrize("name", LOST)
async def test_a_commit_that_got_lost_is_sent_again(
    impatient: Writer, github: GitHub, name: str
) -> None:
    """Before it landed, which looks the same. The swap makes sending again safe."""
    github.faults.add(lost(name, when="before"))
    write = change()
    assert impatient.has_once(write, await impatient.send(write))
    assert impatient.master.github.requests == 3, "sent, looked for, sent"


async def test_a_commit_beside_an_error_landed(writer: Writer, github: GitHub) -> None:
    github.faults.add(Fault(kind="partial"))
    write = change()
    assert writer.has_once(write, await writer.send(write))
    assert github.requests.count() == 1


@pytest.mark.parametrize("name", LOST)
async def test_a_lost_commit_that_another_overtook_was_not_saved(
    impatient: Writer, github: GitHub, clone: Clone, name: str
) -> None:
    """Lost is the answer that the head had moved: the history must tell it instead."""
    old, write = impatient.head, change()
    clone.push({"theirs.md": "x"})
    github.faults.add(lost(name, when="after"))
    with pytest.raises(HeadMoved):
        await impatient.send(write, expected=old)
    assert impatient.landed(write) == []


async def test_a_lost_commit_is_found_below_those_that_followed(
    writer: Writer, github: GitHub, clone: Clone
) -> None:
    """While we look, nobody answers, and another writer builds on our commit."""
    github.faults.add(lost("502", when="after"))
    silent = github.faults.add(Fault(kind="bad_gateway", operation="query", count=None))
    write = change()
    sending = asyncio.ensure_future(writer.send(write))
    await silent.wait_until_struck()
    theirs = await asyncio.to_thread(clone.push, {"theirs.md": "x"})
    github.faults.clear()
    assert writer.has_once(write, await sending)
    assert writer.head == theirs


async def test_a_lost_commit_is_found_below_hundreds(
    writer: Writer, github: GitHub, repository: Path
) -> None:
    github.faults.add(lost("502", when="after"))
    silent = github.faults.add(Fault(kind="bad_gateway", operation="query", count=None))
    write = change()
    sending = asyncio.ensure_future(writer.send(write))
    await silent.wait_until_struck()
    many = tuple(f"Theirs {n}" for n in range(250))
    await asyncio.to_thread(plant, repository, {"theirs.md": "x"}, messages=many)
    github.faults.clear()
    assert writer.has_once(write, await sending)


async def test_a_lost_commit_that_hundreds_overtook_was_not_saved(
    writer: Writer, github: GitHub, repository: Path
) -> None:
    old, write = writer.head, change()
    plant(repository, {"theirs.md": "x"}, messages=tuple(f"Theirs {n}" for n in range(250)))
    github.faults.add(lost("502", when="after"))
    with pytest.raises(HeadMoved):
        await writer.send(write, expected=old)
    assert writer.landed(write) == []


async def test_a_lost_commit_is_found_although_the_replica_lags(
    writer: Writer, github: GitHub
) -> None:
    """It shows the old head: so the write is sent again, refused as stale, and looked for again."""
    github.faults.add(lost("502", when="after"))
    github.faults.add(Fault(kind="lagging_head", operation="query", count=2))
    write = change()
    assert writer.has_once(write, await writer.send(write))
    assert github.requests.count("mutation") == 3


async def test_a_history_that_was_rewritten_tells_nothing(
    writer: Writer, github: GitHub, repository: Path
) -> None:
    """The write may have been there before. Nobody knows, and so we say."""
    old, write = writer.head, change()
    other = git(repository, "commit-tree", "-m", "Anew", f"{old}^{{tree}}").decode().strip()
    git(repository, "update-ref", "refs/heads/main", other)
    github.faults.add(lost("502", when="after"))
    with pytest.raises(OutcomeUnknown):
        await writer.send(write, expected=old, seconds=0.5)


async def test_a_commit_that_quotes_the_trailer_is_not_the_write(
    writer: Writer, github: GitHub, repository: Path
) -> None:
    """A message can hold anything; the write itself stands directly on the expected head."""
    old, write = writer.head, change()
    quote = f"Look at this\n\n{TRAILER}: {write.write_id}"
    plant(repository, {"theirs.md": "x"}, messages=("Theirs", quote))
    github.faults.add(lost("502", when="after"))
    with pytest.raises(HeadMoved):
        await writer.send(write, expected=old)
    assert len(writer.landed(write)) == 1, "only the quote"


async def test_a_write_whose_own_message_forges_a_trailer_is_found_by_its_own(
    writer: Writer, github: GitHub
) -> None:
    other = change("First")
    await writer.send(other)
    forged = change("Second", f"{TRAILER}: {other.write_id}", path="second.md")
    github.faults.add(lost("502", when="after"))
    done = await writer.send(forged)
    assert writer.landed(forged) == [done.oid]


# --- replicas that lag behind the expected head ----------------------------------------------


async def test_a_head_that_a_replica_does_not_know_yet_is_waited_for(
    writer: Writer, github: GitHub
) -> None:
    old = writer.head
    await writer.send(change("First"))
    github.faults.add(Fault(kind="lagging_head", operation="mutation", head=old, count=2))
    write = change("Second", path="second.md")
    assert writer.has_once(write, await writer.send(write))
    assert github.requests.count("mutation") == 1 + 3


async def test_a_head_that_stays_unknown_moved_and_nothing_was_saved(
    writer: Writer, github: GitHub
) -> None:
    """Also at the deadline: a refusal is no doubt."""
    write = change()
    with pytest.raises(HeadUnknown):
        await writer.send(write, expected="0123456789" * 4, seconds=1)
    assert writer.landed(write) == []
    assert github.requests.count("query") == 0


# --- outcomes that stay unknown --------------------------------------------------------------


@pytest.mark.parametrize("name", ["502", "hang"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_cannot_be_found_out_in_time_is_said_to_be_unknown(
    impatient: Writer, github: GitHub, name: str, when: str
) -> None:
    """With the id to look for it. It is there once or not at all; we cannot know."""
    for operation in ("mutation", "query"):
        github.faults.add(lost(name, when=when, count=None, operation=operation))
    write = change()
    with pytest.raises(OutcomeUnknown, match=f"{TRAILER}: {write.write_id}"):
        await impatient.send(write, seconds=1)
    assert len(impatient.landed(write)) == (1 if when == "after" else 0)


async def test_a_refusal_of_a_second_try_does_not_settle_the_first(
    writer: Writer, github: GitHub
) -> None:
    """The first landed and its answer was lost; the second is refused. Something was saved."""
    github.faults.add(lost("502", when="after"))
    github.faults.add(Fault(kind="bad_gateway", operation="query", count=2))
    github.faults.add(Fault(kind="rate_limit", operation="mutation", nth=2))
    write = change()
    assert writer.has_once(write, await writer.send(write))


async def test_a_limit_is_honoured_while_it_is_being_found_out_what_happened(
    writer: Writer, github: GitHub
) -> None:
    first = github.faults.add(lost("502", when="before"))
    clock = asyncio.get_running_loop().time
    write, begun = change(), clock()
    sending = asyncio.create_task(writer.send(write))
    await first.wait_until_struck()
    limit = github.faults.add(
        Fault(kind="secondary_rate_limit", operation="mutation", retry_after=2)
    )

    assert writer.has_once(write, await sending)

    assert limit.struck
    assert clock() - begun >= 2


async def test_a_request_that_hangs_leaves_half_of_the_time_to_find_out(
    writer: Writer, github: GitHub
) -> None:
    github.faults.add(lost("hang", when="after"))
    write = change()
    assert writer.has_once(write, await writer.send(write, seconds=2))


async def test_a_caller_that_gives_up_leaves_a_whole_commit_or_none(
    writer: Writer, github: GitHub
) -> None:
    for when in ("before", "after"):
        fault = github.faults.add(lost("hang", when=when))
        write = change(when, path=f"{when}.md")
        sending = asyncio.ensure_future(writer.send(write))
        await fault.wait_until_struck()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert len(writer.landed(write)) == (1 if when == "after" else 0)
    write = change("Next")
    assert writer.has_once(write, await writer.send(write))


# --- everything at once ----------------------------------------------------------------------


async def test_of_writers_on_the_same_head_one_lands(writer: Writer) -> None:
    head = writer.head
    writes = [change(f"Writer {n}", path=f"{n}.md") for n in range(8)]
    outcomes = await asyncio.gather(
        *(writer.send(write, expected=head) for write in writes), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Commit"] + ["HeadMoved"] * 7
    for write, outcome in zip(writes, outcomes, strict=True):
        assert len(writer.landed(write)) == (1 if isinstance(outcome, Commit) else 0)


CHAOS: tuple[Kind, ...] = (
    "bad_gateway",
    "gateway_timeout",
    "dropped",
    "something_wrong",
    "hang",
    "rate_limit",
    "lagging_head",
    "ref_moved",
)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_fails_what_is_said_is_true(
    hasty: Writer, github: GitHub, seed: int
) -> None:
    """Said to have landed: it is there once. Said to be saved nowhere: it is. Never twice."""
    chance = random.Random(seed)
    for number in range(5):
        github.faults.clear()
        for _ in range(chance.randint(1, 4)):
            kind = chance.choice(CHAOS)
            fault = {
                "kind": kind,
                "when": chance.choice(["before", "after"]),
                "operation": None if kind == "ref_moved" else chance.choice(["query", "mutation"]),
                "count": chance.randint(1, 2),
                "files": {f"theirs-{number}.md": str(chance.random())},
            }
            github.faults.add(Fault.model_validate(fault))
        write = change(path=f"ours-{number}.md")
        try:
            done = await hasty.send(write, seconds=1)
        except OutcomeUnknown:
            assert len(hasty.landed(write)) <= 1
        except MasterError:
            assert hasty.landed(write) == []
        else:
            assert hasty.has_once(write, done)
