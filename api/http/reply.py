"""An answer as it goes out, and what is refused instead of answered."""

import base64
import hashlib
import json
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import orjson

from api.documents import Json
from api.gateway.provenance import Age
from api.http.negotiation import MediaType

_MARK = secrets.token_hex(16).encode()  # stands in no answer

Header: TypeAlias = tuple[bytes, bytes]

ALWAYS: tuple[Header, ...] = (
    (b"vary", b"Accept, Accept-Encoding, Authorization"),
    # A page of somebody else can have a browser ask, but not see or use what is answered.
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# Of a request that is one, but could not be carried out. In plain JSON only the body tells: older
# clients take any other status for a proxy's.
_NOT_CARRIED_OUT = {MediaType.JSON: 200, MediaType.GRAPHQL: 400}
# A packet carries about 1,400 bytes: what fits into one comes no sooner for being smaller. Of
# lists without texts a fifth is left for 5 us per KB, of texts two fifths for 12 us; level 6 would
# take three times as long for a tenth less. With the usual 256 KB of tables, clearing them alone
# would take 50 us: as long as compressing 8 KB.
GZIP_FROM = 1_400
_GZIP = 31  # zlib's number for gzip with its window of 32 KB


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is ready: it can be sent any number of times.

    `headers`: all but those of its length and encoding. `tag`: by which a caller who has it already
    can say so; None if nobody may keep it.
    """

    status: int
    headers: tuple[Header, ...]
    body: bytes = b""
    tag: bytes | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """An answer without the ages in it. `parts` stand before, between and behind them.

    `lasts`: whether all ages are left out.
    """

    parts: Sequence[bytes]
    as_of: Sequence[datetime]
    lasts: bool = True

    @classmethod
    def of(cls, answer: object) -> "Text":
        """Raises TypeError for what JSON cannot hold."""
        ages: list[datetime] = []

        def mark(value: object) -> orjson.Fragment:
            if not isinstance(value, Age):
                raise TypeError
            ages.append(value.as_of)
            return orjson.Fragment(_MARK)

        try:
            written = orjson.dumps(answer, default=mark)
        except TypeError:  # an integer of more than 64 bits, or a surrogate in what was asked
            return cls([json.dumps(answer).encode()], [], lasts=False)
        return cls(written.split(_MARK) if ages else [written], ages)

    @property
    def stable(self) -> bytes:
        """What is the same whenever it is asked for."""
        return b"".join(self.parts)

    def now(self) -> bytes:
        """All of it, with the ages as they are now."""
        if not self.as_of:
            return self.parts[0]
        now = datetime.now(UTC)
        written = [self.parts[0]]
        for as_of, part in zip(self.as_of, self.parts[1:], strict=True):
            written += (orjson.dumps(Age.at(now, as_of)), part)
        return b"".join(written)


@dataclass(frozen=True, slots=True)
class Draft:
    """A reply but for the ages in it."""

    status: int
    headers: tuple[Header, ...]
    text: Text
    tag: bytes | None

    def reply(self) -> Reply:
        return Reply(self.status, self.headers, self.text.now(), self.tag)


class Refused(Exception):
    """What is no operation, or none that may be sent like this. The message says what to do.

    `details` go beside the code into the answer.

    `status`: None if the request itself was in order. `hang_up`: its body may be on its way yet,
    and the server would read on only to throw it away.
    """

    def __init__(
        self,
        status: int | None,
        message: str,
        *,
        code: str = "BAD_INPUT",
        headers: tuple[Header, ...] = (),
        hang_up: bool = False,
        **details: Json,
    ) -> None:
        super().__init__(message)
        self.details = details
        self.status = status
        self.code = code
        self.more = (*headers, (b"connection", b"close")) if hang_up else headers

    def reply(self, media_type: MediaType) -> Reply:
        status = self.status or _NOT_CARRIED_OUT[media_type]
        error = {"message": str(self), "extensions": {"code": self.code, **self.details}}
        return failed(status, media_type, error, self.more)


def answered(
    media_type: MediaType, answer: Mapping[str, object], *, may_be_kept: bool = False
) -> Draft:
    """The reply that carries an answer: {data, errors}.

    `may_be_kept`: by the caller, who then asks each time whether it still holds. It does as long as
    nothing but ages has changed.
    """
    text = Text.of(answer)
    tag = tag_of(text.stable) if may_be_kept else None
    status = 200 if "data" in answer else _NOT_CARRIED_OUT[media_type]
    return Draft(status, _headers(media_type, tag), text, tag)


def failed(
    status: int, media_type: MediaType, error: Mapping[str, object], more: tuple[Header, ...] = ()
) -> Reply:
    """The reply to what was not even looked at, or broke."""
    return Reply(status, _headers(media_type, None) + more, Text.of({"errors": [error]}).now())


def tag_of(stable: bytes) -> bytes:
    """A weak tag: of two answers that have it in common the age may differ, and the encoding."""
    digest = hashlib.blake2b(stable, digest_size=15).digest()
    return b'W/"%s"' % base64.urlsafe_b64encode(digest)


def zipped(body: bytes) -> bytes:
    packer = zlib.compressobj(level=1, wbits=_GZIP, memLevel=6)
    return packer.compress(body) + packer.flush()


def _headers(media_type: MediaType, tag: bytes | None) -> tuple[Header, ...]:
    content_type = (b"content-type", f"{media_type}; charset=utf-8".encode())
    if tag is None:
        return (content_type, *ALWAYS, (b"cache-control", b"no-store"))
    # Documents are private, and whoever keeps an answer asks each time whether it still holds.
    return (content_type, *ALWAYS, (b"cache-control", b"private, no-cache"), (b"etag", tag))
