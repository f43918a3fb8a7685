"""The load generator: what it takes for an answer, and how many it asks for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count, islice, pairwise
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.load import HOST, SLOT, Answers, LoadFailed, Order, Outcome, _Run, requests


def answer(body: bytes, *, status: int = 200, name: str = "content-length") -> bytes:
    head = f"HTTP/1.1 {status} Whatever\r\nserver: one\r\n{name}: {len(body)}\r\nvary: no\r\n\r\n"
    return head.encode() + body


@given(
    bodies=st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    name=st.sampled_from(["content-length", "Content-Length"]),
    data=st.data(),
)
def test_answers_are_read_however_they_are_cut(
    bodies: list[bytes], name: str, data: st.DataObject
) -> None:
    answers = Answers()

    for body in bodies:
        sent = answer(body, name=name)
        places = data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=5))
        cuts = [0, *sorted(places), len(sent)]
        pieces = [sent[a:b] for a, b in pairwise(cuts)]

        assert [answers.feed(piece) for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert answers.feed(pieces[-1]) == (b"200", body)


def test_an_answer_without_a_length_is_refused() -> None:
    with pytest.raises(LoadFailed, match="without a length"):
        Answers().feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n")


def test_more_than_one_answer_to_one_request_is_refused() -> None:
    with pytest.raises(LoadFailed, match="more than was asked for"):
        Answers().feed(2 * answer(b"{}"))


def order(bodies: Path, *, port: int = 80, clients: int = 1, most: int | None = None) -> Order:
    return Order(port=port, path="/graphql", bodies=str(bodies), clients=clients, most=most)


def test_no_two_requests_with_a_slot_are_alike_and_all_are_as_long_as_they_say(
    tmp_path: Path,
) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"\n".join(orjson.dumps({"n": SLOT, "m": m}) for m in (1, 2)))

    sent = list(islice(requests(order(bodies), count(SLOT + 1)), 10))

    assert len(set(sent)) == 10
    read = [orjson.loads(one.partition(b"\r\n\r\n")[2]) for one in sent]
    assert [one["m"] for one in read] == 5 * [1, 2]
    assert sorted(one["n"] for one in read) == list(range(SLOT + 1, SLOT + 11))
    for one in sent:
        head, _, body = one.partition(b"\r\n\r\n")
        assert head.endswith(b"content-length: %d" % len(body))


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[int]:
    """The port of a server that gives these answers in turn, and then no more."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(10_000) and left:
            writer.write(left.pop(0))
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def measured(tmp_path: Path, port: int, *, clients: int, most: int) -> Outcome:
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"{}")
    asked = order(bodies, port=port, clients=clients, most=most)
    return await _Run(asked, [requests(asked, count())]).measure()


async def test_so_many_are_sent_as_were_asked_for_and_the_wrong_ones_are_counted(
    tmp_path: Path,
) -> None:
    wrong = (answer(b'{"data":null,"errors":[]}'), answer(b"{}", status=503))
    right = answer(rb'{"data":{"title":"\"errors\""}}')

    async with answering(*wrong, *(5 * [right])) as port:
        outcome = await measured(tmp_path, port, clients=3, most=7)

    assert (outcome.requests, outcome.sent, outcome.wrong) == (7, 7, 2)
    assert 0 < outcome.p50 <= outcome.p99


async def test_a_server_that_hangs_up_ends_the_measurement(tmp_path: Path) -> None:
    async with answering(answer(b"{}")) as port:
        with pytest.raises(LoadFailed, match="closed a connection"):
            await measured(tmp_path, port, clients=1, most=2)
