"""Field values as YAML that every reader takes for the same value."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TypeAlias

Scalar: TypeAlias = str | int | datetime | date

_PLAIN = re.compile(r"[^\W\d_](?:[\w ./()+-]*[\w.)+-])?")
# What some YAML version reads as something else than text.
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def iso(value: datetime | date) -> str:
    """`2025-10-20T14:30:00Z` in UTC, or `2025-10-20`."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat()


def scalar(value: Scalar, quote: str = "") -> str:
    """One value on one line; `quote` is the quotation mark to use where that is possible."""
    if isinstance(value, datetime | date):
        return f"{quote}{iso(value)}{quote}"
    if isinstance(value, int):
        return str(value)
    if quote == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if not quote and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return '"' + "".join(map(_escaped, value)) + '"'


def flow_list(items: Sequence[str]) -> str:
    return "[" + ", ".join(map(scalar, items)) + "]"


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable() or character == "\u200d":  # which joins emoji
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
