"""The `annoris` command, as an operator types it: settings from the environment alone."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from api.cli import _for_ever
from api.settings import Settings
from sandbox.github import Fault, GitHub
from sandbox.processes import free_port
from sandbox.redis import Redis
from tests.clone import Clone, git
from tests.fake_secrets import GITHUB_TOKEN, PASSWORD, url

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
async def environment(github: GitHub, database_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "GITHUB_TOKEN": github.token,
        "GITHUB_REPOSITORY": github.hosting.name,
        "GITHUB_API_URL": github.url,
    }


async def annoris(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "api.cli",
        *arguments,
        env={"PATH": os.environ["PATH"], **environment},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


@pytest.mark.parametrize("command", ["serve", "worker", "start", "migrate", "sync", "status"])
async def test_a_missing_setting_is_one_sentence_and_exit_code_2(command: str) -> None:
    code, output, errors = await annoris(command, GITHUB_TOKEN="canary", GITHUB_REPOSITORY="a/b")

    assert (code, output) == (2, "")
    assert errors.startswith("Cannot start: set DATABASE_URL (")
    assert errors.count("\n") == 1
    assert "canary" not in errors


@pytest.mark.parametrize("command", ["serve", "start"])
async def test_without_keys_nobody_else_is_served(
    environment: dict[str, str], command: str
) -> None:
    code, output, errors = await annoris(command, **environment, HOST="192.0.2.1", PORT="0")

    assert (code, output) == (2, "")
    assert errors.splitlines()[-1].startswith(
        "Cannot start: HOST is 192.0.2.1 and there are no API keys"
    )
    assert "annoris keys new" in errors


async def test_keys_are_made_listed_and_revoked_in_what_is_to_be_set() -> None:
    _, output, _ = await annoris("keys", "new", "claude")
    _, secret, configured = re.split(r"\n\n +(annoris_\S+)\n", output)[0:3]
    configured = configured.splitlines()[-1]
    assert configured.startswith("claude:read+write:")
    assert secret not in configured

    more = ("--scope", "admin", "--until", "2027-06-30")
    _, output, _ = await annoris("keys", "new", "ann", *more, API_KEYS=configured)
    both = output.splitlines()[-1]
    assert both.startswith(f"{configured},ann:admin:")
    assert both.endswith(":2027-06-30")

    _, output, _ = await annoris("keys", "list", API_KEYS=both)
    assert output == "claude: read write\nann: admin, until 2027-06-30\n"

    _, output, _ = await annoris("keys", "revoke", "ann", API_KEYS=both)
    assert output.splitlines()[-1] == configured
    _, output, _ = await annoris("keys", "revoke", "claude", API_KEYS=configured)
    assert "remove API_KEYS" in output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("new", "claude"), 1, "There is a key of the name claude"),
        (("new", "a b"), 1, "No key was made"),
        (("new", "b", "--scope", "root"), 2, "Invalid value"),
        (("new", "b", "--until", "soon"), 2, "Invalid value"),
        (("revoke", "nobody"), 1, "no key of the name nobody"),
    ],
)
async def test_what_is_wrong_about_a_key_is_said(
    arguments: tuple[str, ...], code: int, said: str
) -> None:
    configured = f"claude:read:{'0' * 64}"

    assert (await annoris("keys", *arguments, API_KEYS=configured))[0] == code
    assert said in (await annoris("keys", *arguments, API_KEYS=configured))[2]


async def test_keys_that_cannot_be_read_are_named_and_not_quoted(
    environment: dict[str, str],
) -> None:
    for command in (("keys", "list"), ("serve",)):
        code, _, errors = await annoris(*command, **environment, API_KEYS="a:read:canary")

        assert code == 2
        assert "API_KEYS" in errors
        assert "entry 1" in errors
        assert "canary" not in errors


async def test_a_worker_without_redis_is_refused_in_a_sentence(
    environment: dict[str, str],
) -> None:
    code, _, errors = await annoris("worker", **environment)

    assert code == 2
    assert "REDIS_URL" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["worker", "start"])
async def test_alert_urls_that_nobody_knows_are_refused_at_start(
    environment: dict[str, str], command: str
) -> None:
    code, _, errors = await annoris(
        command,
        **environment,
        REDIS_URL="redis://127.0.0.1:1",
        PORT="0",
        ALERT_URLS="json://127.0.0.1:1, nonsense://canary@host",
    )

    assert code == 2
    assert "correct ALERT_URLS" in errors
    assert "canary" not in errors


async def test_sync_health_check_retention_and_status_tell_what_they_did_as_json(
    environment: dict[str, str], github: GitHub, clone: Clone
) -> None:
    async def run(command: str) -> dict[str, object]:
        code, output, errors = await annoris(command, "--json", **environment)
        assert code == 0, errors
        result: dict[str, object] = json.loads(output)
        return result

    first = await run("sync")
    assert (first["outcome"], first["added"], first["commit"]) == ("applied", 10, github.head)
    assert (await run("sync"))["outcome"] == "unchanged"
    clone.push({"autosaves/new.md": "# New\n", "README.md": None})
    assert (await run("sync"))["added"] == 1
    health = await run("health-check")
    assert (health["documents"], health["drift"], health["consistency"]) == (11, {}, 1.0)
    assert (health["bodies"], health["drifted"], health["kinds"]) == (11, 0, {})
    assert isinstance(health["directories"], dict)
    assert sum(health["directories"].values()) == 11
    assert await run("retention") == {"bodies_dropped": 0}
    status = await run("status")
    assert isinstance(status["cache"], dict)
    assert (status["cache"]["commit"], status["cache"]["documents"]) == (github.head, 11)


async def test_without_json_the_result_is_for_people(environment: dict[str, str]) -> None:
    code, output, _ = await annoris("sync", **environment)

    assert code == 0
    assert "added: 10" in output.splitlines()


async def test_what_fails_is_a_sentence_and_exit_code_1(
    environment: dict[str, str], github: GitHub
) -> None:
    await github.stop()

    code, output, errors = await annoris("sync", **environment)

    assert (code, output) == (1, "")
    assert "GitHub did not answer" in errors
    assert "Traceback" not in errors


async def test_migrate_can_be_run_again(environment: dict[str, str]) -> None:
    code, output, errors = await annoris("migrate", **environment)

    assert (code, output) == (0, "The database is up to date.\n"), errors


def test_every_setting_is_documented_with_its_default() -> None:
    table = (ROOT / "README.md").read_text().split("| variable |")[1].split("\n\n")[0]

    for name, field in Settings.model_fields.items():
        assert f"`{name.upper()}`" in table
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        if default and not field.is_required():
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert f"`{shown.lower() if isinstance(default, bool) else shown}`" in table


def test_the_commands_of_the_readme_exist() -> None:
    from api.cli import main  # noqa: PLC0415

    readme = (ROOT / "README.md").read_text()
    for name in main.commands:
        assert f"`annoris {name}`" in readme


async def started(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    """A command that runs until it is stopped, and serves already."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "api.cli",
        *arguments,
        env={"PATH": os.environ["PATH"], **environment},
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while b"running on" not in (line := await process.stderr.readline()):
            assert line, "it ended"
    return process


