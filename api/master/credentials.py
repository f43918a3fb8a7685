"""Who we are to GitHub: the owner of a token, or an App that renews its tokens itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import jwt

from api.master.answers import Answer, token_failure
from api.master.errors import Unreachable

# POST to a path below the REST root with a bearer. Raises Unreachable when no answer came.
Post = Callable[[str, str], Awaitable[Answer]]

_BEFORE_ITS_END = timedelta(minutes=5)  # of a token's hour, so that no request outlives it
_BACKDATED, _VALID = 60, 600  # seconds, of what an App signs; GitHub takes no more than 10 minutes


class Credentials(Protocol):
    """`renews`: whether another token can be had where GitHub refuses the first."""

    @property
    def renews(self) -> bool: ...

    async def token(self, post: Post, *, refused: str | None = None) -> str:
        """The token to send, another one than `refused`. Raises MasterError."""


class FixedToken:
    """A token of a person's or a machine's account. When it ends, somebody has to replace it."""

    renews = False

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self, post: Post, *, refused: str | None = None) -> str:  # noqa: ARG002
        return self._token


class App:
    """A GitHub App where it is installed: `app_id` or client id, `private_key` in PEM.

    Its tokens last an hour. One is asked for when it is needed, and once, however many need it.
    """

    renews = True

    def __init__(self, app_id: str, private_key: str, installation_id: int) -> None:
        self._app_id = app_id
        self._private_key = private_key
        self._path = f"/app/installations/{installation_id}/access_tokens"
        self._token = ""
        self._renew_at = datetime.min.replace(tzinfo=UTC)
        self._turn = asyncio.Lock()

    async def token(self, post: Post, *, refused: str | None = None) -> str:
        async with self._turn:
            if self._token == refused or datetime.now(UTC) >= self._renew_at:
                self._token, self._renew_at = _read(await post(self._path, self._signed()))
            return self._token

    def _signed(self) -> str:
        """Proof that we have the App's key, for one request."""
        issued = int(time.time()) - _BACKDATED  # GitHub's clock may be behind ours
        claims = {"iss": self._app_id, "iat": issued, "exp": issued + _VALID}
        return jwt.encode(claims, self._private_key, algorithm="RS256")


def _read(answer: Answer) -> tuple[str, datetime]:
    """A new token, and when to ask for the next."""
    if answer.status != 201:
        raise token_failure(answer)
    token, ends_at = ((answer.data or {}).get(name) for name in ("token", "expires_at"))
    try:
        if isinstance(token, str) and isinstance(ends_at, str):
            return token, datetime.fromisoformat(ends_at).astimezone(UTC) - _BEFORE_ITS_END
    except (ValueError, OverflowError):
        pass
    raise Unreachable(
        "GitHub's answer to the App has no token in it. Try again shortly.",
        request_id=answer.request_id,
    )
