"""A server that neither answers nor goes away."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sandbox.postgres import Postgres, processes_in
from sandbox.redis import Redis


@contextmanager
def frozen(server: Postgres | Redis) -> Iterator[None]:
    """Every process of the server stopped: connections are accepted by the kernel, and hang.

    PostgreSQL's own processes come and go (autovacuum's every few seconds): one that ended since
    it was listed is no reason to fail, and one that began meanwhile is found the next time.
    """
    stopped = set[int]()
    try:
        while more := _processes_of(server) - stopped:
            stopped |= _signal(more, signal.SIGSTOP)
        yield
    finally:
        _signal(stopped, signal.SIGCONT)


def thaw(server: Postgres) -> None:
    _signal(_processes_of(server), signal.SIGCONT)


def _processes_of(server: Postgres | Redis) -> set[int]:
    return {server.pid} if isinstance(server, Redis) else set(processes_in(server.cluster))


def _signal(pids: set[int], kind: signal.Signals) -> set[int]:
    """`pids`, each of which got the signal unless it has ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, kind)
    return pids
