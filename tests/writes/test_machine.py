"""Writes under everything that can go wrong at once: a state machine over real processes.

Each example is a repository, a database and one or two gateways of its own. In each step some
writes are sent at once, while GitHub fails, PostgreSQL stops, others push, and gateways are killed.
In the end the whole history is judged by `oracle`, and the cache is compared with the master.

Longer: `HYPOTHESIS_PROFILE=deep`. Other paths: `WRITES_SEED=7`, which is printed with a failure.
"""

import asyncio
import os
import random
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from api.cache.migrate import migrate
from api.settings import load
from api.sync.reconcile import Outcome
from api.wiring import open_parts
from sandbox.github import Fault, GitHub, Limits, create_repository
from sandbox.postgres import UNSAFE_BUT_QUICK, Postgres
from tests.clone import git
from tests.sync.oracle import commit as push
from tests.sync.oracle import directories_at, documents_at, head_of, rows_of
from tests.writes.gateways import Answer, Gateway, environment
from tests.writes.oracle import Attempt, History, Step, check

T = TypeVar("T")

SEED = int(os.environ.get("WRITES_SEED", "1"))
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
EXAMPLES, STEPS = (600, 100) if DEEP else (30, 100)

SHARED = [f"autosaves/shared-{name}.md" for name in "abc"]
FREE = ["autosaves/free-d.md", "autosaves/2026/free-e.md"]
TEXT = "---\nstatus: open\nkeep: me\n---\n# Heading\n\nText.\n"
FIELDS = ["status", "agent", "priority"]

QUICK_FAULTS = [
    *(("bad_gateway", when) for when in ("before", "after")),
    *(("gateway_timeout", when) for when in ("before", "after")),
    *(("dropped", when) for when in ("before", "after")),
    *(("something_wrong", when) for when in ("before", "after")),
    *(("graphql_error", when) for when in ("before",)),
    ("partial", "after"),
    ("ref_moved", "before"),
    ("resource_limits", "before"),
    ("secondary_rate_limit", "before"),
    ("corrupted_blob", "before"),
    ("lagging_head", "before"),
    ("forbidden", "before"),
    ("latency", "before"),
    ("latency", "after"),
]
SLOW_FAULTS = [("hang", "before"), ("hang", "after")]


