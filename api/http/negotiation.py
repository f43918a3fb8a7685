"""What the headers of a request say of the answer that is wanted. Pure."""

import re
from enum import StrEnum
from functools import lru_cache

from api.access import is_loopback

_WEIGHT = re.compile(r"(0(\.\d{0,3})?|1(\.0{0,3})?)")
_PORT = re.compile(r":[0-9]*$")
_UTF8 = {"utf-8", "utf8"}
_remembered = lru_cache(maxsize=64)  # clients of a kind send the same headers for ever


class MediaType(StrEnum):
    """What an answer can be. They differ in their status codes: see `reply.answered`."""

    JSON = "application/json"
    GRAPHQL = "application/graphql-response+json"


@_remembered
def answer_type(accept: bytes | None) -> MediaType | None:
    """The media type of the answer by the header `Accept`. None: none of ours will do.

    Who names no type gets the one that everybody understands; who names both alike, the newer.
    """
    if not accept:
        return MediaType.JSON
    weights = _weights(accept)
    best, found = (0.0, False, False), None
    for media_type in MediaType:
        is_named = media_type in weights
        is_newer = media_type is MediaType.GRAPHQL
        rank = (_weight_of(media_type, weights), is_named, is_newer is is_named)
        if rank[0] and rank > best:
            best, found = rank, media_type
    return found


@_remembered
def prefers_page(accept: bytes | None) -> bool:
    """Whether it is a browser's address bar that asks."""
    weights = _weights(accept or b"")
    page = weights.get("text/html", 0.0)
    return page > 0 and all(page >= _weight_of(media_type, weights) for media_type in MediaType)


@_remembered
def takes_gzip(accept_encoding: bytes | None) -> bool:
    """Whether an answer may be compressed by the header `Accept-Encoding`."""
    weights = _weights(accept_encoding or b"")
    weight = weights.get("gzip", weights.get("*", 0.0))
    return weight > 0 and weight >= weights.get("identity", 0.0)


@_remembered
def is_json(content_type: bytes | None) -> bool:
    """Whether a body is JSON in UTF-8 by the header `Content-Type`."""
    name, *parameters = (content_type or b"").decode("latin-1").lower().split(";")
    if name.strip() != "application/json":
        return False
    named = (parameter.partition("=") for parameter in parameters)
    charsets = {value.strip(' "') for key, _, value in named if key.strip() == "charset"}
    return charsets <= _UTF8


@_remembered
def is_local(host: bytes) -> bool:
    """Whether the header `Host` names this machine in a way that leads nowhere else.

    The owner of another name can have it lead here, for the pages that came from there.
    """
    return is_loopback(_PORT.sub("", host.decode("latin-1")))


def has(if_none_match: bytes, tag: bytes) -> bool:
    """Whether the header `If-None-Match` names this tag, as it is compared there: weakly."""
    if if_none_match.strip() == b"*":
        return True
    tags = (each.strip().removeprefix(b"W/") for each in if_none_match.split(b","))
    return tag.removeprefix(b"W/") in tags


def _weights(header: bytes) -> dict[str, float]:
    """`a/b, c/d;q=0.5` as {"a/b": 1.0, "c/d": 0.5}. What cannot be understood weighs nothing."""
    weights = dict[str, float]()
    for part in header.decode("latin-1").lower().split(","):
        name, *parameters = (each.strip() for each in part.split(";"))
        given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        weight = float(given) if _WEIGHT.fullmatch(given) else 0.0
        weights[name] = max(weight, weights.get(name, 0.0))
    return weights


def _weight_of(media_type: MediaType, weights: dict[str, float]) -> float:
    by_range = weights.get("application/*", weights.get("*/*", 0.0))
    return weights.get(media_type, by_range)
