"""Twenty thousand hostile requests: each is refused or answered, and nothing else happens.

`FUZZ_SEED=5 FUZZ_REQUESTS=200000 pytest tests/test_fuzz.py` goes looking for more.
"""

import asyncio
import gzip
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from api.master.messages import records
from sandbox.github import GitHub
from tests.clone import git
from tests.hostile import EVERY, Hostile, hostile
from tests.sync.conftest import LAYOUT
from tests.sync.oracle import assert_equals_master
from tests.system import running
from tests.truth import QUESTIONS, Truth, put
from tests.writes.gateways import Gateway, environment

SEED = int(os.environ.get("FUZZ_SEED", "1"))
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "20000"))
CONNECTIONS = 4
GROWTH = 10_000_000  # bytes
SETTINGS = {
    "RETENTION_DAYS": "36500",  # so that every body is in the cache, to be compared
    "DATABASE_TIMEOUT_SECONDS": "30",
    "MASTER_TIMEOUT_SECONDS": "30",
    "WRITE_TIMEOUT_SECONDS": "60",
}


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One that is kept alive, and opened again whenever the gateway has hung up."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, asked: Hostile) -> Answered | None:
        """The answer. None if the gateway hung up without one."""
        try:
            if self._reader is None or self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._writer.write(asked.sent)
            await self._writer.drain()
            answered = await _answer(self._reader, has_body=asked.has_body)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            return None
        if answered.headers.get("connection") == "close":
            self.close()
        return answered

    def close(self) -> None:
        if self._writer:
            self._writer.close()
        self._reader = self._writer = None


async def _answer(reader: asyncio.StreamReader, *, has_body: bool) -> Answered:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.splitlines()
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)
    }
    length = int(headers.get("content-length", "0")) if has_body else 0
    if "content-length" in headers or not has_body:
        body = await reader.readexactly(length)
    else:
        body = await reader.read()  # until it hangs up
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    return Answered(int(first.split()[1]), headers, body)


@dataclass
class Saved:
    """What mutations have answered that they saved."""

    successes: int = 0
    commits: set[str] = field(default_factory=set)
    untold: int = 0  # successes of which the commit was not asked for

    def take(self, content: Mapping[str, Any]) -> None:
        data = content.get("data") or {}
        for value in data.values():
            if isinstance(value, dict):
                told = {
                    one["oid"] for one in value.values() if isinstance(one, dict) and "oid" in one
                }
                self.successes += 1
                self.commits |= told
                self.untold += not told
        for error in content.get("errors", ()):
            if commit := error["extensions"].get("commit"):
                self.successes += 1
                self.commits.add(commit)


def check(asked: Hostile, answered: Answered | None) -> None:
    """Raises AssertionError."""
    if answered is None or not asked.is_http:
        assert not asked.is_http, "it hung up"
        assert answered is None or answered.status in asked.statuses, "wrong status"
        return
    assert answered.status < 500, "it broke"
    assert answered.status in asked.statuses, "wrong status"
    if not asked.has_body or answered.status == 204:
        return
    content = answered.content
    assert isinstance(content, dict)
    assert content.keys() <= {"data", "errors"}
    assert content, "neither data nor errors"
    for error in content.get("errors", ()):
        assert error["message"], "an error that says nothing"
        assert error["extensions"]["code"] in asked.codes, "unexpected code"
    if asked.refused:
        assert content.get("errors"), "not refused"
        assert not any((content.get("data") or {}).values()), "done all the same"
    if asked.titles:
        documents = content["data"]["commitDocuments"]["documents"]
        assert [document["title"] for document in documents] == asked.titles


@dataclass
class Attack:
    """All requests, over a few connections. `wrong`: which of them were answered wrongly."""

    port: int
    saved: Saved = field(default_factory=Saved)
    wrong: list[str] = field(default_factory=list)
    sent: int = 0

    async def send(self, numbers: Iterable[int]) -> None:
        left = iter(numbers)
        await asyncio.gather(*(self._send(left) for _ in range(CONNECTIONS)))
        assert not self.wrong, "\n\n".join(self.wrong[:5])

    async def _send(self, numbers: Iterable[int]) -> None:
        connection = Connection(self.port)
        for number in numbers:
            kind, asked = hostile(SEED, number)
            answered = await connection.send(asked)
            self.sent += 1
            try:
                check(asked, answered)
                if answered and asked.is_http and b"mutation" in asked.sent:
                    self.saved.take(answered.content)
            except (AssertionError, ValueError, LookupError, TypeError) as error:
                self.wrong.append(_told(number, kind, asked, answered, error))
        connection.close()


def _told(
    number: int, kind: str, asked: Hostile, answered: Answered | None, error: Exception
) -> str:
    """What was wrong, and how to see it again."""
    answer = f"{answered.status} {answered.body[:1_000]!r}" if answered else "nothing"
    return (
        f"hostile({SEED}, {number}), {kind}: {error}\n"
        f"sent: {asked.sent[:3_000]!r}\nanswered: {answer}"
    )


def check_history(repository: Path, before: str, after: str, saved: Saved) -> None:
    """Each commit is one that a mutation has answered for, and holds documents alone."""
    history = git(repository, "rev-list", f"{before}..{after}").decode().split()
    assert saved.commits <= {before, *history}
    assert len(history) - len(saved.commits & set(history)) <= saved.untold
    writes = [
        record
        for commit in history
        for record in records(git(repository, "log", "-1", "--format=%B", commit).decode())
    ]
    assert len(writes) <= saved.successes
    changed = git(repository, "diff", "--name-only", "-z", before, after).decode().split("\0")
    assert all(LAYOUT.collection_of(path) and path.endswith(".md") for path in changed if path)


@pytest.mark.timeout(900)
async def test_hostile_requests_are_refused_or_answered_and_nothing_else_happens(
    github: GitHub, database_url: str, tmp_path: Path
) -> None:
    settings = environment(github, database_url, **SETTINGS)
    before = github.head
    assert before
    async with running(github, database_url, SETTINGS) as system:
        await system.sync()
    gateway = Gateway(settings, tmp_path / "gateway.log")
    await gateway.start()
    try:
        process, attack = psutil.Process(gateway.pid), Attack(gateway.port)

        await attack.send(range(REQUESTS // 2))
        at_half_time = process.memory_info().rss
        await attack.send(range(REQUESTS // 2, REQUESTS))
        at_the_end = process.memory_info().rss

        assert attack.sent == REQUESTS
        assert at_the_end - at_half_time <= GROWTH
        truth = Truth(github.path)
        for question in QUESTIONS:
            truth.check(await put(gateway, question))
    finally:
        await gateway.stop()
    log = gateway.log.read_text()
    assert "ERROR" not in log
    assert "Traceback" not in log
    assert github.head
    assert len(attack.saved.commits) >= REQUESTS // EVERY
    check_history(github.path, before, github.head, attack.saved)
    async with running(github, database_url, SETTINGS) as system:
        await assert_equals_master(system.parts.gateway.cache, github.path, LAYOUT)
