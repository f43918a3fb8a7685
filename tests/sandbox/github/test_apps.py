"""GitHub Apps: who gets a token, what it may, and when it ends."""

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from sandbox.github import App, Fault, GitHub, Identity
from tests.app_keys import KeyPair
from tests.sandbox.github.client import Answer, Client, git

PATH = "/app/installations/4711/access_tokens"


@pytest.fixture
def app(app_keys: KeyPair) -> App:
    return App(77, "scribe", app_keys.public, installation=4711)


@pytest.fixture
async def github(path: Path, app: App) -> AsyncIterator[GitHub]:
    async with GitHub(path, apps=[app]) as github:
        yield github


def proof(keys: KeyPair, **changed: object) -> str:
    """What an App signs. None leaves a claim out."""
    now = int(time.time())
    claims: Mapping[str, object] = {"iss": "77", "iat": now - 60, "exp": now + 540, **changed}
    named: dict[str, Any] = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(named, keys.private, algorithm="RS256")


async def ask(client: Client, bearer: str, path: str = PATH) -> Answer:
    headers = {"Authorization": f"Bearer {bearer}", "User-Agent": "tests"}
    async with client.session.post(client.github.url + path, headers=headers) as response:
        return Answer(response.status, response.headers, await response.json())


async def token_of(client: Client, keys: KeyPair) -> str:
    answer = await ask(client, proof(keys))
    assert answer.status == 201
    return str(answer.json["token"])


@pytest.mark.parametrize("root", ["", "/api/v3"])
async def test_an_app_gets_a_token_for_an_hour(
    client: Client, app_keys: KeyPair, root: str
) -> None:
    answer = await ask(client, proof(app_keys), root + PATH)
    assert answer.status == 201
    assert answer.json["token"].startswith("ghs_")
    ends = datetime.strptime(answer.json["expires_at"], "%Y-%m-%dT%H:%M:%S%z")
    assert timedelta(minutes=59) < ends - datetime.now(UTC) <= timedelta(hours=1)
    assert answer.json["permissions"] == {"contents": "write", "metadata": "read"}
    assert answer.json["repository_selection"] == "selected"


async def test_an_apps_commits_are_its_bots(
    client: Client, github: GitHub, app_keys: KeyPair
) -> None:
    token = await token_of(client, app_keys)
    answer = await client.ask("{ viewer { login } }", token=token)
    assert answer.data["viewer"] == {"login": "scribe[bot]"}
    assert "x-oauth-scopes" not in answer.headers
    await client.commit({"a.md": b"a"}, token=token)
    assert (
        await git(github.path, "log", "-1", "--format=%an <%ae>", "main")
        == "scribe[bot] <77+scribe[bot]@users.noreply.github.com>"
    )


async def test_an_app_that_may_only_read_is_told_so(
    client: Client, github: GitHub, app: App, app_keys: KeyPair
) -> None:
    github.apps.known[app.id] = replace(app, permission="READ")
    answer = await ask(client, proof(app_keys))
    assert answer.json["permissions"] == {"contents": "read", "metadata": "read"}
    answer = await client.commit({"a.md": b"a"}, token=answer.json["token"])
    assert answer.error["message"] == "Resource not accessible by integration"


async def test_a_token_that_ended_is_bad_credentials(
    client: Client, github: GitHub, app_keys: KeyPair
) -> None:
    old = await token_of(client, app_keys)
    github.apps.expire_tokens()
    answer = await client.ask("{ viewer { login } }", token=old)
    assert (answer.status, answer.json["message"]) == (401, "Bad credentials")
    new = await token_of(client, app_keys)
    assert (await client.ask("{ viewer { login } }", token=new)).status == 200

    github.apps.token_seconds = 0
    ended = await token_of(client, app_keys)
    assert (await client.ask("{ viewer { login } }", token=ended)).status == 401
    assert (await client.ask("{ viewer { login } }", token=new)).status == 200


async def test_tokens_of_accounts_are_not_concerned(client: Client, github: GitHub) -> None:
    github.apps.expire_tokens()
    assert (await client.ask("{ viewer { login } }")).status == 200


