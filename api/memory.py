"""Memory that a process has freed and the C library keeps: it is paid for as long as it is kept."""

import asyncio
import ctypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_EVERY = 30.0  # seconds


@asynccontextmanager
async def giving_back() -> AsyncIterator[None]:
    """Give it back to the system now and then, within the block. Only glibc keeps any."""
    task = asyncio.create_task(_give_back())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _give_back() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(_EVERY)
        await asyncio.to_thread(trim, 0)  # some milliseconds
