"""Keeping the cache true from the command line: sync, health check and rebuild."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest
from click.testing import CliRunner
from sqlmodel import insert

from api.cache.database import Database
from api.cache.tables import WorkerRow
from api.cli import main
from api.master.master import BLOBS_A_REQUEST
from sandbox.github import Fault, GitHub
from sandbox.postgres import Postgres
from tests.clone import Clone
from tests.system import System
from tests.test_cli import ROOT

STEP = 200  # documents that a rebuild reads before it lays them out
DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
SESSIONS = "{ sessions { totalCount provenance { source fallback } } }"
WAITING = b"Another sync is under way: waiting for its end.\n"


@pytest.fixture
async def environment(github: GitHub, database_url: str) -> dict[str, str]:
    return environment_of(github, database_url)


def environment_of(github: GitHub, database_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "GITHUB_TOKEN": github.token,
        "GITHUB_REPOSITORY": github.hosting.name,
        "GITHUB_API_URL": github.url,
        "DATABASE_TIMEOUT_SECONDS": "20",  # so that no busy machine is taken for a dead one
    }


async def annoris(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error. Run in a thread of its own: most of the time
    that a process takes here is for imports.
    """
    level = logging.getLogger().level
    run = CliRunner().invoke
    result = await asyncio.to_thread(run, main, arguments, env=environment)
    logging.getLogger().setLevel(level)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


async def execute(database_url: str, statement: str, *values: object) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(statement, *values)
    await connection.close()


async def rows_in(database_url: str, table: str) -> int:
    connection = await asyncpg.connect(database_url)
    count = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
    await connection.close()
    return int(count)


