"""A client that does what it should not, in a process of its own, until its time is over.

All at once, each again as soon as the last time has ended: queries that are too deep, queries that
are as dear as the limits allow, the schema, bodies of 24 MB, bodies that hardly arrive, and hanging
up in the middle. It does not wait when it is told to. Says when it is ready, begins when it gets a
line, and prints how often it did what, and what it was answered.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import orjson

from tests.bench.load import HOST

PATIENCE = 5.0  # seconds for an answer
SLOW_CONNECTIONS = 50
AT_ONCE = 10  # of the same kind, where the answers are large
BYTE_SECONDS = 0.1  # between two bytes of a slow body
HUGE = 24_000_000  # bytes


def deep(number: int) -> str:
    inner = "id"
    for _ in range(40):
        inner = f"project {{ sessions(first: 1) {{ nodes {{ {inner} }} }} }}"
    return f"query Deep{number} {{ sessions(first: 1) {{ nodes {{ {inner} }} }} }}"


def long_to_check(number: int) -> str:
    """Fragments of fragments, as many as 500 tokens can hold: checked for contradictions."""
    fragments = " ".join(
        f"fragment f{n} on Session {{ id title ...f{n + 1} ...f{min(n + 2, 36)} }}"
        for n in range(36)
    )
    last = "fragment f36 on Session { id }"
    return f"query Long{number} {{ sessions {{ nodes {{ ...f0 }} }} }} {fragments} {last}"


def large_to_answer(number: int) -> str:
    """Just about 20,000 values."""
    fields = "id path title status priority agent occurredAt tags revision bytes hot"
    lists = " ".join(
        f"l{n}: sessions(first: 100, maxStaleness: {10**9 + number}) {{ nodes {{ {fields} }} }}"
        for n in range(14)
    )
    return f"query Large{number} {{ {lists} }}"


def schema_again_and_again(number: int) -> str:
    fields = "fields { name type { name kind isOneOf ofType { name isOneOf } } }"
    lists = " ".join(f"s{n}: __schema {{ types {{ name {fields} }} }}" for n in range(4))
    return f"query Schema{number} {{ {lists} }}"


def huge(number: int) -> bytes:
    """JSON of as many small things as fit."""
    things = [0] * (HUGE // 2)
    return orjson.dumps(
        {"query": f"query Huge{number} {{ __typename }}", "variables": {"x": things}}
    )


class Misbehaving:
    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._numbers = count(random.randrange(10**6))
        self.done = Counter[str]()

    async def run(self, seconds: float) -> None:
        body = huge(next(self._numbers))
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        over = time.monotonic() + seconds
        ways: list[tuple[str, Callable[[], Awaitable[str]]]] = [
            ("deep", lambda: self._ask(self._query(deep))),
            ("long to check", lambda: self._ask(self._query(long_to_check))),
            *[("large to answer", lambda: self._ask(self._query(large_to_answer)))] * AT_ONCE,
            ("schema", lambda: self._ask(self._query(schema_again_and_again))),
            ("huge", lambda: self._ask(body)),
            ("hung up", lambda: self._hang_up(self._query(large_to_answer))),
            *[("slow", lambda: self._dribble(over))] * SLOW_CONNECTIONS,
        ]
        await asyncio.gather(*(self._again(over, name, way) for name, way in ways))

    async def _again(self, over: float, name: str, way: Callable[[], Awaitable[str]]) -> None:
        while (left := over - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(left, PATIENCE)):
                    told = await way()
            except (OSError, EOFError):
                told = "cut off"
            except TimeoutError:
                told = "no answer"
            self.done[f"{name}: {told}"] += 1

    def _query(self, make: Callable[[int], str]) -> bytes:
        return orjson.dumps({"query": make(next(self._numbers))})

    async def _ask(self, body: bytes) -> str:
        async with self._connected() as (reader, writer):
            writer.write(self._head(len(body)) + body)
            status = (await reader.readline()).split(b" ")[1:2]
            answer = await reader.read()
            codes = [b"".join(status).decode()]
            with contextlib.suppress(ValueError, KeyError, TypeError):
                errors = json.loads(answer.partition(b"\r\n\r\n")[2])["errors"]
                codes.append(errors[0]["extensions"]["code"])
            return " ".join(codes)

    async def _hang_up(self, body: bytes) -> str:
        async with self._connected() as (_, writer):
            writer.write(self._head(len(body)) + body)
            await writer.drain()
            await asyncio.sleep(0.005)
            return "gone"

    async def _dribble(self, over: float) -> str:
        async with self._connected() as (reader, writer):
            writer.write(self._head(1_000))
            reading = asyncio.ensure_future(reader.readline())
            try:
                while time.monotonic() < over and not reading.done():
                    writer.write(b" ")
                    await asyncio.sleep(BYTE_SECONDS)
            finally:
                reading.cancel()
            return "still going on" if reading.cancelled() else "answered"

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    def _head(self, length: int) -> bytes:
        return (
            f"POST /graphql HTTP/1.1\r\nhost: {HOST}:{self._port}\r\nconnection: close\r\n"
            f"authorization: Bearer {self._key}\r\ncontent-type: application/json\r\n"
            f"content-length: {length}\r\n\r\n"
        ).encode()


def main() -> None:
    port, key, seconds = sys.argv[1:]
    client = Misbehaving(int(port), key)
    asyncio.run(client.run(float(seconds)))
    print(json.dumps(client.done))  # noqa: T201


if __name__ == "__main__":
    main()