@pytest.mark.parametrize("role", ["all", "api"])
async def test_a_port_that_is_taken_is_a_sentence_and_exit_code_1(
    environment: dict[str, str], role: str, redis_server: Redis
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, output, errors = await annoris(
            "start", **environment, PORT=port, ANNORIS_ROLE=role, REDIS_URL=redis_server.url
        )

    assert (code, output) == (1, "")
    assert f"Cannot listen on 127.0.0.1, port {port}" in errors.splitlines()[-1]
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGINT]]
)
async def test_it_ends_when_told_whatever_still_runs_and_saves_what_is_on_its_way(
    environment: dict[str, str],
    github: GitHub,
    redis_server: Redis,
    signals: list[signal.Signals],
) -> None:
    port = free_port()
    process = await started("start", **environment, PORT=str(port), REDIS_URL=redis_server.url)
    assert process.stderr is not None
    slow = github.faults.add(Fault(kind="latency", operation="mutation", ms=1_000))
    query = 'mutation { createSession(input: {title: "On its way", markdown: "x"}) { cache } }'
    async with aiohttp.ClientSession() as http:
        saving = asyncio.create_task(
            http.post(f"http://127.0.0.1:{port}/graphql", json={"query": query})
        )
        await slow.wait_until_struck()
        for number in signals:
            process.send_signal(number)
            await asyncio.sleep(0)
        errors = (await asyncio.wait_for(process.stderr.read(), 60)).decode()
        await asyncio.gather(saving, return_exceptions=True)

    assert await process.wait() == 0
    assert "Traceback" not in errors
    assert "On its way" in git(github.path, "log", "-1", "-p", "--format=%s").decode()


