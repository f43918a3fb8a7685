"""Who may come in, from where, and what for. Pure.

A key is 32 random bytes: nobody finds it by trying, so a plain digest is enough to know it by and
all that is stored. Keys are configured, not kept in the cache: whoever may come in may also come
in while PostgreSQL is down or being rebuilt.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from ipaddress import ip_address

_MARK = "annoris_"  # begins every key, so that scanners for secrets know one
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BEARER = re.compile(rb"bearer +([!-~]+) *", re.IGNORECASE)


class Scope(StrEnum):
    """What a key is good for. ADMIN includes the others."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks. `name` is None where no keys are configured: then anybody may do all."""

    name: str | None
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANYBODY = Caller(None, frozenset({Scope.ADMIN}))


class Unauthenticated(Exception):
    """There is no key, or none that is valid. The message says what to do."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is configured. `last_day` (UTC): on which it is valid, if it ends."""

    name: str
    scopes: frozenset[Scope]
    digest: str
    last_day: date | None = None

    def __str__(self) -> str:
        """The entry in API_KEYS."""
        scopes = "+".join(scope for scope in Scope if scope in self.scopes)
        parts = [self.name, scopes, self.digest, *([str(self.last_day)] if self.last_day else [])]
        return ":".join(parts)


def new_key(name: str, scopes: Iterable[Scope], last_day: date | None = None) -> tuple[str, ApiKey]:
    """The key for its owner, and what to configure. Raises ValueError."""
    secret = _MARK + secrets.token_urlsafe(32)
    return secret, _checked(ApiKey(name, frozenset(scopes), _digest(secret.encode()), last_day))


def read_keys(text: str) -> tuple[ApiKey, ...]:
    """The keys of API_KEYS: `name:scope+scope:digest`, with `:last day` if they end.

    Raises ValueError, which names the entry by its number and quotes nothing of it.
    """
    found: dict[str, ApiKey] = {}
    for number, entry in enumerate(filter(None, re.split(r"[\s,]+", text)), start=1):
        try:
            key = _read_key(entry)
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from None
        if key.name in found:
            raise ValueError(f"entry {number}: its name is taken by another")
        found[key.name] = key
    return tuple(found.values())


class Keyring:
    """The keys that open the door. Without any it stands open."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    @property
    def is_open(self) -> bool:
        return not self._keys

    def caller(self, authorization: bytes | None, now: datetime) -> Caller:
        """Whoever sends this header. Raises Unauthenticated."""
        if self.is_open:
            return ANYBODY
        if authorization is None:
            raise Unauthenticated(
                "Send an API key, as `Authorization: Bearer KEY`. Whoever runs the gateway makes "
                "one with `annoris keys new`."
            )
        given = _BEARER.fullmatch(authorization)
        digest = _digest(given[1]) if given else ""
        key = None
        for known in self._keys:  # all of them: the time taken tells nothing of any
            if hmac.compare_digest(known.digest, digest):
                key = known
        if key is None:
            raise Unauthenticated(
                "The API key is not known here: it is mistyped or was revoked. Send "
                "`Authorization: Bearer KEY` with a key from `annoris keys new`."
            )
        if key.last_day and now.astimezone(UTC).date() > key.last_day:
            raise Unauthenticated(
                f"The API key {key.name} ended on {key.last_day}. Make another with `annoris keys "
                "new`."
            )
        return Caller(key.name, key.scopes)


def is_loopback(host: str) -> bool:
    """Whether this name or address is of the machine itself, and of no network."""
    name = host.lower().strip("[]")
    try:
        return name == "localhost" or name.endswith(".localhost") or ip_address(name).is_loopback
    except ValueError:
        return False


def _read_key(entry: str) -> ApiKey:
    day: str | None
    match entry.split(":"):
        case [name, scopes, digest]:
            day = None
        case [name, scopes, digest, day]:
            pass
        case _:
            raise ValueError("it must be name:scopes:digest, or name:scopes:digest:last-day")
    return _checked(ApiKey(name, _scopes(scopes), digest, _day(day) if day else None))


def _scopes(text: str) -> frozenset[Scope]:
    try:
        return frozenset(map(Scope, text.split("+")))
    except ValueError:
        raise ValueError(f"its scopes must be some of {'+'.join(Scope)}") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("its last day must be a date such as 2027-06-30") from None


def _checked(key: ApiKey) -> ApiKey:
    if not _NAME.fullmatch(key.name):
        raise ValueError("a name has up to 64 letters, digits, dots, hyphens and underscores")
    if not _DIGEST.fullmatch(key.digest):
        raise ValueError("a digest has 64 hexadecimal digits, as `annoris keys new` prints it")
    if not key.scopes:
        raise ValueError(f"a key needs a scope: {', '.join(Scope)}")
    return key


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()
