"""Clients that send the next request when the last one is answered, in a process of their own.

As little work as can be for each request, so that it is the server that is measured. `Load` starts
the process and gives it orders, one JSON object a line; it answers each with one.
"""

import asyncio
import contextlib
import gc
import json
import re
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count, cycle
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import psutil
from uvicorn.loops.auto import auto_loop_factory

from tests.bench.figures import percentile

HOST = "127.0.0.1"
SLOT = 1_000_000_000  # where it stands in a body, each request has another number of as many digits
PATIENCE = 60.0  # seconds that an answer, or as many answers as are needed, may take
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+) *\r\n", re.IGNORECASE)


class LoadFailed(Exception):
    """A measurement came to nothing. The message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be measured. Times are in seconds.

    `bodies` is a file with the body of a request in each line, which are sent in turn, again and
    again. `keys`: API keys, which the clients have in turn. The measurement begins after `warm_up`,
    and lasts `seconds` and until there are `least` answers; or so many as `most` are sent, and it
    lasts until they are answered. `watched`: processes by name, of which the CPU time is counted
    with that of their children.
    """

    port: int
    path: str
    bodies: str
    clients: int
    seconds: float = 0.0
    warm_up: float = 0.0
    least: int = 1
    most: int | None = None
    keys: Sequence[str] = ()
    watched: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was measured: `p50` and `p99` in ms, `cpu` in seconds per 1,000 requests by process.

    `own`: how busy this process was, as a share of one CPU. `sent` counts also what was sent while
    it warmed up. `wrong`: answers that were none, with an example.
    """

    requests: int
    sent: int
    rate: float
    p50: float
    p99: float
    cpu: Mapping[str, float]
    own: float
    wrong: int
    example: str | None


class Answers:
    """The answers on one connection, which come one at a time."""

    __slots__ = ("_data", "_end", "_start")

    def __init__(self) -> None:
        self._data = b""
        self._start = self._end = 0  # of the body, once the head is there

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The status and the body of the answer when this was its end. Raises LoadFailed."""
        data = self._data + data if self._data else data
        if not self._end:
            head = data.find(b"\r\n\r\n")
            if head >= 0:
                length = _LENGTH.search(data, 0, head + 2)
                if length is None:
                    raise LoadFailed(f"an answer without a length: {data[:head]!r}")
                self._start = head + 4
                self._end = self._start + int(length[1])
        if not self._end or len(data) < self._end:
            self._data = data
            return None
        if len(data) > self._end:
            raise LoadFailed(f"more than was asked for: {data[self._end :][:200]!r}")
        answer = data[9:12], data[self._start :]
        self._data, self._end = b"", 0
        return answer


def requests(order: Order, numbers: Iterator[int], key: str | None = None) -> Iterator[bytes]:
    """The requests of an order, each with a number of its own in its slot, without an end."""
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    slot = b"%d" % SLOT
    pieces = []
    for line in Path(order.bodies).read_bytes().splitlines():
        head = (
            f"POST {order.path} HTTP/1.1\r\nhost: {HOST}:{order.port}\r\n"
            f"content-type: application/json\r\naccept: application/json\r\n{authorization}"
            f"content-length: {len(line)}\r\n\r\n"
        )
        pieces.append((head.encode() + line).split(slot))
    return (
        parts[0] if len(parts) == 1 else (b"%d" % next(numbers)).join(parts)
        for parts in cycle(pieces)
    )


