"""An App's credentials: a token that is had when it is needed, and a clear word when it is not."""

import asyncio
import socket
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import jwt
import pytest

from api.documents import Json
from api.master import operations
from api.master.committing import Change, commit
from api.master.credentials import App, FixedToken
from api.master.errors import (
    AccessRefused,
    MasterError,
    Missing,
    OutcomeUnknown,
    RateLimited,
    Unreachable,
)
from api.master.master import Master
from api.master.messages import Note, compose
from api.master.transport import AnswerLost
from api.master.transport import GitHub as Client
from sandbox.github import App as InstalledApp
from sandbox.github import Fault, GitHub, Limits
from tests.app_keys import KeyPair
from tests.clone import git
from tests.master.scripted import HTML, Said, Scripted

VARIABLES = {"owner": "annoris", "name": "documents", "ref": "refs/heads/main"}
OID = "ce013625030ba8dba906f756967f9e9ca394464a"
INSTALLATION = 4711
GIVEN: dict[str, Json] = {"token": "ghs_never-to-be-seen", "expires_at": "2099-01-01T00:00:00Z"}

Request = Callable[[Client], Awaitable[object]]

REQUESTS: dict[str, Request] = {
    "graphql": lambda client: client.graphql(operations.HEAD, VARIABLES),
    "rest": lambda client: client.raw_blob("annoris/documents", OID),
}


@pytest.fixture
def installed(app_keys: KeyPair) -> InstalledApp:
    return InstalledApp(77, "scribe", app_keys.public, INSTALLATION)


@pytest.fixture
async def github(repository: Path, installed: InstalledApp) -> AsyncIterator[GitHub]:
    async with GitHub(repository, apps=[installed], limits=Limits.off()) as server:
        yield server


@asynccontextmanager
async def client_of(
    url: str, key: str, *, app_id: str = "77", seconds: float = 10
) -> AsyncIterator[Client]:
    async with Client(url, App(app_id, key, INSTALLATION), timeout=seconds) as client:
        yield client


@pytest.fixture
async def client(github: GitHub, app_keys: KeyPair) -> AsyncIterator[Client]:
    async with client_of(github.url, app_keys.private) as client:
        yield client


def change() -> Change:
    write_id = str(uuid4())
    headline, body = compose([Note(write_id=write_id, message="Write it")])
    return Change(write_id, headline, body, {f"autosaves/{write_id}.md": b"# New\n"})


async def send(client: Client, github: GitHub, write: Change, *, seconds: float = 10) -> None:
    master = Master(client, github.hosting.name, github.hosting.branch)
    assert github.head is not None
    await commit(master, write, expected=github.head, ask=[], seconds=seconds)


def landed(github: GitHub, write: Change) -> int:
    """How often git has the write."""
    return git(github.path, "log", "--format=%B", "main").count(write.write_id.encode())


# --- a token when it is needed -------------------------------------------------------------


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_an_app_asks_for_a_token_before_its_first_request_and_keeps_it(
    scripted: Scripted, app_keys: KeyPair, request_: Request
) -> None:
    scripted.say(Said.json(GIVEN, 201), Said.json({"data": {}}))
    async with client_of(scripted.url, app_keys.private) as client:
        await request_(client)
        await request_(client)
    asked, *requests = scripted.asked
    assert (asked.method, asked.path) == (
        "POST",
        f"/app/installations/{INSTALLATION}/access_tokens",
    )
    assert asked.headers["Accept"] == "application/vnd.github+json"
    assert len(requests) == 2
    for request in requests:
        assert request.headers["Authorization"] == f"bearer {GIVEN['token']}"


async def test_the_app_signs_what_github_takes(scripted: Scripted, app_keys: KeyPair) -> None:
    scripted.say(Said.json(GIVEN, 201), Said.json({"data": {}}))
    async with client_of(scripted.url, app_keys.private) as client:
        await client.graphql(operations.HEAD, VARIABLES)
    scheme, _, proof = scripted.asked[0].headers["Authorization"].partition(" ")
    claims = jwt.decode(proof, app_keys.public, algorithms=["RS256"])
    assert scheme == "bearer"
    assert claims["iss"] == "77"
    assert claims["iat"] == pytest.approx(time.time() - 60, abs=30), "our clock may be ahead"
    assert claims["exp"] - claims["iat"] == 600


