"""The wire: what is sent, over how many connections, and what becomes of lost answers."""

import asyncio
import socket
import traceback
from collections.abc import Awaitable, Callable
from typing import Literal

import pytest

from api.master import operations
from api.master.errors import MasterError, Unreachable
from api.master.master import Master
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
    assert scripted.connections <= 20
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
    await client.graphql(operations.HEAD, VARIABLES)
    first = int(client.quota["x-ratelimit-remaining"])
    await client.graphql(operations.HEAD, VARIABLES)
    assert int(client.quota["x-ratelimit-remaining"]) == first - 1
    assert client.quota["x-ratelimit-resource"] == "graphql"


async def test_a_refused_connection_means_that_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with Client(f"http://127.0.0.1:{port}", TOKEN, timeout=5) as client:
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
        async with Client(f"http://127.0.0.1:{address[1]}", TOKEN, timeout=0.2) as client:
            with pytest.raises((Unreachable, AnswerLost), match="the time-out passed"):
                await client.graphql(operations.HEAD, VARIABLES)
        for filler in fillers:
            filler.close()


async def test_a_time_out_after_sending_is_a_lost_answer(github: GitHub) -> None:
    github.faults.add(Fault(kind="hang", count=None))
    async with Client(github.url, github.token, timeout=0.2) as client:
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
        async with Client(f"http://127.0.0.1:{port}", TOKEN, timeout=5) as client:
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
    client = Client(scripted.url, TOKEN, timeout=5)
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
    async with Client(url, TOKEN, timeout=0.3) as client:
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