class _Run:
    """One measurement, and what its clients have seen."""

    def __init__(self, order: Order, streams: Sequence[Iterator[bytes]]) -> None:
        self.order = order
        self.streams = cycle(streams)
        self.sent = self.wrong = 0
        self.open = order.clients
        self.latencies = array("d")
        self.example: str | None = None
        self.failure: str | None = None
        self.is_over = False
        self._needed = order.most or order.least
        self._enough, self._closed = asyncio.Event(), asyncio.Event()

    async def measure(self) -> Outcome:
        order, loop = self.order, asyncio.get_running_loop()
        before = {name: cpu_seconds(pid) for name, pid in order.watched.items()}
        for _ in range(order.clients):
            await loop.create_connection(
                lambda: _Client(self, next(self.streams)), HOST, order.port
            )
        if order.most is None:
            await asyncio.sleep(order.warm_up)
            self.latencies = array("d")
            self._enough.clear()
        start, busy = time.perf_counter(), time.process_time()
        if order.most is None:
            await asyncio.sleep(order.seconds)
        await _soon(self._enough)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        measured = sorted(self.latencies)
        self.is_over = True
        await _soon(self._closed)
        if self.failure or not measured:
            raise LoadFailed(self.failure or f"no answer within {seconds:.0f} seconds")
        return Outcome(
            requests=len(measured),
            sent=self.sent,
            rate=len(measured) / seconds,
            p50=1000 * percentile(measured, 0.5),
            p99=1000 * percentile(measured, 0.99),
            cpu={
                name: 1000 * (cpu_seconds(pid) - before[name]) / self.sent
                for name, pid in order.watched.items()
            },
            own=busy / seconds,
            wrong=self.wrong,
            example=self.example,
        )

    def note(self, seconds: float, status: bytes, body: bytes) -> None:
        self.latencies.append(seconds)
        if status != b"200" or b'"errors"' in body:
            self.wrong += 1
            self.example = f"{status.decode()} {body[:500].decode(errors='replace')}"
        if len(self.latencies) == self._needed:
            self._enough.set()

    def next(self, stream: Iterator[bytes]) -> bytes | None:
        """The next request, if there is to be one."""
        if self.is_over or self.sent == self.order.most:
            return None
        self.sent += 1
        return next(stream)

    def fail(self, reason: str) -> None:
        self.failure = reason
        self._enough.set()

    def closed(self) -> None:
        self.open -= 1
        if not self.open:
            self._closed.set()


async def _soon(event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await event.wait()


class _Client(asyncio.Protocol):
    def __init__(self, run: _Run, stream: Iterator[bytes]) -> None:
        self._run = run
        self._stream = stream
        self._answers = Answers()
        self._sent_at = 0.0
        self._is_done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._ask()

    def data_received(self, data: bytes) -> None:
        try:
            answer = self._answers.feed(data)
        except LoadFailed as error:
            self._run.fail(str(error))
            self._close()
            return
        if answer is not None:
            self._run.note(time.perf_counter() - self._sent_at, *answer)
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._is_done:
            self._run.fail(f"the server closed a connection ({error})")
        self._run.closed()

    def _ask(self) -> None:
        request = self._run.next(self._stream)
        if request is None:
            self._close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def _close(self) -> None:
        self._is_done = True
        self._transport.close()


class Load:
    """The process, as a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, order: Order) -> Outcome:
        """Raises LoadFailed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        answer = json.loads(self._process.stdout.readline() or '{"failure": "it ended"}')
        if "failure" in answer:
            raise LoadFailed(f"{order.path} with {order.clients} clients: {answer['failure']}")
        return Outcome(**answer)


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process and its children have taken so far, with those that ended."""
    seconds = 0.0
    for one in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended just now
            seconds += sum(one.cpu_times()[:4])
    return seconds


def family(pid: int) -> Sequence[psutil.Process]:
    """A process and its children."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def main() -> None:
    gc.disable()  # nothing here is in a cycle
    streams: dict[tuple[int, str, str], Sequence[Iterator[bytes]]] = {}
    numbers = count(SLOT + 1)
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        for line in sys.stdin:
            order = Order(**json.loads(line))
            key = (order.port, order.path, order.bodies)
            if key not in streams:
                streams[key] = [requests(order, numbers, one) for one in order.keys or (None,)]
            try:
                answer = asdict(runner.run(_Run(order, streams[key]).measure()))
            except (LoadFailed, OSError, psutil.Error) as error:
                answer = {"failure": str(error)}
            print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
