"""A server that neither answers nor goes away."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sandbox.postgres import Postgres, processes_in
from sandbox.redis import Redis


@contextmanager
def frozen(server: Postgres | Redis) -> Iterator[None]:
    """Every process of the server stopped: connections are accepted by the kernel, and hang."""
    pids = [server.pid] if isinstance(server, Redis) else processes_in(server.cluster)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
