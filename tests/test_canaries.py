"""Our own secrets are told to nobody, whatever fails: canaries in every setting that holds one."""

import asyncio
import hashlib
import hmac
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import aiohttp
import pytest

from api.access import Scope, new_key
from api.settings import Settings
from sandbox.github import DEFAULT_IDENTITY, Fault, GitHub
from sandbox.processes import free_port
from sandbox.redis import Redis
from tests.app_keys import KeyPair
from tests.clone import git

ROOT = Path(__file__).resolve().parents[1]
CANARY = "canary0c4fe"
ASKED = (
    "{ sessions { totalCount nodes { title markdown } } cacheStatus { head } }",
    "{ sessions(consistency: MASTER) { totalCount nodes { markdown } } }",
    "{ sessions(consistency: VERIFIED, first: 1) { nodes { markdown } } }",
    'mutation { createSession(input: {title: "T", markdown: "x"}) { commit { oid } } }',
    f'{{ session(id: "{CANARY[:-5]}", atLeast: "{"0" * 40}") {{ title }} }}',
    "{ nothing }",
)
KINDS = ("bad_credentials", "bad_gateway", "dropped", "something_wrong")
COMMANDS = ("status", "health-check", "migrate")


def holding_secrets() -> set[str]:
    return {
        name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field)
    } | {"API_KEYS"}


async def told_by(process: asyncio.subprocess.Process) -> str:
    """Its title, which every user of the machine can see."""
    return await asyncio.to_thread(Path(f"/proc/{process.pid}/cmdline").read_text)


async def run(log: IO[bytes], environment: Mapping[str, str], *command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api.cli", *command, env=environment, cwd=ROOT, stdout=log, stderr=log
    )
    await asyncio.wait_for(process.wait(), 60)


async def ask(url: str, key: str) -> str:
    """All that is answered, at all doors, to callers with the right key and with wrong ones."""
    told = []
    async with aiohttp.ClientSession() as http:
        for query in ASKED:
            for secret in (key, f"{key}x"):
                async with http.post(
                    f"{url}/graphql",
                    json={"query": query},
                    headers={"Authorization": f"Bearer {secret}"},
                ) as response:
                    told.append(f"{response.headers} {await response.text()}")
        for path, body in (("/readyz", None), ("/healthz", None), ("/graphql", None)):
            async with http.get(url + path, data=body, headers={"Accept": "text/html"}) as response:
                told.append(f"{response.headers} {await response.text()}")
        signature = "sha256=" + hmac.new(b"wrong", b"{}", hashlib.sha256).hexdigest()
        headers = {"X-GitHub-Event": "push", "X-Hub-Signature-256": signature}
        async with http.post(f"{url}/webhooks/github", data=b"{}", headers=headers) as response:
            told.append(f"{response.headers} {await response.text()}")
    return "\n".join(told)


async def up(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession() as http:
        while process.returncode is None:
            try:
                async with http.get(f"{url}/healthz"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.1)
    raise AssertionError("it ended")


@dataclass(frozen=True)
class Planted:
    """Settings with a canary in each that holds a secret, and what is never to be told."""

    environment: Mapping[str, str]
    key: str
    never: Sequence[str]


@pytest.fixture(params=["everything there", "everything away"])
def planted(
    request: pytest.FixtureRequest,
    github: GitHub,
    database_url: str,
    redis_server: Redis,
    app_keys: KeyPair,
) -> Planted:
    secret, key = new_key("agent", [Scope.ADMIN])
    if request.param == "everything there":
        github.tokens[f"ghs_{CANARY}Token"] = DEFAULT_IDENTITY
        database, redis = urlsplit(database_url), urlsplit(redis_server.url)
        stores = {
            "DATABASE_URL": database._replace(netloc=f"annoris:{CANARY}Pg@").geturl(),
            "REDIS_URL": redis._replace(netloc=f":{CANARY}Redis@{redis.netloc}").geturl(),
            "GITHUB_TOKEN": f"ghs_{CANARY}Token",
        }
    else:
        stores = {
            "DATABASE_URL": f"postgresql://annoris:{CANARY}Pg@127.0.0.1:1/annoris",
            "REDIS_URL": f"redis://:{CANARY}Redis@127.0.0.1:1/0",
            "GITHUB_APP_ID": "1",
            "GITHUB_APP_PRIVATE_KEY": app_keys.private,
            "GITHUB_APP_INSTALLATION_ID": "1",
        }
    environment = {
        "PATH": os.environ["PATH"],
        **stores,
        "GITHUB_REPOSITORY": github.hosting.name,
        "GITHUB_API_URL": github.url,
        "GITHUB_WEBHOOK_SECRET": f"{CANARY}Webhook",
        "ALERT_URLS": f"json://user:{CANARY}Alert@127.0.0.1:1/{CANARY}Path",
        "API_KEYS": str(key),
        "WRITE_TIMEOUT_SECONDS": "2",
        "MASTER_TIMEOUT_SECONDS": "2",
        "PORT": str(free_port()),
    }
    ways_in = {"GITHUB_TOKEN", "GITHUB_APP_PRIVATE_KEY"}
    assert holding_secrets() - environment.keys() < ways_in, "one has no canary"
    lines = [line for line in app_keys.private.splitlines() if len(line) > 40]
    return Planted(environment, secret, (CANARY, secret, key.digest, *lines))


async def test_no_secret_is_told_whatever_fails(
    github: GitHub, planted: Planted, tmp_path: Path
) -> None:
    environment = planted.environment
    url = f"http://127.0.0.1:{environment['PORT']}"
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "api.cli", "start"),
            env=environment,
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
        try:
            await up(url, process)
            told = [await told_by(process), await ask(url, planted.key)]
            for kind in KINDS:
                github.faults.add(Fault.model_validate({"kind": kind, "count": None}))
                told.append(await ask(url, planted.key))
                github.faults.clear()
            github.faults.add(Fault(kind="bad_credentials", count=None))
            await asyncio.gather(*(run(log, environment, command) for command in COMMANDS))
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 60)

    told += [(tmp_path / "log").read_text(), git(github.path, "log", "--format=%B").decode()]
    everything = "\n".join(told)
    is_there = "GITHUB_TOKEN" in environment
    assert ("Annoris-Caller: agent" in everything) is is_there, "something was done"
    for never in planted.never:
        assert never not in everything, [
            line[:300] for line in everything.splitlines() if never in line
        ]
