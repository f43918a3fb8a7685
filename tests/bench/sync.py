"""What a sync and a health check cost: `make bench-sync`, or `python -m tests.bench.sync 1000`.

For each number of documents, in one run on one machine: the first build, nothing changed, one and
a hundred changed, and a health check, each in a process of its own against the stand-in without
latency; and beside it the floor: `git clone` and hashing every file. Prints Markdown.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from api.cache.migrate import migrate
from api.settings import load
from api.sync.health import check_health
from api.wiring import Parts, open_parts
from sandbox.github import DEFAULT_TOKEN
from sandbox.postgres import Postgres
from sandbox.processes import free_port
from tests.bench.documents import change, git, make_repository

SIZES = (1_000, 10_000, 100_000)
CHANGES = {"1 change": 1, "100 changes": 100}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one operation: `seconds` of wall time, `peak` memory of its process in MB."""

    requests: int
    statements: int
    seconds: float
    peak: float
    outcome: str


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(asyncio.run(_one(sys.argv[2]))))  # noqa: T201
        return
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    print(f"{date.today()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}\n")  # noqa: T201, DTZ011
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="annoris-bench-") as directory:
            asyncio.run(_table(size, Path(directory)))


async def _table(size: int, directory: Path) -> None:
    repository = directory / "repository.git"
    paths = make_repository(repository, size)
    floor = _floor(repository, directory / "clone")
    async with Postgres(directory / "postgres") as postgres:
        await migrate(postgres.url)
        with _github(repository) as url:
            environment = {
                "DATABASE_URL": postgres.url,
                "GITHUB_API_URL": url,
                "GITHUB_TOKEN": DEFAULT_TOKEN,
                "GITHUB_REPOSITORY": "annoris/documents",
                "DATABASE_TIMEOUT_SECONDS": "30",
            }
            costs = {"first build": _run("sync", environment)}
            costs["no change"] = _run("sync", environment)
            for name, count in CHANGES.items():
                change(repository, random.Random(count).sample(paths, count))
                costs[name] = _run("sync", environment)
            costs["health check"] = _run("check", environment)
    _print(size, floor, costs)


def _print(size: int, floor: float, costs: dict[str, Cost]) -> None:
    lines = [
        f"**{size:,} documents**; the floor, `git clone` and hashing every file: {floor:.1f} s",
        "",
        "| operation | requests | SQL statements | seconds | x floor | peak memory, MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {cost.requests} | {cost.statements} | {cost.seconds:.2f} | "
            f"{cost.seconds / floor:.2f} | {cost.peak:.0f} |"
            for name, cost in costs.items()
        ),
        "",
    ]
    print("\n".join(lines), flush=True)  # noqa: T201


def _run(what: str, environment: dict[str, str]) -> Cost:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.sync", "--one", what],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        timeout=3600,
    )
    return Cost(**json.loads(done.stdout))


async def _one(what: str) -> dict[str, object]:
    """Carry out one operation in this process."""
    async with open_parts(load()) as parts:
        sent = parts.gateway.cache.database.statements
        start = time.perf_counter()
        requests, outcome = await (_sync(parts) if what == "sync" else _check(parts))
        seconds = time.perf_counter() - start
        statements = parts.gateway.cache.database.statements - sent
    return {
        "requests": requests,
        "statements": statements,
        "seconds": seconds,
        "peak": _peak(),
        "outcome": outcome,
    }


async def _sync(parts: Parts) -> tuple[int, str]:
    report = await parts.reconciler.run()
    return report.requests, f"{report.outcome} {report.added} {report.changed} {report.removed}"


async def _check(parts: Parts) -> tuple[int, str]:
    report = await check_health(parts.reconciler)
    return report.requests, f"{report.documents} {len(report.drift)}"


def _peak() -> float:
    """The most memory that this process has had, in MB. Not ru_maxrss, which begins before exec."""
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


@contextmanager
def _github(repository: Path) -> Iterator[str]:
    """The stand-in in a process of its own, so that its memory and work are not ours."""
    port = free_port()
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "sandbox.github", "--no-limits"),
            *("--repo", str(repository), "--port", str(port)),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        server.stdout.readline()  # it says so when it listens
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _floor(repository: Path, clone: Path) -> float:
    """Seconds for git itself to fetch every document and to hash it."""
    start = time.perf_counter()
    git("clone", "--quiet", f"file://{repository}", str(clone))
    listed = git("-C", str(clone), "ls-files", "-z").decode().split("\0")
    paths = "\n".join(path for path in listed if path)
    subprocess.run(
        ["git", "-C", str(clone), "hash-object", "--stdin-paths"],
        input=paths.encode(),
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