@asynccontextmanager
async def started(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command that runs. It does not outlive the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "api.cli",
        *arguments,
        env=environment,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> bytes:
    assert process.stderr is not None
    return await asyncio.wait_for(process.stderr.readline(), 60)


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


@asynccontextmanager
async def another_sync(system: System) -> AsyncIterator[None]:
    """Somebody else's reconcile, under way for as long as the block lasts."""
    async with system.parts.gateway.cache.turn_to_reconcile() as turn:
        assert turn is not None
        yield


@asynccontextmanager
async def kept_empty(database_url: str) -> AsyncIterator[None]:
    """Nobody can note a new head, and so end a rebuild, for as long as the block lasts."""
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("LOCK TABLE applied_commits IN EXCLUSIVE MODE")
        yield
    await connection.close()


async def until_empty(system: System) -> None:
    async with asyncio.timeout(60):
        while True:
            async with system.parts.gateway.cache.snapshot() as snapshot:
                if snapshot.head is None:
                    return
            await asyncio.sleep(0.01)


# The health check


async def test_a_health_check_only_reports_and_names_the_command_that_repairs(
    environment: dict[str, str], database_url: str
) -> None:
    await annoris("sync", **environment)
    await execute(database_url, "UPDATE sessions SET title = 'Other' WHERE path = $1", DRILL)

    for _ in range(2):  # the second finds what the first did
        code, output, errors = await annoris("health-check", **environment)

        assert code == 1
        lines = output.splitlines()
        assert lines[0].startswith("checked: 10 documents at the commit ")
        assert lines[1:] == [
            "bodies: 10, each hashed",
            "drifted: 1",
            "  wrong metadata: 1",
            f"    {DRILL}",
            "repaired: 0",
            "consistency: 90 % (0.5 nines, n = 10)",
        ]
        assert errors == (
            "1 of 10 documents had drifted. To repair them from GitHub, run: "
            "annoris health-check --repair\n"
        )


async def test_with_repair_it_puts_right_what_has_drifted(
    environment: dict[str, str], database_url: str
) -> None:
    await annoris("sync", **environment)
    await execute(database_url, "DELETE FROM sessions WHERE path = $1", DRILL)

    code, output, errors = await annoris("health-check", "--repair", **environment)

    assert (code, errors) == (0, "")
    assert "drifted: 1\n  missing: 1\n" in output
    assert "repaired: 1\n" in output
    code, output, _ = await annoris("health-check", **environment)
    assert code == 0
    assert "drifted: none\n" in output
    assert output.endswith("consistency: 100 % (0.5 nines, n = 10)\n")


async def test_of_many_paths_twenty_are_shown_and_json_has_all(
    environment: dict[str, str], database_url: str, clone: Clone
) -> None:
    paths = sorted(f"autosaves/{i:02}.md" for i in range(23))
    clone.push({path: f"# {path}\n" for path in paths})
    await annoris("sync", **environment)
    await execute(database_url, "DELETE FROM sessions WHERE path = ANY($1)", paths)

    code, output, _ = await annoris("health-check", **environment)
    assert code == 1
    shown = [line.strip() for line in output.splitlines() if line.startswith("    ")]
    assert shown == [*paths[:20], "and 3 more; --json has them all"]

    code, output, _ = await annoris("health-check", "--json", **environment)
    assert code == 1
    report = json.loads(output)
    assert report["drift"] == dict.fromkeys(paths, "missing")
    assert report["kinds"] == {"missing": 23}
    assert (report["drifted"], report["repaired"]) == (23, 0)


async def test_a_path_does_nothing_to_the_terminal_that_shows_it(
    environment: dict[str, str], database_url: str, clone: Clone
) -> None:
    clone.push({"autosaves/\x1b[2Jclear.md": "# a\n", "autosaves/Ёжик 🦔.md": "# b\n"})
    await annoris("sync", **environment)
    await execute(database_url, "UPDATE sessions SET title = 'x' WHERE directory = 'autosaves'")

    _, output, _ = await annoris("health-check", **environment)

    assert "\x1b" not in output
    assert "    'autosaves/\\x1b[2Jclear.md'\n" in output
    assert "    autosaves/Ёжик 🦔.md\n" in output


# Sync


async def test_a_sync_that_leaves_it_to_another_says_so_and_has_done_nothing(
    environment: dict[str, str], system: System, clone: Clone
) -> None:
    clone.push({DRILL: None})
    async with another_sync(system):
        code, output, errors = await annoris("sync", **environment)

    assert (code, output) == (1, "")
    assert errors.startswith("Nothing was done: another sync is under way")
    assert await rows_in(environment["DATABASE_URL"], "sync_log") == 0


async def test_an_older_head_is_explained(
    environment: dict[str, str], github: GitHub, clone: Clone
) -> None:
    old = github.head
    await annoris("sync", **environment)
    clone.push({DRILL: None})
    await annoris("sync", **environment)
    github.faults.add(Fault(kind="lagging_head", head=old, count=None))

    code, output, errors = await annoris("sync", "--json", **environment)

    assert code == 1
    assert json.loads(output)["outcome"] == "lagging"
    assert errors.startswith("Nothing was done: GitHub named an older commit")


async def test_a_cache_that_changes_meanwhile_is_explained(
    environment: dict[str, str], github: GitHub, system: System, clone: Clone
) -> None:
    clone.push({DRILL: "# Changed\n"})
    fault = github.faults.add(Fault(kind="latency", operation_name="Blobs", ms=2_000))
    async with started("sync", **environment) as process:
        await fault.wait_until_struck()
        await system.parts.gateway.cache.empty()
        code, output, errors = await ended(process)

    assert (code, output) == (1, "")
    assert errors.startswith("Nothing was done: a write or another sync was faster")


# Rebuild


async def test_a_rebuild_builds_anew_from_github_and_says_what_it_cost(
    environment: dict[str, str], github: GitHub, database_url: str
) -> None:
    await annoris("sync", **environment)
    await execute(database_url, "UPDATE sessions SET title = 'Other', markdown = 'x'")
    await execute(database_url, "DELETE FROM directories")

    for _ in range(2):  # once more does the same
        code, output, errors = await annoris("rebuild", "--json", **environment)

        assert (code, errors) == (0, "")
        told = json.loads(output)
        assert (told["commit"], told["documents"]) == (github.head, 10)
        assert told["requests"] > 0
        assert {"seconds", "points", "bytes"} <= told.keys()
        assert (await annoris("health-check", **environment))[0] == 0


async def test_a_rebuild_of_an_empty_database_is_a_first_build(
    environment: dict[str, str],
) -> None:
    code, output, _ = await annoris("rebuild", **environment)

    assert code == 0
    assert "documents: 10" in output.splitlines()


async def test_while_the_cache_is_rebuilt_readers_are_served_from_github(
    environment: dict[str, str], system: System
) -> None:
    async with started("rebuild", **environment) as process:
        async with kept_empty(environment["DATABASE_URL"]):
            await until_empty(system)

            answer = await system.ask(SESSIONS)

            assert answer.errors == []
            assert answer.data["sessions"] == {
                "totalCount": 6,
                "provenance": {"source": "MASTER", "fallback": "CACHE_EMPTY"},
            }
        code, output, errors = await ended(process)

    assert (code, errors) == (0, "")
    assert "documents: 10" in output.splitlines()
    answer = await system.ask(SESSIONS)
    assert answer.data["sessions"]["provenance"] == {"source": "CACHE", "fallback": None}


async def test_an_interrupted_rebuild_says_what_is_left_and_a_sync_goes_on(
    environment: dict[str, str], system: System
) -> None:
    async with (
        kept_empty(environment["DATABASE_URL"]),
        started("rebuild", **environment) as process,
    ):
        await until_empty(system)
        process.send_signal(signal.SIGINT)
        code, output, errors = await ended(process)

    assert (code, output) == (1, "")
    assert errors.startswith("Interrupted. The cache is empty and reads come from GitHub.")
    assert errors.count("\n") == 1
    await system.sync()
    assert (await annoris("health-check", **environment))[0] == 0


async def test_a_rebuild_waits_for_another_sync_and_readers_have_the_cache_meanwhile(
    environment: dict[str, str], system: System
) -> None:
    async with started("rebuild", **environment) as process:
        async with another_sync(system):
            assert await line_of(process) == WAITING
            answer = await system.ask(SESSIONS)
            assert answer.data["sessions"]["provenance"] == {"source": "CACHE", "fallback": None}
        code, output, errors = await ended(process)

    assert (code, errors) == (0, "")
    assert "documents: 10" in output.splitlines()


async def test_a_rebuild_that_is_interrupted_while_it_waits_has_changed_nothing(
    environment: dict[str, str], system: System
) -> None:
    async with another_sync(system), started("rebuild", **environment) as process:
        assert await line_of(process) == WAITING
        process.send_signal(signal.SIGINT)
        code, output, errors = await ended(process)

    assert (code, output) == (1, "")
    head = system.github.head
    assert errors == f"Interrupted. The cache is in use, as of the commit {head}.\n"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_what_an_interrupted_rebuild_has_read_is_not_read_again(
    environment: dict[str, str],
    github: GitHub,
    clone: Clone,
    database_url: str,
    end: signal.Signals,
) -> None:
    clone.push({f"autosaves/{i:03}.md": f"# Number {i}\n" for i in range(690)})
    nth = 2 * STEP // BLOBS_A_REQUEST + 1  # in the third step, when two are laid out
    hang = github.faults.add(Fault(kind="hang", operation_name="Blobs", nth=nth))
    async with started("rebuild", **environment, MASTER_TIMEOUT_SECONDS="60") as process:
        await hang.wait_until_struck()
        process.send_signal(end)
        code, _, _ = await ended(process)
    assert code != 0
    assert await rows_in(database_url, "staged_sessions") >= STEP
    github.requests.clear()

    code, output, errors = await annoris("rebuild", "--json", **environment)

    assert (code, errors) == (0, "")
    assert json.loads(output)["documents"] == 700
    asked = [request.operation_name for request in github.requests].count("Blobs")
    assert asked <= (700 - 2 * STEP) // BLOBS_A_REQUEST + 2
    assert (await annoris("health-check", **environment))[0] == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(kind="bad_gateway", count=None), "GitHub answered with status 502"),
        (Fault(kind="bad_credentials", count=None), "GitHub refused the credentials"),
    ],
)
async def test_a_github_that_refuses_us_does_not_cost_the_cache(
    environment: dict[str, str], github: GitHub, system: System, fault: Fault, words: str
) -> None:
    github.faults.add(fault)

    code, output, errors = await annoris("rebuild", **environment)

    assert (code, output) == (1, "")
    assert words in errors
    assert errors.endswith(f"The cache is in use, as of the commit {github.head}.\n")
    answer = await system.ask("{ sessions { provenance { source } } }")
    assert answer.data["sessions"]["provenance"]["source"] == "CACHE"


