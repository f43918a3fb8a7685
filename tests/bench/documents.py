"""The documents that are measured with: a bare repository with as many as are asked for."""

import random
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from sandbox.github.create import prepare

YEARS = 3  # that the documents are spread over, a directory a month
HOT_DAYS = 30
WORDS = ("the", "cache", "master", "index", "head", "commit", "память", "проект", "синхронизация")
NOTHING: Mapping[str, bytes] = MappingProxyType({})

Written: TypeAlias = Callable[[int, date, random.Random], bytes]


def body(chance: random.Random) -> str:
    """A text of a few KB."""
    return " ".join(chance.choices(WORDS, k=chance.randrange(100, 500)))


def plain(n: int, day: date, chance: random.Random) -> bytes:
    """A session with little metadata."""
    return (
        f"---\ntitle: Session {n}\ndate: {day}\nstatus: done\n---\n# Session {n}\n"
        f"{body(chance)}\n".encode()
    )


def make_repository(
    target: Path, size: int, *, written: Written = plain, besides: Mapping[str, bytes] = NOTHING
) -> list[str]:
    """A bare repository with so many sessions, the older ones committed two months ago.

    Returns their paths, the newest first. `besides`: other files, by path.
    """
    git("init", "--quiet", "--bare", "--initial-branch=main", str(target))
    chance = random.Random(size)
    today = datetime.now(UTC).date()
    old, new = dict(besides), dict[str, bytes]()
    paths = []
    for n in range(size):
        day = today - timedelta(days=n * 365 * YEARS // size)
        path = f"autosaves/{day:%Y}/{day:%m}/autosave_{day}_{n:06}.md"
        is_old = (today - day).days >= HOT_DAYS
        (old if is_old else new)[path] = written(n, day, chance)
        paths.append(path)
    now = int(time.time())
    _commit(target, old, now - 2 * HOT_DAYS * 86_400)
    _commit(target, new, now)
    prepare(target)
    return paths


def change(repository: Path, paths: list[str]) -> None:
    files = {path: b"# Changed %d\n" % time.time_ns() for path in paths}
    _commit(repository, files, int(time.time()))


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], check=True, capture_output=True).stdout


def _commit(repository: Path, files: dict[str, bytes], at: int) -> None:
    importing = subprocess.Popen(
        ["git", "-C", str(repository), "fast-import", "--quiet", "--date-format=raw"],
        stdin=subprocess.PIPE,
    )
    assert importing.stdin is not None
    write = importing.stdin.write
    write(b"commit refs/heads/main\ncommitter Bench <bench@example.org> %d +0000\n" % at)
    write(b"data 6\nCommit\n")
    if git("-C", str(repository), "branch", "--list", "main"):
        write(b"from refs/heads/main^0\n")
    for path, text in files.items():
        write(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(text), text))
    importing.stdin.close()
    if importing.wait(600):
        raise RuntimeError("git fast-import failed")