class Everything:
    """What outlives an example: a thread with an event loop, and a PostgreSQL server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.postgres = Postgres(folder / "postgres", settings=UNSAFE_BUT_QUICK)
        self.run(self._prepare())
        self.examples = self.steps = 0
        self.told: Counter[str] = Counter()  # what came of all that was asked

    async def _prepare(self) -> None:
        await self.postgres.start()
        await self.postgres.create_database("ours")
        await migrate(self.postgres.url_of("ours"))
        files = self.folder / "files"
        for path in SHARED:
            (files / path).parent.mkdir(parents=True, exist_ok=True)
            (files / path).write_text(TEXT)
        (files / "README.md").write_text("# Not a document\n")
        create_repository(self.folder / "template.git", files)

    def run(self, work: Coroutine[object, object, T]) -> T:
        running: Future[T] = asyncio.run_coroutine_threadsafe(_in_time(work), self.loop)
        return running.result(120)

    def close(self) -> None:
        self.run(self.postgres.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


async def _in_time(work: Coroutine[object, object, T]) -> T:
    try:
        return await work
    except TimeoutError as error:  # on its way to another thread it would lose its traceback
        raise AssertionError("something took too long") from error


EVERYTHING: list[Everything] = []  # one, while the test runs; hypothesis makes the machines


@pytest.fixture(scope="module")
def everything() -> Iterator[Everything]:
    with tempfile.TemporaryDirectory(prefix="annoris-writes-") as folder:
        one = Everything(Path(folder))
        EVERYTHING.append(one)
        try:
            yield one
        finally:
            EVERYTHING.clear()
            one.close()


PATH = st.sampled_from([*SHARED * 3, *FREE])
GUARD = st.sampled_from([*["none"] * 4, "present", "present", "past", "wrong"])
STEP = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([*["update"] * 6, "create", "create", "delete", "rename"]),
        "path": PATH,
        "to": PATH,
        "field": st.sampled_from(FIELDS),
        "value": st.sampled_from(["new", "new", "same", "null"]),
        "text": st.booleans(),
        "chosen": st.booleans(),
        "guard": GUARD,
    }
)
WRITE = st.fixed_dictionaries(
    {
        "steps": st.one_of(
            *[st.lists(STEP, min_size=1, max_size=1)] * 3,
            st.lists(STEP, min_size=2, max_size=4),
        ),
        "keyed": st.booleans(),
        "gateway": st.integers(0, 1),
    }
)


class Writes(RuleBasedStateMachine):
    """One example."""

    def __init__(self) -> None:
        super().__init__()
        self.world = EVERYTHING[0]
        self.world.examples += 1
        self.name = f"example_{self.world.examples}"
        self.folder = self.world.folder / self.name
        self.folder.mkdir()
        self.attempts: list[Attempt] = []
        self.keyed: dict[str, tuple[str, dict[str, Any]]] = {}  # token -> query, variables
        self.gateways: list[Gateway] = []
        self.random = random.Random(self.world.examples)
        self.kills = self.outages = self.hangs = 0
        self.has_lagged = False

    @initialize(count=st.integers(1, 2))
    def begin(self, count: int) -> None:
        self.world.run(self._begin(count))

    async def _begin(self, count: int) -> None:
        repository = self.folder / "repository.git"
        shutil.copytree(self.world.folder / "template.git", repository)
        self.base = head_of(repository)
        self.github = GitHub(repository, limits=Limits.off())
        await self.github.start()
        await self.world.postgres.create_database(self.name, template="ours")
        self.environment = environment(self.github, self.world.postgres.url_of(self.name))
        await self._sync()
        self.gateways = [
            Gateway(self.environment, self.folder / f"{number}.log") for number in range(count)
        ]
        await asyncio.gather(*(gateway.start() for gateway in self.gateways))

    # What callers do

    @rule(
        writes=st.lists(WRITE, min_size=1, max_size=8),
        meanwhile=st.sampled_from([*["nothing"] * 6, "kill", "abandon", "outage", "push"]),
    )
    def write(self, writes: list[dict[str, Any]], meanwhile: str) -> None:
        self.world.run(self._write(writes, meanwhile))

    async def _write(self, writes: Sequence[dict[str, Any]], meanwhile: str) -> None:
        asked: list[asyncio.Task[None]] = []
        for write in writes:
            attempt, query, variables = self._attempt(write)
            if write["keyed"]:
                self.keyed[attempt.token] = (query, variables)
            asked.append(
                asyncio.create_task(self._ask(attempt, query, variables, write["gateway"]))
            )
        await self._disturb(meanwhile, asked)
        for ended in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        await self._recover()

    @precondition(lambda self: self.keyed)
    @rule(which=st.integers(0, 1_000), gateway=st.integers(0, 1))
    def write_again(self, which: int, gateway: int) -> None:
        """The same key with the same content, whatever came of it before."""
        token = list(self.keyed)[which % len(self.keyed)]
        [attempt] = [attempt for attempt in self.attempts if attempt.token == token]
        self.world.run(self._ask(attempt, *self.keyed[token], gateway))

    @precondition(lambda self: self.keyed)
    @rule(which=st.integers(0, 1_000), gateway=st.integers(0, 1))
    def write_something_else(self, which: int, gateway: int) -> None:
        """The same key with other content."""
        token = list(self.keyed)[which % len(self.keyed)]
        [attempt] = [attempt for attempt in self.attempts if attempt.token == token]
        if attempt.commits and self._has_landed(token):  # what changed nothing uses up no key
            query, variables = self.keyed[token]
            answer = self.world.run(self._send(gateway, query, _altered(variables)))
            assert answer.errors, "the key was used before"
            assert answer.code != "OUTCOME_UNKNOWN", "there was nothing to be sent"

    # What hypothesis is asked must not hang on what happened: that is never the same twice.
    @precondition(lambda self: self.attempts)
    @rule(gateway=st.integers(0, 1))
    def read(self, gateway: int) -> None:
        """What was acknowledged is seen at once by all, unless the answer calls itself old."""
        commits = [commit for attempt in self.attempts for commit in attempt.commits]
        if not commits:
            return
        commit = commits[-1]
        answer = self.world.run(
            self._send(
                gateway,
                "query($at: GitObjectID) { sessions(first: 1, atLeast: $at)"
                " { provenance { commit stale } } }",
                {"at": commit},
            )
        )
        if answer.data and answer.data["sessions"]:
            seen = answer.data["sessions"]["provenance"]
            if not seen["stale"]:
                git(self.github.path, "merge-base", "--is-ancestor", commit, seen["commit"])

    # What others do

    @rule(
        fault=st.sampled_from([*QUICK_FAULTS, *SLOW_FAULTS]),
        count=st.integers(1, 3),
        nth=st.sampled_from([None, None, 2]),
        operation=st.sampled_from([None, "mutation"]),
    )
    def fail(self, fault: tuple[Any, Any], count: int, nth: int | None, operation: Any) -> None:
        kind, when = fault
        if fault in SLOW_FAULTS:
            self.hangs += 1
            count, nth, operation = 1, None, "mutation"
            if self.hangs > 2:
                return
        if kind in {"resource_limits", "corrupted_blob"}:
            operation = None
        if kind == "lagging_head":
            self.has_lagged = True
        if nth:
            count = 1
        added = Fault(
            kind=kind,
            when=when,
            count=count,
            nth=nth,
            operation=operation,
            ms=40 if kind == "latency" else 0,
            retry_after=1,
            files={SHARED[0]: TEXT.replace("open", f"moved-{len(self.attempts)}")},
        )
        self.world.loop.call_soon_threadsafe(self.github.faults.add, added)

    @rule(path=PATH, gone=st.sampled_from([False, False, True]))
    def push(self, path: str, gone: bool) -> None:  # drawn by hypothesis
        self.world.run(self._push(path, gone=gone))

    async def _push(self, path: str, *, gone: bool) -> None:
        tree = git(self.github.path, "ls-tree", "-r", "--name-only", "main").decode().split("\n")
        if gone and path not in tree:
            return
        text = TEXT.replace("open", f"pushed-{self.random.randrange(1_000_000)}")
        with suppress(Exception):  # the gateway was faster, as it may be
            await asyncio.to_thread(push, self.github.path, {path: None if gone else text.encode()})

    @rule()
    def sync(self) -> None:
        self.world.run(self._try_to_sync())

    @invariant()
    def count(self) -> None:
        self.world.steps += 1

    # The end

    def teardown(self) -> None:
        try:
            if self.gateways:
                self.world.run(self._end())
        except BaseException:
            for gateway in self.gateways:
                note(gateway.log.read_text()[-4_000:])
            raise
        finally:
            self.world.run(self._close())

    async def _end(self) -> None:
        """When all is quiet and one sync has run, everything is as it should be."""
        self.github.faults.clear()
        await self.world.postgres.start()
        await asyncio.gather(*(gateway.stop() for gateway in self.gateways))
        check(History(self.github.path, self.base), self.attempts)
        await self._sync()
        await self._check_cache()

    async def _check_cache(self) -> None:
        async with open_parts(load(self.environment)) as parts:
            cache, layout = parts.reconciler.cache, parts.reconciler.layout
            rows = await rows_of(cache)
            expected = documents_at(self.github.path, "main", layout)
            assert rows.keys() == expected.keys()
            for path, item in expected.items():
                assert replace(rows[path], unreadable=item.unreadable) == item
            async with cache.snapshot() as snapshot:
                assert snapshot.head is not None
                assert snapshot.head.commit == head_of(self.github.path)
                trees = directories_at(self.github.path, "main", layout)
                known = {
                    path: tree for path, tree in (await snapshot.directories()).items() if tree
                }
                assert known.items() <= trees.items()

    async def _close(self) -> None:
        for gateway in self.gateways:
            await gateway.kill()
        await self.github.stop()
        await self.world.postgres.start()
        await self.world.postgres.drop_database(self.name)
        shutil.rmtree(self.folder)

    # How

    def _attempt(self, write: dict[str, Any]) -> tuple[Attempt, str, dict[str, Any]]:
        token = f"token-{len(self.attempts)}"
        steps = [
            self._step(token, number, step, write) for number, step in enumerate(write["steps"])
        ]
        attempt = Attempt(token, steps, self.base if self.has_lagged else self._head())
        self.attempts.append(attempt)
        said: dict[str, Any] = {"message": token}
        if write["keyed"]:
            said["idempotencyKey"] = token
        if len(steps) > 1:
            operations = [_operation(step) for step in steps]
            return attempt, COMMIT, {"operations": operations, **said}
        [step] = steps
        query = {"create": CREATE, "update": UPDATE, "delete": DELETE, "rename": COMMIT}[step.kind]
        if step.kind == "rename":
            return attempt, query, {"operations": [_operation(step)], **said}
        [input] = _operation(step).values()
        return attempt, query, {"input": input | said}

    def _step(self, token: str, number: int, step: dict[str, Any], write: dict[str, Any]) -> Step:
        kind, path = step["kind"], step["path"]
        own = f"{token}-{number}"
        # A write with a key never asks for what may be so already: that would leave no record.
        same = {"new": own, "same": "same", "null": None}[step["value"]]
        fields = {step["field"]: own if write["keyed"] or kind == "create" else same}
        text = f"Text of {own}.\n" if kind == "create" or step["text"] else None
        if kind == "create":
            chosen = step["chosen"]
            return Step(kind=kind, path=None if chosen else path, fields=fields, text=text)
        expected = self._revision(path, step["guard"])
        if kind == "update":
            return Step(kind=kind, path=path, fields=fields, text=text, expected=expected)
        to = step["to"] if kind == "rename" and step["to"] != path else None
        return Step(kind="rename" if to else "delete", path=path, to=to, expected=expected)

    def _revision(self, path: str, guard: str) -> str | None:
        if guard == "none":
            return None
        revisions = git(
            self.github.path, "log", "--format=", "--raw", "--no-abbrev", "main", "--", path
        )
        known = [line.split()[3] for line in revisions.decode().splitlines() if line]
        known = [oid for oid in known if set(oid) != {"0"}]
        place = {"present": 0, "past": -1}.get(guard)
        return known[place] if known and place is not None else "0" * 40

    async def _ask(
        self, attempt: Attempt, query: str, variables: dict[str, Any], gateway: int
    ) -> None:
        place = len(attempt.answers)
        attempt.answers.append(Answer(None, is_lost=True))  # if we are cancelled
        attempt.answers[place] = await self._send(gateway, query, variables)
        attempt.until = self._head()

    async def _send(self, gateway: int, query: str, variables: dict[str, Any]) -> Answer:
        answer = await self.gateways[gateway % len(self.gateways)].ask(query, **variables)
        assert answer.code != "INTERNAL", answer.errors
        self.world.told["lost" if answer.is_lost else answer.code or "done"] += 1
        return answer

    async def _disturb(self, meanwhile: str, asked: Sequence[asyncio.Task[None]]) -> None:
        await asyncio.sleep(self.random.uniform(0, 0.05))
        if meanwhile == "kill" and self.kills < 2:
            self.kills += 1
            await self.random.choice(self.gateways).kill()
        elif meanwhile == "outage" and self.outages < 1:
            self.outages += 1
            await self.world.postgres.kill()
        elif meanwhile == "abandon":
            for task in asked[::2]:
                task.cancel()
        elif meanwhile == "push":
            await self._push(self.random.choice(SHARED), gone=False)

    async def _recover(self) -> None:
        for gateway in self.gateways:
            if not gateway.is_alive:
                await gateway.start()
        if self.random.random() < 0.5:
            await self.world.postgres.start()

    def _has_landed(self, token: str) -> bool:
        return bool(git(self.github.path, "log", "-1", "-E", f"--grep=^(\\* )?{token}$", "main"))

    def _head(self) -> str:
        return head_of(self.github.path)

    async def _try_to_sync(self) -> None:
        with suppress(Exception):  # whatever fails it, the next will do
            await self._sync()

    async def _sync(self) -> None:
        # As a worker does: only the gateways are in a hurry.
        patient = {"MASTER_TIMEOUT_SECONDS": "20", "DATABASE_TIMEOUT_SECONDS": "20"}
        async with open_parts(load(self.environment | patient)) as parts:
            report = await parts.reconciler.run()
            # LAGGING: a write of unknown outcome may land yet, and the head is not called fresh.
            assert report.outcome is not Outcome.SUPERSEDED, report


def _operation(step: Step) -> dict[str, Any]:
    guard = {"expectedRevision": step.expected} if step.expected else {}
    text = {} if step.text is None else {"markdown": step.text}
    match step.kind:
        case "create":
            return {"createSession": {"title": "Title", "path": step.path, **text, **step.fields}}
        case "update":
            return {"updateSession": {"id": step.path, **guard, **text, **step.fields}}
        case "delete":
            return {"delete": {"id": step.path, **guard}}
        case "rename":
            return {"rename": {"id": step.path, "path": step.to, **guard}}


def _altered(variables: dict[str, Any]) -> dict[str, Any]:
    if "input" in variables:
        return {"input": variables["input"] | {"message": "another"}}
    return variables | {"message": "another"}


CREATE = """mutation($input: CreateSessionInput!) {
  createSession(input: $input) { session { id } commit { oid } cache }
}"""
UPDATE = """mutation($input: UpdateSessionInput!) {
  updateSession(input: $input) { session { id revision markdown } commit { oid } cache }
}"""
DELETE = """mutation($input: DeleteDocumentInput!) {
  deleteSession(input: $input) { id commit { oid } cache }
}"""
COMMIT = """
mutation($operations: [DocumentOperation!]!, $message: String, $idempotencyKey: String) {
  commitDocuments(operations: $operations, message: $message, idempotencyKey: $idempotencyKey) {
    documents { id } commit { oid } cache
  }
}"""


@pytest.mark.timeout(14_400 if DEEP else 900)
def test_whatever_fails_no_write_is_lost_doubled_or_overwritten(everything: Everything) -> None:
    try:
        run_state_machine_as_test(
            seed(SEED)(Writes),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                # What runs at once never runs the same way twice: less of it may not fail at all.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except BaseException as error:
        error.add_note(f"WRITES_SEED={SEED}")
        raise
    print(f"seed {SEED}: {everything.steps} steps, {everything.told}")  # noqa: T201
    assert everything.steps > (20_000 if DEEP else 1_000)
    assert everything.told["done"] > (2_000 if DEEP else 100)
