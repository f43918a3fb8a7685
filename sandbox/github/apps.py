"""GitHub Apps: a signed proof of the App's key is exchanged for a token of its installation."""

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import jwt

from sandbox.github.catalogue import (
    APP_NOT_FOUND,
    JWT_EXPIRED,
    JWT_ISSUED_LATER,
    JWT_TOO_LONG,
    JWT_UNREADABLE,
    Message,
)
from sandbox.github.identity import Identity, Permission

TOKEN_SECONDS = 3600.0
_LONGEST_PROOF = 600  # seconds


class RefusedProof(Exception):
    """What an App sent does not prove that it is the App."""

    def __init__(self, message: Message, status: int = 401) -> None:
        super().__init__(message.text)
        self.message = message
        self.status = status


@dataclass(frozen=True)
class App:
    """An App, and its one installation, which may be suspended. `public_key` in PEM."""

    id: int
    slug: str
    public_key: str
    installation: int
    permission: Permission | None = "WRITE"
    suspended: bool = False

    @property
    def identity(self) -> Identity:
        return Identity(
            f"{self.slug}[bot]", id=self.id, permission=self.permission, credential="integration"
        )


@dataclass
class Apps:
    """The Apps that are known, and the tokens that they were given."""

    known: dict[int, App]
    """By their number. May be changed while running: an App that is removed is deleted."""
    token_seconds: float = TOKEN_SECONDS
    """How long a token lasts from when it is given."""
    _tokens: dict[str, tuple[App, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, apps: Iterable[App]) -> "Apps":
        return cls({app.id: app for app in apps})

    def expire_tokens(self) -> None:
        """Let all tokens end that were given so far."""
        self._tokens.clear()

    def identity(self, token: str) -> Identity | None:
        """Whose token it is, while it lasts."""
        app, ends = self._tokens.get(token, (None, 0.0))
        return app.identity if app and time.time() < ends else None

    def prove(self, proof: str) -> App:
        """The App that signed `proof`, a JWT. Raises RefusedProof."""
        try:
            claims = jwt.decode(proof, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            raise RefusedProof(JWT_UNREADABLE) from None
        app = next((app for app in self.known.values() if str(app.id) == claims.get("iss")), None)
        if app is None:
            raise RefusedProof(APP_NOT_FOUND, 404)
        try:
            claims = jwt.decode(
                proof,
                app.public_key,
                algorithms=["RS256"],
                options={"require": ["iat", "exp"]},
            )
        except jwt.ExpiredSignatureError:
            raise RefusedProof(JWT_EXPIRED) from None
        except jwt.ImmatureSignatureError:
            raise RefusedProof(JWT_ISSUED_LATER) from None
        except jwt.InvalidTokenError:
            raise RefusedProof(JWT_UNREADABLE) from None
        if claims["exp"] > time.time() + _LONGEST_PROOF:
            raise RefusedProof(JWT_TOO_LONG)
        return app

    def give(self, app: App) -> Mapping[str, object]:
        """A new token, as GitHub answers with it."""
        token = f"ghs_{secrets.token_hex(18)}"
        ends = time.time() + self.token_seconds
        self._tokens[token] = (app, ends)
        return {
            "token": token,
            "expires_at": datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "permissions": {
                "contents": "write" if app.identity.may_write else "read",
                "metadata": "read",
            },
            "repository_selection": "selected",
        }
