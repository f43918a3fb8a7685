"""The people who are to know: whoever ALERT_URLS names, through apprise."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from pydantic import SecretStr

from api.settings import SettingsError

log = logging.getLogger(__name__)

Way: TypeAlias = Callable[[str, str, str, str], object]  # text, title, kind, format; true: taken

_THREADS = 8
SECONDS = 20.0  # for one notice; apprise itself waits for 4 to connect and for 4 to read


class People:
    """Raises SettingsError when apprise does not know one of the URLs."""

    def __init__(self, urls: Sequence[SecretStr]) -> None:
        # Threads of their own: those of the event loop look up addresses, and must not run out.
        self._threads = ThreadPoolExecutor(_THREADS, "alerts")
        self._ways = [_open(number, url) for number, url in enumerate(urls, 1)]

    async def tell(self, title: str, text: str, *, is_good: bool = False) -> bool:
        """Send a notice to all. False when it reached nobody, as far as we know. Never raises."""
        ways = enumerate(self._ways, 1)
        reached = await asyncio.gather(
            *(self._send(number, way, title, text, is_good=is_good) for number, way in ways)
        )
        return any(reached)

    async def _send(self, number: int, way: Way, title: str, text: str, *, is_good: bool) -> bool:
        kind = "success" if is_good else "warning"
        reason = "it was refused, or there was no answer"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SECONDS):
                if await loop.run_in_executor(self._threads, way, text, title, kind, "text"):
                    return True
        except TimeoutError:
            reason = f"it took longer than {SECONDS:g} seconds"
        except Exception as error:  # apprise's senders are many, and strangers
            reason = type(error).__name__  # its text may hold the URL
        log.warning("the notice %r did not reach URL %d of ALERT_URLS: %s", title, number, reason)
        return False


def _open(number: int, url: SecretStr) -> Way:
    from apprise import Apprise  # noqa: PLC0415 - slow to import, and most have no use for it

    # They may say where they send to, and the password is in it.
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    way = Apprise()
    if not way.add(url.get_secret_value()):
        raise SettingsError(
            f"Cannot start the worker: correct ALERT_URLS: apprise does not know its URL {number}."
        )
    return way.notify