async def test_when_github_fails_in_the_middle_it_is_said_what_is_left(
    environment: dict[str, str], github: GitHub, system: System
) -> None:
    github.faults.add(Fault(kind="bad_gateway", operation_name="Trees", count=None))

    code, _, errors = await annoris("rebuild", **environment)

    assert code == 1
    assert "The cache is empty and reads come from GitHub. Run it again" in errors
    assert errors.count("\n") == 1
    github.faults.clear()
    await system.sync()
    answer = await system.ask("{ sessions { totalCount provenance { source } } }")
    assert answer.data["sessions"] == {"totalCount": 6, "provenance": {"source": "CACHE"}}


async def test_without_postgresql_there_is_nothing_to_rebuild(
    github: GitHub, postgres: Postgres
) -> None:
    await postgres.kill()

    code, output, errors = await annoris("rebuild", **environment_of(github, postgres.url))

    assert (code, output) == (1, "")
    assert errors.splitlines()[-1].endswith(
        "Reads come from GitHub while PostgreSQL is down. Run it again when it is back."
    )
    assert "Traceback" not in errors


# Status


async def test_status_tells_of_the_worker_the_last_sync_and_the_last_health_check(
    environment: dict[str, str], github: GitHub, clone: Clone, database_url: str
) -> None:
    async def status() -> dict[str, dict[str, object] | None]:
        code, output, errors = await annoris("status", "--json", **environment)
        assert code == 0, errors
        told: dict[str, dict[str, object] | None] = json.loads(output)
        return told

    before = await status()
    assert [before[name] for name in ("worker", "last_sync", "last_health_check")] == [None] * 3
    clone.push({"autosaves/binary.md": b"\0\xff"})
    await annoris("sync", **environment)
    await annoris("health-check", **environment)
    now = datetime.now(UTC)
    async with (
        Database(database_url, timeout=10) as database,
        database.transaction() as connection,
    ):
        row = {"name": "w1", "started_at": now, "seen_at": now}
        await connection.run(insert(WorkerRow), [row])

    after = await status()

    assert after["worker"] == {"name": "w1", "seen_at": str(now)}
    assert after["last_sync"] is not None
    assert (after["last_sync"]["added"], after["last_sync"]["error"]) == (11, None)
    assert after["last_health_check"] is not None
    assert after["last_health_check"]["commit"] == github.head
    assert after["cache"] is not None
    assert (after["cache"]["documents"], after["cache"]["unreadable"]) == (11, 1)
