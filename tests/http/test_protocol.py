"""Connections as odd clients use them."""

import asyncio
import time
from contextlib import ExitStack, suppress

import pytest

from api.app import create_app
from api.settings import load
from sandbox.github import Fault
from tests.http.conftest import NOWHERE
from tests.http.serving import serving
from tests.http.wire import connected, received
from tests.system import System

OFFERS = ["h2c", "websocket", "TLS/1.0, h2c"]
SAID = b'{"query": "{ __typename }"}'
ANSWER = b'{"data":{"__typename":"Query"}}'
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
INSIDE = b"GET /graphql?query=%7Binside:__typename%7D HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"5\r\n" + SAID[:5] + b"\r\n%x\r\n" % len(SAID[5:]) + SAID[5:] + b"\r\n0\r\n\r\n"


def offering(offer: str, body: bytes, **more: str) -> bytes:
    """A request whose sender would rather go on in another protocol."""
    headers = {
        "Host": "localhost",
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": offer,
        "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        "Content-Type": "application/json",
        **({} if "Transfer_Encoding" in more else {"Content-Length": str(len(body))}),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    lines = ["POST /graphql HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answers(port: int, sent: bytes, behind: bytes = b"") -> bytes:
    """All that is answered, to a last request as well. `behind`: sent when the gateway asks."""
    with connected(port) as connection:
        connection.sendall(sent)
        if behind:
            asked = connection.makefile("rb").read(len(GO_ON))
            assert asked == GO_ON
            connection.sendall(behind)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return received(connection)


def answers_to_two_parts(port: int, sent: bytes, body: bytes) -> bytes:
    return answers(port, sent.removesuffix(body), behind=body)


@pytest.mark.parametrize("offer", OFFERS)
def test_who_offers_another_protocol_is_answered_in_this_one(door: int, offer: str) -> None:
    got = answers(door, offering(offer, SAID))

    assert got.count(b"HTTP/1.1 200 OK") == 2
    assert ANSWER in got


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_that_comes_behind_its_head_is_read_as_well(door: int, offer: str) -> None:
    got = answers_to_two_parts(door, offering(offer, SAID, Expect="100-continue"), SAID)

    assert got.count(b"HTTP/1.1 200 OK") == 2
    assert ANSWER in got


def test_a_body_in_chunks_is_read_as_well(door: int) -> None:
    assert ANSWER in answers(door, offering("h2c", CHUNKED, Transfer_Encoding="chunked"))


def test_many_offers_at_once_are_all_declined(door: int) -> None:
    assert answers(door, offering("h2c", SAID) * 2_000).count(ANSWER) == 2_000


def test_a_body_is_never_taken_for_a_request(door: int) -> None:
    sent = offering("h2c", INSIDE, Expect="100-continue")
    for got in (
        answers(door, offering("h2c", INSIDE)),
        answers_to_two_parts(door, sent, INSIDE),
    ):
        assert got.count(b"HTTP/1.1 ") == 2
        assert b"inside" not in got


def test_a_tunnel_is_refused(door: int) -> None:
    with connected(door) as connection:
        connection.sendall(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 400 ")


# Those who never come to the point

SLOW = [b"", b"\r\n", b"P", b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nX: "]


@pytest.mark.parametrize("said", SLOW)
def test_who_does_not_end_a_head_is_hung_up_on(
    door: int, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("api.http.protocol._HEAD_SECONDS", 0.3)
    with connected(door) as connection:
        connection.sendall(said)

        assert received(connection) == b""


@pytest.mark.parametrize("said", SLOW[1:])
def test_a_second_head_has_to_end_as_well(
    door: int, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("api.http.protocol._HEAD_SECONDS", 2.0)
    with connected(door) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + said)

        assert received(connection).count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("said", SLOW[1:])
def test_who_was_answered_and_begins_anew_has_to_end_as_well(
    door: int, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("api.http.protocol._HEAD_SECONDS", 2.0)
    with connected(door) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(9) == b"HTTP/1.1 "
        time.sleep(0.2)  # for the server to wait again
        connection.sendall(said)

        assert received(connection)


def test_many_heads_cut_in_the_middle_are_each_given_their_time(
    door: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.protocol._HEAD_SECONDS", 1.5)
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(door) as connection:
        connection.sendall(head[:9])
        for _ in range(8):
            time.sleep(0.3)
            connection.sendall(head[9:] + head[:9])

        assert received(connection).count(b"HTTP/1.1 200 OK") == 8


async def test_a_head_that_waits_behind_a_slow_answer_is_not_given_up(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.protocol._HEAD_SECONDS", 0.5)
    slow = system.github.faults.add(Fault(kind="latency", operation="query", ms=2_000))
    body = b'{"query": "{ sessions(consistency: MASTER) { totalCount } }"}'
    request = (
        b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    _, _, port = system.url.rpartition(":")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(request + request + request[:20])
    answers = await reader.read()
    writer.close()

    assert slow.struck == 1
    assert answers.count(b"HTTP/1.1 200 OK") == 2


def test_a_body_may_take_longer_than_a_head(door: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.http.protocol._HEAD_SECONDS", 2.0)
    head = (
        b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(SAID)
    )
    with connected(door) as connection:
        connection.sendall(head)
        for byte in SAID:
            connection.sendall(bytes([byte]))
            time.sleep(0.1)

        assert received(connection).endswith(ANSWER)


def test_there_are_no_more_connections_than_leave_files_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.http.protocol._MOST_CONNECTIONS", 3)
    with serving(create_app(load(NOWHERE))) as port, ExitStack() as stack:
        held = [stack.enter_context(connected(port)) for _ in range(3)]
        for connection in held:  # so that all are there before the next
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(9) == b"HTTP/1.1 "
        with connected(port) as fourth:
            assert received(fourth) == b""
        held[0].close()
        while True:  # until it is noticed
            with suppress(OSError), connected(port) as another:
                another.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if another.recv(9) == b"HTTP/1.1 ":
                    break