EXPIRED = (
    "'Expiration time' claim ('exp') must be a numeric value representing the future time at "
    "which the assertion expires"
)
TOO_LONG = "'Expiration time' claim ('exp') is too far in the future"
TOO_EARLY = (
    "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was "
    "issued"
)


@pytest.mark.parametrize(
    ("claim", "ahead", "message"),
    [("exp", -1, EXPIRED), ("exp", 700, TOO_LONG), ("iat", 60, TOO_EARLY)],
)
async def test_a_proof_out_of_its_time_is_refused(
    client: Client, app_keys: KeyPair, claim: str, ahead: int, message: str
) -> None:
    answer = await ask(client, proof(app_keys, **{claim: int(time.time()) + ahead}))
    assert answer.json == {
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
        "status": "401",
    }
    assert answer.status == 401


@pytest.mark.parametrize("bearer", ["", "x", "a.b.c", "sandbox-token", "ghs_" + "0" * 36])
async def test_what_is_no_proof_cannot_be_decoded(client: Client, bearer: str) -> None:
    answer = await ask(client, bearer)
    assert (answer.status, answer.json["message"]) == (
        401,
        "A JSON web token could not be decoded",
    )


async def test_a_proof_with_another_key_or_algorithm_cannot_be_decoded(
    client: Client, app_keys: KeyPair
) -> None:
    now = int(time.time())
    claims = {"iss": "77", "iat": now - 60, "exp": now + 540}
    for bearer in (
        proof(KeyPair.new()),
        jwt.encode(claims, "a secret that is long enough for this", algorithm="HS256"),
        jwt.encode(claims, "", algorithm="none"),
        proof(app_keys, exp=None),
        proof(app_keys, iat=None),
    ):
        answer = await ask(client, bearer)
        assert answer.json["message"] == "A JSON web token could not be decoded"
        assert answer.status == 401


@pytest.mark.parametrize("issuer", ["78", "", None])
async def test_an_app_that_is_unknown_is_not_found(
    client: Client, app_keys: KeyPair, issuer: str | None
) -> None:
    answer = await ask(client, proof(app_keys, iss=issuer))
    assert (answer.status, answer.json["message"]) == (404, "Integration not found")


@pytest.mark.parametrize("installation", ["1", "x"])
async def test_an_installation_of_another_app_is_not_found(
    client: Client, app_keys: KeyPair, installation: str
) -> None:
    answer = await ask(client, proof(app_keys), PATH.replace("4711", installation))
    assert (answer.status, answer.json["message"]) == (404, "Not Found")


async def test_a_suspended_installation_is_forbidden(
    client: Client, github: GitHub, app: App, app_keys: KeyPair
) -> None:
    github.apps.known[app.id] = replace(app, suspended=True)
    answer = await ask(client, proof(app_keys))
    assert (answer.status, answer.json["message"]) == (403, "This installation has been suspended")


async def test_requests_for_tokens_are_counted_and_can_fail(
    client: Client, github: GitHub, app_keys: KeyPair
) -> None:
    github.faults.add(Fault(kind="gateway_timeout", operation="token"))
    assert (await ask(client, proof(app_keys))).status == 504
    await token_of(client, app_keys)
    assert github.requests.counts == {"token": 2}


async def test_a_token_with_an_end_says_so_and_ends(client: Client, github: GitHub) -> None:
    header = "github-authentication-token-expiration"
    answer = await client.ask("{ viewer { login } }")
    assert header not in answer.headers
    ends = datetime(2099, 12, 1, 10, tzinfo=UTC)
    github.tokens["lasting"] = Identity("ann", token_ends=ends)
    github.tokens["ended"] = Identity("ann", token_ends=datetime(2020, 1, 1, tzinfo=UTC))
    answer = await client.ask("{ viewer { login } }", token="lasting")
    assert answer.headers[header] == "2099-12-01 10:00:00 UTC"
    answer = await client.ask("{ viewer { login } }", token="ended")
    assert (answer.status, answer.json["message"]) == (401, "Bad credentials")
