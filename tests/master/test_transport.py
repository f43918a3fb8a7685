"""The wire: what is sent, over how many connections, and what becomes of lost answers."""

import asyncio
import math
import socket
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from api.master import operations
from api.master.credentials import FixedToken
from api.master.errors import MasterError, Unreachable
from api.master.master import Master
from api.master.metering import Quota
from api.master.transport import USER_AGENT, AnswerLost, graphql_url
from api.master.transport import GitHub as Client
from sandbox.github import Fault, GitHub
from tests.master.conftest import TOKEN
from tests.master.scripted import HTML, Said, Scripted

VARIABLES = {"owner": "annoris", "name": "documents", "ref": "refs/heads/main"}
OID = "ce013625030ba8dba906f756967f9e9ca394464a"

Request = Callable[[Client], Awaitable[object]]

REQUESTS: dict[str, Request] = {
    "graphql": lambda client: client.graphql(operations.HEAD, VARIABLES),
    "rest": lambda client: client.raw_blob("annoris/documents", OID),
}


@pytest.mark.parametrize(
    ("rest", "graphql"),
    [
        ("https://api.github.com", "https://api.github.com/graphql"),
        ("https://api.tenant.ghe.com", "https://api.tenant.ghe.com/graphql"),
        ("https://host.example/api/v3", "https://host.example/api/graphql"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/graphql"),
    ],
)
def test_the_graphql_address_follows_from_the_rest_root(rest: str, graphql: str) -> None:
    assert graphql_url(rest) == graphql


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_every_request_says_who_asks_and_carries_the_token(
    scripted: Scripted, scripted_client: Client, request_: Request
) -> None:
    await request_(scripted_client)
    [asked] = scripted.asked
    assert asked.headers["User-Agent"] == USER_AGENT
    assert asked.headers["Authorization"] == f"bearer {TOKEN}"


async def test_graphql_is_a_post_of_json_and_a_blob_a_get_of_raw_bytes(
    scripted: Scripted, scripted_client: Client
) -> None:
    for request in REQUESTS.values():
        await request(scripted_client)
    graphql, rest = scripted.asked
    assert (graphql.method, graphql.path) == ("POST", "/graphql")
    assert graphql.headers["Content-Type"] == "application/json"
    assert (rest.method, rest.path) == ("GET", f"/repos/annoris/documents/git/blobs/{OID}")
    assert rest.headers["Accept"] == "application/vnd.github.raw+json"


async def test_requests_share_one_pool_of_connections(
    scripted: Scripted, scripted_client: Client
) -> None:
    for request in [*REQUESTS.values()] * 10:
        await request(scripted_client)
    assert scripted.connections == 1
    await asyncio.gather(*(request(scripted_client) for request in [*REQUESTS.values()] * 50))
    assert scripted.connections <= 45
    assert scripted_client.requests == len(scripted.asked) == 120


async def test_answers_of_requests_at_the_same_time_are_not_mixed_up(
    github: GitHub, client: Client
) -> None:
    """Status and headers come by a side way that all requests share."""
    github.faults.add(Fault(kind="bad_gateway", probability=0.5, seed=7, count=None))
    answers = await asyncio.gather(*(client.graphql(operations.HEAD, VARIABLES) for _ in range(40)))
    assert {answer.status for answer in answers} == {200, 502}
    assert len({answer.request_id for answer in answers}) == 40
    for answer in answers:
        assert (answer.data is not None) is (answer.status == 200)


async def test_the_newest_quota_is_known(client: Client) -> None:
    assert client.quota == Quota()
    await client.graphql(operations.HEAD, VARIABLES)
    first = client.quota
    assert first.limit == 5_000
    assert first.reset_at is not None
    assert timedelta() < first.reset_at - datetime.now(UTC) <= timedelta(hours=1, seconds=1)
    await client.graphql(operations.HEAD, VARIABLES)
    assert first.remaining is not None
    assert client.quota == replace(first, remaining=first.remaining - 1)


async def test_what_an_answer_does_not_tell_of_the_quota_stays_as_it_was(
    scripted: Scripted, scripted_client: Client
) -> None:
    told = {"x_ratelimit_remaining": "7", "x_ratelimit_limit": "5000", "x_ratelimit_reset": "0"}
    scripted.say(Said.json({"data": {}}, 200, **told), Said("<html>", 502, {}, HTML))
    quota = Quota(remaining=7, limit=5_000, reset_at=datetime(1970, 1, 1, tzinfo=UTC))
    for _ in range(2):
        await scripted_client.graphql(operations.HEAD, VARIABLES)
        assert scripted_client.quota == quota


@pytest.mark.parametrize(
    ("remaining", "reset_in", "seconds"),
    [("0", 100, 100), ("0", -100, 0), ("1", 100, 0), ("", 100, 0), ("many", 100, 0)],
)
async def test_a_quota_is_used_up_until_its_hour_is_over(
    scripted: Scripted, scripted_client: Client, remaining: str, reset_in: int, seconds: int
) -> None:
    reset = str(math.ceil(time.time()) + reset_in)
    told = {"x_ratelimit_remaining": remaining, "x_ratelimit_reset": reset}
    scripted.say(Said.json({"data": {}}, 200, **told))
    assert scripted_client.exhausted_for == 0
    await scripted_client.graphql(operations.HEAD, VARIABLES)
    assert scripted_client.exhausted_for == pytest.approx(seconds, abs=60)


@pytest.mark.parametrize("reset", ["soon", "-1", "1.5", "9" * 30, "١٢٣"])
async def test_a_reset_that_is_no_time_is_not_told(
    scripted: Scripted, scripted_client: Client, reset: str
) -> None:
    scripted.say(Said.json({"data": {}}, x_ratelimit_remaining="0", x_ratelimit_reset=reset))
    await scripted_client.graphql(operations.HEAD, VARIABLES)
    assert scripted_client.quota == Quota(remaining=0)
    assert scripted_client.exhausted_for == 0


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize(
    ("header", "ends_at"),
    [
        ("2026-12-01 10:00:00 UTC", datetime(2026, 12, 1, 10, tzinfo=UTC)),
        ("2026-12-01 10:00:00 +0200", datetime(2026, 12, 1, 8, tzinfo=UTC)),
        ("2026-12-01 10:00:00", None),
        ("soon", None),
        ("", None),
    ],
)
async def test_the_end_of_the_token_is_known_where_github_tells_it(
    scripted: Scripted,
    scripted_client: Client,
    request_: Request,
    header: str,
    ends_at: datetime | None,
) -> None:
    told = {"github_authentication_token_expiration": header}
    scripted.say(Said.json({"data": {}}, 200, **told), Said("<html>", 502, {}, HTML))
    for _ in range(2):
        await request_(scripted_client)
        assert scripted_client.token_expires_at == ends_at


async def test_an_ended_token_is_refused_as_any_other(github: GitHub, client: Client) -> None:
    owner = github.tokens[github.token]
    ends_at = datetime(2099, 12, 1, 10, tzinfo=UTC)
    github.tokens[github.token] = replace(owner, token_ends=ends_at)
    await client.graphql(operations.HEAD, VARIABLES)
    assert client.token_expires_at == ends_at
    github.tokens[github.token] = replace(owner, token_ends=datetime(2020, 1, 1, tzinfo=UTC))
    assert (await client.graphql(operations.HEAD, VARIABLES)).status == 401


async def test_work_is_counted_for_whoever_asked(github: GitHub, client: Client) -> None:
    github.requests.clear()
    with client.metered() as meter:
        for request in REQUESTS.values():
            await request(client)
    asked = list(github.requests)
    assert [one.kind for one in asked] == ["query", "rest"]
    received = sum(one.response_bytes for one in asked)
    assert (meter.requests, meter.points, meter.bytes) == (2, 1, received)
    await client.graphql(operations.HEAD, VARIABLES)
    assert meter.requests == 2, "the block is over"


async def test_work_of_others_at_the_same_time_is_not_counted(
    github: GitHub, client: Client
) -> None:
    async def work(times: int) -> int:
        with client.metered() as meter:
            # Tasks of one's own are one's own work.
            await asyncio.gather(
                *(client.graphql(operations.HEAD, VARIABLES) for _ in range(times))
            )
        return meter.requests

    everything = [7, 1, 0, 5]
    assert await asyncio.gather(*map(work, everything)) == everything
    assert client.requests == github.requests.count() == sum(everything)


async def test_what_a_part_of_the_work_costs_is_also_a_cost_of_the_whole(client: Client) -> None:
    with client.metered() as whole:
        await client.graphql(operations.HEAD, VARIABLES)
        with client.metered() as part:
            await client.graphql(operations.HEAD, VARIABLES)
    assert (whole.requests, part.requests) == (2, 1)


@pytest.mark.parametrize(
    ("said", "points"),
    [
        (Said.json({"data": {"rateLimit": {"cost": 51}}}), 51),
        (Said.json({"data": {"rateLimit": {"cost": 3}}, "errors": [{"message": "No"}]}), 3),
        (Said.json({"data": {"rateLimit": None}}), 1),
        (Said.json({"data": {"createCommitOnBranch": None}}), 1),
        (Said("<html>", 502, {}, HTML), 1),
        (Said("", 200), 1),
    ],
)
async def test_points_are_those_that_github_tells_else_one(
    scripted: Scripted, scripted_client: Client, said: Said, points: int
) -> None:
    scripted.say(said)
    with scripted_client.metered() as meter:
        await scripted_client.graphql(operations.HEAD, VARIABLES)
    assert (meter.requests, meter.points) == (1, points)
    assert meter.bytes == len(said.body)


async def test_a_lost_answer_may_have_cost_its_point(github: GitHub, client: Client) -> None:
    github.faults.add(Fault(kind="dropped", when="after"))
    with client.metered() as meter, pytest.raises(AnswerLost):
        await client.graphql(operations.HEAD, VARIABLES)
    assert (meter.requests, meter.points, meter.bytes) == (1, 1, 0)


async def test_a_refused_connection_means_that_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with Client(f"http://127.0.0.1:{port}", FixedToken(TOKEN), timeout=5) as client:
        for request in REQUESTS.values():
            with pytest.raises(Unreachable, match="the connection was refused"):
                await request(client)


async def test_a_server_that_never_accepts_is_given_up_in_time() -> None:
    """The backlog is full, so the connection is never made: nothing was sent, or none can tell."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        async with Client(
            f"http://127.0.0.1:{address[1]}", FixedToken(TOKEN), timeout=0.2
        ) as client:
            with pytest.raises((Unreachable, AnswerLost), match="the time-out passed"):
                await client.graphql(operations.HEAD, VARIABLES)
        for filler in fillers:
            filler.close()


async def test_a_time_out_after_sending_is_a_lost_answer(github: GitHub) -> None:
    github.faults.add(Fault(kind="hang", count=None))
    async with Client(github.url, FixedToken(github.token), timeout=0.2) as client:
        with pytest.raises(AnswerLost, match="the time-out passed") as lost:
            await client.graphql(operations.HEAD, VARIABLES)
        assert lost.value.timed_out
        with pytest.raises(Unreachable, match="the time-out passed"):
            await client.raw_blob("annoris/documents", OID)


async def test_a_connection_cut_after_sending_is_a_lost_answer(
    github: GitHub, client: Client
) -> None:
    github.faults.add(Fault(kind="dropped", count=None))
    with pytest.raises(AnswerLost, match="the connection was lost") as lost:
        await client.graphql(operations.HEAD, VARIABLES)
    assert not lost.value.timed_out
    with pytest.raises(Unreachable, match="the connection was lost"):
        await client.raw_blob("annoris/documents", OID)


async def test_a_body_cut_short_is_a_lost_answer() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"data": ')
        writer.close()

    async with await asyncio.start_server(half, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", FixedToken(TOKEN), timeout=5) as client:
            with pytest.raises(AnswerLost):
                await client.graphql(operations.HEAD, VARIABLES)
            with pytest.raises(Unreachable):
                await client.raw_blob("annoris/documents", OID)


async def test_a_redirect_is_not_followed_with_a_graphql_request(
    scripted: Scripted, scripted_client: Client
) -> None:
    """It would arrive as a GET, or carry a commit to who knows where."""
    for status in (301, 302, 307, 308):
        scripted.say(Said("", status, {"Location": "/elsewhere"}, HTML))
        answer = await scripted_client.graphql(operations.HEAD, VARIABLES)
        assert answer.status == status
    assert [asked.path for asked in scripted.asked] == ["/graphql"] * 4


@pytest.mark.parametrize("content", ["", "[" * 100_000, '{"message": "Bad credentials"}'])
async def test_a_blob_is_bytes_whatever_it_looks_like(
    scripted: Scripted, scripted_client: Client, content: str
) -> None:
    scripted.say(Said(content))
    assert await scripted_client.raw_blob("annoris/documents", OID) == content.encode()


async def test_the_blobs_of_a_renamed_repository_are_found_by_redirect(
    scripted: Scripted, scripted_client: Client
) -> None:
    scripted.say(Said("", 301, {"Location": "/repositories/1/git/blobs/x"}), Said("hello\n"))
    assert await scripted_client.raw_blob("annoris/documents", OID) == b"hello\n"


async def test_a_redirect_to_another_server_does_not_take_the_token_along(
    scripted: Scripted, scripted_client: Client
) -> None:
    elsewhere = scripted.url.replace("127.0.0.1", "localhost")
    scripted.say(Said("", 302, {"Location": f"{elsewhere}/blob"}), Said("hello\n"))
    await scripted_client.raw_blob("annoris/documents", OID)
    assert ["Authorization" in asked.headers for asked in scripted.asked] == [True, False]


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_before_opening_and_after_closing_nothing_is_sent(
    scripted: Scripted, request_: Request
) -> None:
    client = Client(scripted.url, FixedToken(TOKEN), timeout=5)
    with pytest.raises(Unreachable, match="closed"):
        await request_(client)
    async with client:
        await request_(client)
    with pytest.raises(Unreachable, match="closed"):
        await request_(client)
    assert len(scripted.asked) == client.requests == 1


async def test_a_request_that_is_cancelled_leaves_the_client_usable(
    github: GitHub, client: Client
) -> None:
    hang = github.faults.add(Fault(kind="hang"))
    asking = asyncio.ensure_future(client.graphql(operations.HEAD, VARIABLES))
    await hang.wait_until_struck()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await client.graphql(operations.HEAD, VARIABLES)).status == 200


TROUBLE = {
    "bad credentials": Said.json({"message": "Bad credentials"}, 401),
    "refused": Said.json({"errors": [{"type": "FORBIDDEN", "message": "No"}]}),
    "limit": Said.json({"message": "secondary rate limit"}, 403),
    "502": Said("<html>", 502, {}, HTML),
    "redirect": Said("", 302, {"Location": "/elsewhere"}),
    "no JSON": Said("<html>"),
}


async def errors_of(url: str) -> str:
    """All that can be read of what goes wrong with a server, and of the objects that ask it."""
    async with Client(url, FixedToken(TOKEN), timeout=0.3) as client:
        master = Master(client, "annoris/documents", "main")
        said = [repr(client), repr(master)]
        for request in (master.head(), master._fetch_raw_blob(OID)):
            with pytest.raises(MasterError) as caught:
                await request
            said += traceback.format_exception(caught.value)
            error: BaseException | None = caught.value
            while error is not None:
                said += [str(error), repr(error)]
                error = error.__cause__ or error.__context__
    return "\n".join(said)


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_the_token_is_in_no_error_of_an_answer(scripted: Scripted, trouble: str) -> None:
    scripted.say(TROUBLE[trouble])
    assert TOKEN not in await errors_of(scripted.url)


@pytest.mark.parametrize("kind", ["hang", "dropped"])
async def test_the_token_is_in_no_error_of_a_lost_answer(
    github: GitHub, kind: Literal["hang", "dropped"]
) -> None:
    github.tokens[TOKEN] = github.tokens[github.token]
    github.faults.add(Fault(kind=kind, count=None))
    assert TOKEN not in await errors_of(github.url)


async def test_the_token_is_in_no_error_of_a_server_that_does_not_speak_http() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-babble\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert TOKEN not in await errors_of(f"http://127.0.0.1:{port}")


async def test_the_token_is_in_no_error_of_a_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert TOKEN not in await errors_of(f"http://127.0.0.1:{port}")