@pytest.mark.parametrize("root", ["", "/api/v3"])
async def test_the_token_is_asked_for_at_the_rest_root(
    github: GitHub, app_keys: KeyPair, root: str
) -> None:
    async with client_of(f"{github.url}{root}", app_keys.private) as client:
        answer = await client.graphql(operations.HEAD, VARIABLES)
    assert answer.status == 200
    assert next(iter(github.requests)).path == f"{root}/app/installations/4711/access_tokens"


async def test_however_many_need_a_token_it_is_asked_for_once(
    github: GitHub, client: Client
) -> None:
    for _ in range(2):
        github.requests.clear()
        github.apps.expire_tokens()
        answers = await asyncio.gather(
            *(client.graphql(operations.HEAD, VARIABLES) for _ in range(40))
        )
        assert {answer.status for answer in answers} == {200}
        assert github.requests.count("token") == 1


@pytest.mark.parametrize(("lasts", "tokens"), [(3600, 1), (360, 1), (299, 3), (0, 3)])
async def test_a_token_is_kept_until_five_minutes_before_its_end(
    github: GitHub, client: Client, lasts: float, tokens: int
) -> None:
    github.apps.token_seconds = lasts
    if lasts == 0:  # it is not even good for one request: then it is asked for twice each
        tokens *= 2
    for _ in range(3):
        await client.graphql(operations.HEAD, VARIABLES)
    assert github.requests.count("token") == tokens


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_a_token_that_ended_early_is_renewed_without_notice(
    github: GitHub, client: Client, request_: Request
) -> None:
    before = await request_(client)
    github.apps.expire_tokens()
    after = await request_(client)
    assert type(before) is type(after)
    assert github.requests.count("token") == 2


async def test_a_commit_with_an_ended_token_is_sent_again_and_lands_once(
    github: GitHub, client: Client
) -> None:
    await client.graphql(operations.HEAD, VARIABLES)
    github.apps.expire_tokens()
    write = change()
    await send(client, github, write)
    assert landed(github, write) == 1
    assert git(github.path, "log", "-1", "--format=%an", "main") == b"scribe[bot]\n"


async def test_a_request_is_sent_again_once_and_no_more(github: GitHub, client: Client) -> None:
    github.faults.add(Fault(kind="bad_credentials", operation="mutation", count=None))
    with pytest.raises(AccessRefused, match="Bad credentials"):
        await send(client, github, change())
    assert github.requests.count("mutation") == github.requests.count("token") == 2


async def test_a_plain_token_that_is_refused_is_not_sent_again(github: GitHub) -> None:
    async with Client(github.url, FixedToken("revoked"), timeout=10) as client:
        with pytest.raises(AccessRefused, match="Bad credentials"):
            await send(client, github, change())
    assert github.requests.count() == 1


async def test_the_end_of_an_apps_token_is_nobodys_concern(
    scripted: Scripted, app_keys: KeyPair
) -> None:
    told = {"github_authentication_token_expiration": "2026-12-01 10:00:00 UTC"}
    scripted.say(Said.json(GIVEN, 201, **told), Said.json({"data": {}}, 200, **told))
    async with client_of(scripted.url, app_keys.private) as client:
        await client.graphql(operations.HEAD, VARIABLES)
        assert client.token_expires_at is None


async def test_a_token_is_a_cost_of_the_work_that_needed_it(github: GitHub, client: Client) -> None:
    with client.metered() as first:
        await client.graphql(operations.HEAD, VARIABLES)
    with client.metered() as second:
        await client.graphql(operations.HEAD, VARIABLES)
    assert (first.requests, first.points) == (2, 1)
    assert (second.requests, second.points) == (1, 1)
    assert first.bytes + second.bytes == sum(one.response_bytes for one in github.requests)


async def test_who_hangs_up_while_a_token_is_asked_for_does_not_take_it_from_others(
    github: GitHub, client: Client
) -> None:
    hang = github.faults.add(Fault(kind="hang", operation="token"))
    first = asyncio.ensure_future(client.graphql(operations.HEAD, VARIABLES))
    await hang.wait_until_struck()
    second = asyncio.ensure_future(client.graphql(operations.HEAD, VARIABLES))
    first.cancel()
    assert (await second).status == 200
    with pytest.raises(asyncio.CancelledError):
        await first


# --- no token ------------------------------------------------------------------------------


