"""What is asked, read from the bytes of a body or of a URL. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NoReturn
from urllib.parse import parse_qs

import orjson

from api.http.reply import Refused

# Of strings, brackets and commas. As JSON it has three bytes each, in memory a hundred.
MAX_JSON_TOKENS = 200_000
_JSON_TOKEN = re.compile(rb'"(?>[^"\\]+|\\.)*+(?:"|\Z)|[,\[{]', re.DOTALL)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PARAMETERS = 20  # in a URL; four have a meaning
_OBJECT = "Send a JSON object in UTF-8, with the operation in `query`."


@dataclass(frozen=True, slots=True)
class Asked:
    """One operation. `digest`: the SHA-256 by which it is known, or wants to be (hexadecimal)."""

    query: str | None
    operation_name: str | None
    variables: Mapping[str, object] | None
    digest: str | None


def read_body(body: bytes) -> Asked:
    """The operation in the body of a POST. Raises Refused."""
    _check_tokens(body)
    content = _json(body)
    if isinstance(content, list):
        raise Refused(400, "Send one operation at a time, as a JSON object: arrays are not taken.")
    if not isinstance(content, dict):
        raise Refused(400, _OBJECT)
    return _asked(content)


def read_parameters(query_string: bytes) -> Asked:
    """The operation in the parameters of a URL. Raises Refused."""
    try:
        text = query_string.decode("ascii")
        given = parse_qs(text, errors="strict", max_num_fields=_PARAMETERS)
    except ValueError:
        raise Refused(400, "The parameters of the URL cannot be read: send UTF-8.") from None
    for name, values in given.items():
        if len(values) > 1:
            raise Refused(400, f"Give the parameter {_shown(name)} once.")
    content: dict[str, object] = {name: value for name, [value] in given.items()}
    for name in ("variables", "extensions"):
        if name in given:
            content[name] = _json(given[name][0])
    return _asked(content)


def _asked(content: Mapping[str, object]) -> Asked:
    query, name = content.get("query"), content.get("operationName")
    variables, extensions = content.get("variables"), content.get("extensions")
    if not isinstance(query, str | None):
        raise Refused(400, "`query` must be a text.")
    if not isinstance(name, str | None):
        raise Refused(400, "`operationName` must be a text, or null.")
    if not isinstance(variables, dict | None):
        raise Refused(400, "`variables` must be an object, or null.")
    if not isinstance(extensions, dict | None):
        raise Refused(400, "`extensions` must be an object, or null.")
    digest = _digest(extensions.get("persistedQuery")) if extensions else None
    return Asked(query or None, name or None, variables, digest)


def _digest(persisted: object) -> str | None:
    """The hash in Apollo's `extensions.persistedQuery`."""
    if persisted is None:
        return None
    match persisted:
        case {"version": 1, "sha256Hash": str(digest)} if _DIGEST.fullmatch(digest):
            return digest
    raise Refused(
        400,
        "`persistedQuery` must have `version` 1 and, as `sha256Hash`, the SHA-256 of `query` in 64 "
        "lower-case hex digits.",
    )


def _check_tokens(body: bytes) -> None:
    """Raises Refused if reading it would take far more memory than it has bytes."""
    if len(body) <= MAX_JSON_TOKENS or sum(map(body.count, b'",[{')) <= MAX_JSON_TOKENS:
        return  # however they are spread over texts, in which they do no harm
    if next(islice(_JSON_TOKEN.finditer(body), MAX_JSON_TOKENS, None), None):
        raise Refused(
            413,
            f"The JSON of a request has at most {MAX_JSON_TOKENS:,} strings, brackets and commas. "
            "Write fewer documents at once.",
            code="LIMIT_EXCEEDED",
            limit="jsonTokens",
            maximum=MAX_JSON_TOKENS,
        )


def _json(text: str | bytes) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    # Half of a surrogate pair, as in a text that was cut in the middle of an emoji: what it is in
    # is refused later, by its name.
    try:
        decoded = text if isinstance(text, str) else text.decode()
        content: object = json.loads(decoded, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Refused(400, _OBJECT) from None
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and Infinity are not JSON


def _shown(name: str) -> str:
    return repr(name[:100])