async def test_without_redis_the_api_runs_alone_and_says_so(environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "api.cli",
        "start",
        env={"PATH": os.environ["PATH"], **environment, "PORT": "0"},
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(60):
        while "running on" not in said:
            said += (await process.stderr.readline()).decode()
    process.terminate()
    said += (await process.stderr.read()).decode()

    assert await process.wait() == 0
    assert "No worker runs without REDIS_URL" in said
    assert "Traceback" not in said


async def test_a_worker_that_crashes_is_started_again_and_the_api_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    crashed = asyncio.Event()
    again = asyncio.Event()
    monkeypatch.setattr("api.cli._PAUSE_SECONDS", 0.0)

    async def work() -> None:
        if crashed.is_set():
            again.set()
            await asyncio.Event().wait()
        crashed.set()
        raise RuntimeError("a crash")

    worker = asyncio.create_task(_for_ever(work))
    await asyncio.wait_for(again.wait(), 60)

    assert not worker.done()
    assert "a crash" in caplog.text
    worker.cancel()
    await asyncio.wait([worker])


async def test_a_scan_tells_where_secrets_are_and_shows_none(
    environment: dict[str, str], clone: Clone
) -> None:
    leaks: dict[str, str | bytes | None] = {
        "autosaves/leak.md": f"# Утечка\r\n\r\nБаза: {url()}\r\n\r\n{GITHUB_TOKEN}\r\n",
        "autosaves/projects/other.md": f"---\nname: Other\ntoken: {GITHUB_TOKEN}\n---\nx\n",
        "autosaves/bad.md": b"\xff\xfe",
    }

    code, output, errors = await annoris("scan", **environment)

    assert (code, errors) == (0, "")
    assert re.fullmatch(r"scanned: \d+ documents at the commit [0-9a-f]{40}\n", output)

    commit = clone.push({**leaks, "elsewhere/no-document.md": GITHUB_TOKEN})
    code, output, errors = await annoris("scan", **environment)

    assert code == 1
    assert output.splitlines()[:-1] == [
        "autosaves/leak.md:3: password in a URL",
        "autosaves/leak.md:5: GitHub token",
        "autosaves/projects/other.md:3: GitHub token",
        "autosaves/bad.md: not looked through, it cannot be read",
    ]
    assert output.splitlines()[-1].endswith(commit)
    assert errors.startswith("2 of ")
    assert "Revoke" in errors

    code, told, errors = await annoris("scan", "--json", **environment)

    assert code == 1
    assert json.loads(told)["commit"] == commit
    assert json.loads(told)["unread"] == ["autosaves/bad.md"]
    assert json.loads(told)["found"][0] == {
        "path": "autosaves/leak.md",
        "line": 3,
        "kind": "password in a URL",
    }
    for value in (PASSWORD, GITHUB_TOKEN):
        assert value not in output + told + errors


async def test_a_scan_needs_no_postgresql(environment: dict[str, str]) -> None:
    nowhere = environment | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}

    assert (await annoris("scan", **nowhere))[0] == 0