async def refused(client: Client, github: GitHub, kind: type[MasterError], match: str) -> None:
    """Reads and commits fail alike, and the master was not even asked."""
    write = change()
    for ask in (
        Master(client, "annoris/documents", "main").head,
        lambda: client.raw_blob("annoris/documents", OID),
        lambda: send(client, github, write),
    ):
        with pytest.raises(kind, match=match) as caught:
            await ask()
        assert type(caught.value) is kind
    assert github.requests.count("token") == github.requests.count()
    assert landed(github, write) == 0


async def test_another_key_is_refused(github: GitHub) -> None:
    async with client_of(github.url, KeyPair.new().private) as client:
        await refused(client, github, AccessRefused, "Check GITHUB_APP_ID and GITHUB_APP_PRIVATE")


@pytest.mark.parametrize("app_id", ["78", "Iv23liAbCdEf"])
async def test_another_app_is_not_found(github: GitHub, app_keys: KeyPair, app_id: str) -> None:
    async with client_of(github.url, app_keys.private, app_id=app_id) as client:
        await refused(client, github, Missing, "Check GITHUB_APP_ID")


async def test_an_installation_that_is_gone_is_missing(
    github: GitHub, client: Client, installed: InstalledApp
) -> None:
    await client.graphql(operations.HEAD, VARIABLES)
    github.requests.clear()
    github.apps.known[installed.id] = replace(installed, installation=1)
    github.apps.expire_tokens()
    write = change()
    with pytest.raises(Missing, match="GITHUB_APP_INSTALLATION_ID"):
        await send(client, github, write)
    assert landed(github, write) == 0


async def test_a_suspended_installation_gets_no_token(
    github: GitHub, client: Client, installed: InstalledApp
) -> None:
    github.apps.known[installed.id] = replace(installed, suspended=True)
    await refused(client, github, AccessRefused, "This installation has been suspended")


async def test_a_limit_on_tokens_says_how_long_to_wait(github: GitHub, client: Client) -> None:
    fault = Fault(kind="secondary_rate_limit", operation="token", retry_after=7, count=None)
    github.faults.add(fault)
    with pytest.raises(RateLimited) as limited:
        await client.graphql(operations.HEAD, VARIABLES)
    assert limited.value.retry_after == 7
    await refused(client, github, RateLimited, "7 seconds")


