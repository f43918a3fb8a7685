"""The wire that other tests break: it passes everything on, and fails as it is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.waiting import until
from tests.wire import Wire


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """In front of a server that repeats each line ten times."""

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line * 10)
        writer.close()

    server = await asyncio.start_server(repeat, "127.0.0.1", 0)
    async with server, Wire("127.0.0.1", server.sockets[0].getsockname()[1]) as wire:
        yield wire


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, line: bytes) -> bytes:
        """All that comes, up to ten lines."""
        self.writer.write(line)
        answer = b""
        with suppress(ConnectionError):
            while answer.count(b"\n") < 10 and (data := await self.reader.read(1_000)):
                answer += data
        return answer

    async def is_mute(self, line: bytes) -> bool:
        try:
            await asyncio.wait_for(self.ask(line), 0.1)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def client_of(wire: Wire) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def works(wire: Wire) -> bool:
    async with client_of(wire) as client:
        return await client.ask(b"abc\n") == b"abc\n" * 10


async def test_it_passes_everything_on_and_counts(wire: Wire) -> None:
    async with client_of(wire) as one, client_of(wire) as other:
        for client in (one, other):
            assert await client.ask(b"abc\n") == b"abc\n" * 10

        assert (wire.accepted, wire.open, wire.asked) == (2, 2, 8)

    await until(lambda: _is_idle(wire), "closed connections are forgotten")


async def test_it_refuses_and_keeps_its_port(wire: Wire) -> None:
    port = wire.port
    async with client_of(wire) as client:
        await client.ask(b"abc\n")

        await wire.refuse()

        assert await client.ask(b"abc\n") == b""
    with pytest.raises(ConnectionRefusedError):
        await works(wire)
    await wire.heal()
    assert wire.port == port
    assert await works(wire)


async def test_it_hangs_on_old_connections_and_on_new_ones_until_it_is_healed(wire: Wire) -> None:
    async with client_of(wire) as old:
        await old.ask(b"abc\n")
        wire.hang()
        async with client_of(wire) as new:
            assert await old.is_mute(b"old\n")
            assert await new.is_mute(b"new\n")

            await wire.heal()

            assert await old.ask(b"") == b"old\n" * 10
            assert await new.ask(b"") == b"new\n" * 10


@pytest.mark.parametrize("after", [0, 1, 39])
async def test_it_is_cut_in_the_middle_of_an_answer(wire: Wire, after: int) -> None:
    async with client_of(wire) as client:
        await client.ask(b"abc\n")
        wire.break_off(after)

        assert await client.ask(b"abc\n") == (b"abc\n" * 10)[:after]

    assert wire.strikes == 1
    assert await works(wire)


async def test_it_hangs_in_the_middle_of_an_answer(wire: Wire) -> None:
    async with client_of(wire) as client:
        wire.break_off(after=5, then="hang")

        assert await client.is_mute(b"abc\n")

        await wire.heal()
        assert (await client.reader.read(1_000)).endswith(b"abc\n")


async def test_without_its_server_connections_are_lost() -> None:
    async with Wire("127.0.0.1", 1) as wire, client_of(wire) as client:
        assert await client.ask(b"abc\n") == b""


async def test_nothing_of_it_is_left(wire: Wire) -> None:
    before = asyncio.all_tasks()
    async with (
        Wire("127.0.0.1", wire.port) as second,
        client_of(second) as busy,
        client_of(second) as stuck,
    ):
        await busy.ask(b"abc\n")
        second.hang()
        stuck.writer.write(b"abc\n")

    await until(lambda: _is_idle(wire), "what it had connected is closed")
    assert asyncio.all_tasks() <= before | wire._tasks


async def _is_idle(wire: Wire) -> bool:
    return wire.open == 0