@pytest.mark.parametrize("kind", ["bad_gateway", "gateway_timeout", "dropped", "hang"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_github_out_of_reach_for_a_token_is_unreachable_and_no_commit_is_in_doubt(
    github: GitHub, app_keys: KeyPair, kind: str, when: str
) -> None:
    fault = Fault.model_validate({"kind": kind, "when": when, "operation": "token", "count": None})
    github.faults.add(fault)
    async with client_of(github.url, app_keys.private, seconds=1.5) as client:
        await refused(client, github, Unreachable, r"GitHub (did not answer|answered with status)")
        github.faults.clear()
        await send(client, github, change())


async def test_a_commit_whose_time_is_over_while_a_token_is_asked_for_was_never_sent(
    github: GitHub, client: Client
) -> None:
    hang = github.faults.add(Fault(kind="hang", operation="token", count=None))
    with pytest.raises(Unreachable, match="the time-out passed"):
        await send(client, github, change(), seconds=0.4)
    assert hang.struck == 1


async def test_a_renewal_that_fails_leaves_no_commit_in_doubt(
    github: GitHub, app_keys: KeyPair
) -> None:
    async with client_of(github.url, app_keys.private, seconds=3) as client:
        await client.graphql(operations.HEAD, VARIABLES)
        github.apps.expire_tokens()
        github.faults.add(Fault(kind="hang", operation="token"))
        with pytest.raises(Unreachable):
            await send(client, github, change())


async def test_a_commit_that_was_sent_again_can_be_lost_like_any_other(
    github: GitHub, app_keys: KeyPair
) -> None:
    """Whether it was sent is judged anew with the new token."""
    async with client_of(github.url, app_keys.private, seconds=3) as client:
        await client.graphql(operations.HEAD, VARIABLES)
        github.apps.expire_tokens()
        github.faults.add(Fault(kind="dropped", when="after", operation="mutation"))
        github.faults.add(Fault(kind="bad_gateway", operation_name="History", count=None))
        write = change()
        with pytest.raises(OutcomeUnknown):
            await send(client, github, write, seconds=3)
        assert landed(github, write) == 1


async def test_nobody_listening_is_unreachable(app_keys: KeyPair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with client_of(f"http://127.0.0.1:{port}", app_keys.private) as client:
        for request in REQUESTS.values():
            with pytest.raises(Unreachable, match="the connection was refused"):
                await request(client)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (201, ""),
        (201, "<html>"),
        (201, "[]"),
        (201, '{"token": null, "expires_at": null}'),
        (201, '{"token": "ghs_never-to-be-seen"}'),
        (201, '{"token": "ghs_never-to-be-seen", "expires_at": "soon"}'),
        (201, '{"token": "ghs_never-to-be-seen", "expires_at": "0001-01-01T00:00:00Z"}'),
        (200, '{"token": "ghs_never-to-be-seen", "expires_at": "2099-01-01T00:00:00Z"}'),
        (422, '{"message": "Validation failed"}'),
        (500, "\x00\xff"),
    ],
)
async def test_an_answer_without_a_token_is_no_answer(
    scripted: Scripted, app_keys: KeyPair, status: int, body: str
) -> None:
    scripted.say(Said(body, status))
    async with client_of(scripted.url, app_keys.private) as client:
        with pytest.raises(Unreachable) as caught:
            await client.graphql(operations.HEAD, VARIABLES)
    assert "never-to-be-seen" not in str(caught.value)
    assert len(scripted.asked) == 1


async def test_a_redirect_is_not_followed_with_the_apps_proof(
    scripted: Scripted, app_keys: KeyPair
) -> None:
    for status in (301, 302, 307, 308):
        scripted.say(Said("", status, {"Location": "/elsewhere"}, HTML))
        async with client_of(scripted.url, app_keys.private) as client:
            with pytest.raises(Missing, match="GITHUB_API_URL"):
                await client.graphql(operations.HEAD, VARIABLES)
    assert len(scripted.asked) == 4


# --- no secret is told ---------------------------------------------------------------------


def told(error: BaseException) -> str:
    """All that can be read of an error and of what it came from."""
    said = traceback.format_exception(error)
    cause: BaseException | None = error
    while cause is not None:
        said += [str(cause), repr(cause)]
        cause = cause.__cause__ or cause.__context__
    return "\n".join(said)


SAID: dict[str, list[Said]] = {
    "key refused": [Said.json({"message": "A JSON web token could not be decoded"}, 401)],
    "no JSON": [Said("<html>", 201)],
    "502": [Said("<html>", 502, {}, HTML)],
    "token refused": [Said.json(GIVEN, 201), Said.json({"message": "Bad credentials"}, 401)] * 2,
    "502 with a token": [Said.json(GIVEN, 201), Said("<html>", 502, {}, HTML)],
    "refused with a token": [
        Said.json(GIVEN, 201),
        Said.json({"errors": [{"type": "FORBIDDEN", "message": "No"}]}),
    ],
}


@pytest.mark.parametrize("trouble", SAID)
async def test_neither_key_nor_proof_nor_token_is_in_an_error(
    scripted: Scripted, app_keys: KeyPair, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    scripted.say(*SAID[trouble])
    async with client_of(scripted.url, app_keys.private) as client:
        with pytest.raises(MasterError) as caught:
            await Master(client, "annoris/documents", "main").head()
        said = told(caught.value) + repr(client) + repr(client._credentials) + caplog.text
    for request in scripted.asked:
        assert request.headers["Authorization"].partition(" ")[2] not in said
    assert app_keys.private.splitlines()[1] not in said


@pytest.mark.parametrize("kind", ["hang", "dropped"])
@pytest.mark.parametrize("operation", ["token", "query"])
async def test_neither_proof_nor_token_is_in_the_error_of_a_lost_answer(
    github: GitHub, app_keys: KeyPair, kind: str, operation: str
) -> None:
    seen: list[str] = []
    give, prove = github.apps.give, github.apps.prove

    def given(app: InstalledApp) -> dict[str, object]:
        answer = dict(give(app))
        seen.append(str(answer["token"]))
        return answer

    def proven(proof: str) -> InstalledApp:
        seen.append(proof)
        return prove(proof)

    github.apps.give, github.apps.prove = given, proven  # type: ignore[method-assign]
    github.faults.add(Fault.model_validate({"kind": kind, "operation": operation, "count": None}))
    async with client_of(github.url, app_keys.private, seconds=3) as client:
        with pytest.raises((Unreachable, AnswerLost)) as caught:
            await client.graphql(operations.HEAD, VARIABLES)
    assert seen
    for secret in seen:
        assert secret not in told(caught.value)
