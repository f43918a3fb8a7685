"""What somebody sends who means no good: requests at random, the same ones for the same seed."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from random import Random
from typing import TypeAlias
from urllib.parse import quote, urlencode

from graphql import get_named_type, is_required_argument

from api.graphql.schema import schema
from tests.graphql.questions import Question, Value, question

DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
ROOM = "autosaves/projects/reading-room.md"
SEEDS = "autosaves/priorities/order-seeds.md"
NOWHERE = "autosaves/none.md"

REFUSALS = frozenset({"BAD_INPUT", "NOT_FOUND", "CONFLICT", "LIMIT_EXCEEDED"})
DOOR = frozenset({"BAD_INPUT", "LIMIT_EXCEEDED", "FORBIDDEN", "PERSISTED_QUERY_NOT_FOUND"})


@dataclass(frozen=True)
class Hostile:
    """A request as it goes over the wire, and what may be answered.

    `codes`: of the errors that may be told. `refused`: there is an error, and nothing is done.
    `is_http`: what comes back is an answer of ours, and not of the server below. `titles`: of the
    documents that are saved.
    """

    sent: bytes
    codes: AbstractSet[str] = REFUSALS
    statuses: AbstractSet[int] = frozenset({200})
    refused: bool = False
    is_http: bool = True
    has_body: bool = True
    titles: Sequence[str] = ()


Kind: TypeAlias = Callable[[Random], Hostile]

# Values

TEXTS: Sequence[str] = (
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "x\udfffx",
    "\u202ereversed\u2066",
    "\u200f\u200b\ufeff",
    "🌱👩‍🌾🏳️‍🌈",
    "Первая синхронизация",
    "e\u0301\u0327" * 20,
    "x" * 2_000,
    "ж" * 1_000,
    "../../../etc/passwd",
    "..\\..\\windows\\system32",
    "%2e%2e%2f",
    "'; DROP TABLE sessions; --",
    "' OR '1'='1",
    "%' ESCAPE '_",
    "$1",
    "\\",
    "{{7*7}}${7*7}",
    "<script>alert(1)</script>",
    "---\nstatus: !!python/object/apply:os.system ['id']\n---\n",
    "&a [*a, *a]",
    "key: value\n- - -",
    "\r\nSet-Cookie: a=b",
    "\x1b[31m",
    "\u2028\u2029\x85",
    "null",
    "NaN",
    "2026-11-17",
    "0" * 40,
    "f" * 41,
    DRILL,
    ROOM,
    "README.md",
    ".github/x.md",
    "autosaves",
)
MOMENTS: Sequence[str] = (
    "2026-01-01T00:00:00Z",
    "0001-01-01T00:00:00+00:00",
    "9999-12-31T23:59:59.999999Z",
    "2026-11-17T10:02:00.123456+14:00",
)
OTHERS: Sequence[object] = (
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    2**31 - 1,
    2**31,
    -(2**63) - 1,
    10**30,
    [],
    [[]],
    [None],
    {},
    {"": ""},
    {"__proto__": {"x": 1}},
    {"\0": "\ud800"},
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-02-30",
    "24:00",
    ["x"] * 100,
)


def _text(dice: Random) -> str:
    return dice.choice(TEXTS)


def _anything(dice: Random) -> object:
    return dice.choice(TEXTS) if dice.random() < 0.5 else dice.choice(OTHERS)


def _one_of(*values: object) -> Value:
    return lambda dice: dice.choice(values)


def _id(dice: Random) -> str:
    return dice.choice((DRILL, ROOM, SEEDS)) if dice.random() < 0.5 else _text(dice)


def _filter(dice: Random) -> object:
    texts = ("project", "status", "priority", "agent", "tag", "titleContains")
    wishes = {name: _text(dice) for name in texts if dice.random() < 0.2}
    moments = {name: dice.choice(MOMENTS) for name in ("from", "to") if dice.random() < 0.1}
    return {**wishes, **moments}


VALUES: Mapping[str, Value] = {
    "id": _id,
    # What the cache cannot answer costs requests to GitHub, and an unknown commit also a wait.
    "consistency": _one_of(*["CACHE"] * 98, "MASTER", "VERIFIED"),
    "atLeast": _one_of(*[None] * 499, "0" * 40),
    "maxStaleness": _one_of(*[None] * 40, *[2**31 - 1] * 10, 0, -1, -(2**31)),
    "first": _one_of(0, 1, 1, 2, 3, -1, 101, 2**31 - 1, -(2**31), None),
    "last": _one_of(None, None, None, 0, 2, -1, 2**31 - 1),
    "after": lambda dice: None if dice.random() < 0.6 else _text(dice),
    "before": lambda dice: None if dice.random() < 0.8 else _text(dice),
    "where": _filter,
    "orderBy": _one_of("OCCURRED_AT_DESC", "OCCURRED_AT_ASC", "PATH_ASC"),
    "length": _one_of(1, 40, 0, -1, 10_000, 10_001, 2**31 - 1),
}


# HTTP


def request(
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    target: str = "/graphql",
) -> bytes:
    """`headers` besides or instead of the usual ones. Those that are empty are left out."""
    given = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in given.items() if v)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def posted(content: object) -> bytes:
    """As JSON, in which half of a surrogate pair is written as an escape."""
    return request(json.dumps(content).encode())


def got(parameters: str, *, method: str = "GET", accept: str = "") -> bytes:
    headers = {"Content-Type": "", "Content-Length": "", "Accept": accept}
    return request(b"", headers, method=method, target=f"/graphql?{parameters}")


# Valid queries with hostile values


def _question(dice: Random) -> Question:
    return question(dice, schema._schema, VALUES, depth=dice.choice((1, 2, 2, 3)))


def asking(dice: Random) -> Hostile:
    """A valid query, with hostile values where they may stand and where they may not."""
    asked = _question(dice)
    variables = dict(asked.variables)
    for name in [name for name in variables if dice.random() < 0.2]:
        variables[name] = _anything(dice)
        if dice.random() < 0.2:
            del variables[name]
    if dice.random() < 0.1:
        variables[_text(dice)] = _anything(dice)
    if dice.random() < 0.2 and not _has_surrogate(asked.query):
        parameters = {"query": asked.query, "variables": json.dumps(variables)}
        return Hostile(got(urlencode(parameters)))
    return Hostile(posted({"query": asked.query, "variables": variables}))


def valued(dice: Random) -> Hostile:
    """One field, which all its arguments are hostile to."""
    assert schema._schema.query_type
    name, definition = dice.choice(list(schema._schema.query_type.fields.items()))
    variables = {
        given: _anything(dice) if dice.random() < 0.1 else VALUES[given](dice)
        for given, argument in definition.args.items()
        if is_required_argument(argument) or dice.random() < 0.4
    }
    kind = get_named_type(definition.type)
    inner = "id" if "id" in getattr(kind, "fields", {}) else "__typename"
    if "nodes" in getattr(kind, "fields", {}):
        inner = "nodes { __typename } pageInfo { endCursor }"
    declared = ", ".join(f"${given}: {definition.args[given].type}" for given in variables)
    passed = ", ".join(f"{given}: ${given}" for given in variables)
    query = f"query({declared}) {{ {name}({passed}) {{ {inner} }} }}".replace("()", "")
    return Hostile(posted({"query": query, "variables": variables}))


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


# Broken documents

_TOKEN = re.compile(
    r'"""(?s:.*?)"""|"(?:\\.|[^"\\\n])*"|\.\.\.|[A-Za-z_]\w*|-?\d+(?:\.\d+)?|\s+|.', re.DOTALL
)
HOSTILE_TOKENS: Sequence[str] = (
    *"{}()[]:!$@=|&#,\"'\\\0\x01",
    "...",
    '"""',
    "0x1",
    "-0",
    "00",
    "1e999",
    "-1e-999",
    "9" * 400,
    "1." + "0" * 400,
    '"\\u0000"',
    '"\\ud800"',
    '"\\u{110000}"',
    '"\\u{1F331}"',
    "\ud800",
    "\ufeff",
    "null",
    "true",
    "on",
    "fragment",
    "subscription",
    "mutation",
    "__schema",
    "__typename",
    "$v0",
    "@skip(if: true)",
    "@include(if: $nothing)",
    "@defer",
    "@stream",
    "@deprecated",
    "[" * 50,
    "{a:" * 50,
    "x" * 3_000,
    "Привет",
    "\u202e",
)
# Of documents that are not there: what is left of these may be anything, and changes nothing.
MUTATIONS: Sequence[str] = (
    (
        f'mutation M {{ updateSession(input: {{id: "{NOWHERE}", title: "T", tags: ["a", "b"]}}) '
        "{ session { id title tags project { id name } } commit { oid committedAt } cache } }"
    ),
    (
        f'mutation {{ a: deleteSession(input: {{id: "{NOWHERE}"}}) {{ id commit {{ oid }} }} '
        f'b: deleteProject(input: {{id: "{NOWHERE}"}}) {{ id cache commit {{ oid }} }} }}'
    ),
    (
        "mutation($i: CreateSessionInput!) { createSession(input: $i) { ...P } } "
        "fragment P on SessionPayload { session { path } commit { oid url } cache }"
    ),
    (
        f'mutation {{ commitDocuments(operations: [{{rename: {{id: "{NOWHERE}", path: "a.md"}}}}, '
        f'{{delete: {{id: "{NOWHERE}", expectedRevision: "{"0" * 40}"}}}}], '
        'message: "M") { documents { id ... on Project { name } } commit { oid } } }'
    ),
    (
        f'mutation {{ updateProject(input: {{id: "{NOWHERE}", rank: 3, name: null}}) '
        "{ project { sessions(first: 3) { totalCount } } commit { oid } } }"
    ),
)
_OUTSIDE = {"i": {"title": "T", "markdown": "x", "path": "README.md"}}


def broken(dice: Random) -> Hostile:
    """A query or a mutation that something happened to on its way."""
    asked = Question(dice.choice(MUTATIONS), _OUTSIDE) if dice.random() < 0.4 else _question(dice)
    text = asked.query
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        text = dice.choice((_with_other_tokens, _with_other_characters))(dice, text)
    name = dice.choice((None, None, None, "Q", "M", "", "\ud800", "x" * 500))
    content = {"query": text, "variables": dict(asked.variables), "operationName": name}
    return Hostile(posted(content), statuses={200, 400})


def _with_other_tokens(dice: Random, text: str) -> str:
    tokens = _TOKEN.findall(text)
    if not tokens:
        return text
    at, other = dice.randrange(len(tokens)), dice.randrange(len(tokens))
    match dice.choice(("delete", "repeat", "swap", "replace", "cut", "move")):
        case "delete":
            del tokens[at : at + dice.choice((1, 1, 1, 2, 5))]
        case "repeat":
            tokens[at:at] = tokens[at : at + dice.choice((1, 1, 4, 20))] * dice.choice((1, 1, 9))
        case "swap":
            tokens[at], tokens[other] = tokens[other], tokens[at]
        case "replace":
            tokens[at] = dice.choice(HOSTILE_TOKENS)
        case "cut":
            del tokens[at:]
        case "move":
            tokens.insert(other, tokens.pop(at))
    return "".join(tokens)


def _with_other_characters(dice: Random, text: str) -> str:
    at = dice.randrange(len(text) + 1)
    new = dice.choice(("", chr(dice.randrange(128)), chr(dice.randrange(0x11_0000)), text[at:][:9]))
    return text[:at] + new + text[at + dice.choice((0, 1, 1, 5)) :]


# Envelopes

HELLO = "{ __typename }"
_HASH = hashlib.sha256(HELLO.encode()).hexdigest()
_SAID = json.dumps({"query": HELLO}).encode()
BODIES: Sequence[bytes] = (
    b"",
    b"{",
    b"null",
    b"true",
    b"0",
    b'"{ __typename }"',
    b"NaN",
    b'{"query": NaN}',
    b"[]",
    b"[" + _SAID + b"]",
    b"[" * 5_000,
    b'{"a":' * 5_000,
    b'{"query": ' + b"[" * 900 + b"]" * 900 + b"}",
    b"9" * 5_000,
    b"-",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf" + _SAID,
    _SAID.decode().encode("utf-16"),
    _SAID + b"\0",
    _SAID + _SAID,
    _SAID[:-1],
    _SAID.replace(b'"', b"'"),
    b'{"query": "\xc3\x28"}',
    b'{"query": "{ __type\\u0000name }"}',
    b'{"query": "\xed\xa0\x80"}',
    b"<query/>",
    b"query=%7B__typename%7D",
    b'{"\\ud800": "\\udc00"}',
)
TAKEN_BODIES: Sequence[bytes] = (
    b'{"query": "{", "query": "{ __typename }"}',
    b'{"query": "{ __typename }", "\\ud800": 1e400}',
    b'{"query": "{ __typename }", "variables": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}",
    b'{"query": "{ __typename }", "variables": {"a": ' + b"9" * 4_000 + b"}}",
    b" \n\t" + _SAID + b"\r\n",
    b'{"query": "{ __typename }", "extensions": {"persistedQuery": null, "x": [[[]]]}}',
    b'{"query": "query A { __typename }", "operationName": ""}',
)
EXTENSIONS: Sequence[object] = (
    [],
    "x",
    0,
    True,
    {"persistedQuery": []},
    {"persistedQuery": "x"},
    {"persistedQuery": {}},
    {"persistedQuery": {"version": 2, "sha256Hash": _HASH}},
    {"persistedQuery": {"version": "1", "sha256Hash": _HASH}},
    {"persistedQuery": {"version": 1, "sha256Hash": _HASH.upper()}},
    {"persistedQuery": {"version": 1, "sha256Hash": _HASH[:-1]}},
    {"persistedQuery": {"version": 1, "sha256Hash": _HASH + "\n"}},
    {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}},
    {"persistedQuery": {"version": 1, "sha256Hash": "\ud800" * 64}},
    {"persistedQuery": {"version": 1, "sha256Hash": None}},
)
HEADERS: Sequence[Mapping[str, str]] = (
    {"Content-Type": ""},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Type": "application/graphql"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Type": "application/json, text/plain"},
    {"Content-Type": "\xff\xfe"},
    {"Content-Type": "x" * 5_000},
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "identity, br"},
    {"Accept": "text/plain"},
    {"Accept": "application/json;q=0"},
    {"Accept": "application/json;q=2"},
    {"Accept": "\xff" * 100},
    {"Accept": "a/b;q=0.1," * 500},
    {"Host": "rebound.example"},
    {"Host": "127.0.0.1.rebound.example:80"},
    {"Host": "[::1"},
    {"Host": "\xff"},
)
TAKEN_HEADERS: Sequence[Mapping[str, str]] = (
    {"Content-Type": "APPLICATION/JSON ; Charset=UTF-8; x=\xff"},
    {"Authorization": "Bearer " + "x" * 5_000},
    {"Authorization": "\xff"},
    {"If-None-Match": "*, W/" * 500},
    {"Accept-Encoding": "gzip;q=\xff, *;q=0"},
    {"Accept": "application/json;q=0.1, */*;q=0"},
    {"Range": "bytes=0-1"},
    {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"},
    {"Connection": "Upgrade", "Upgrade": "websocket"},
    {"X-HTTP-Method-Override": "DELETE"},
    {"Cookie": "a=b; " * 500},
    {"Origin": "null", "Referer": "javascript:"},
    {"X-" + "a" * 500: "\t"},
)
PARAMETERS: Sequence[str] = (
    "",
    "query",
    "query=",
    "query=%",
    "query=%zz",
    "query=%ff%fe",
    "query=%00",
    "query=%7B",
    "query=%ed%a0%80",
    "query=%7B__typename%7D&query=%7B__typename%7D",
    "query=%7B__typename%7D&variables=%7B",
    "query=%7B__typename%7D&variables=%5B%5D",
    "query=%7B__typename%7D&variables=" + "%5B" * 2_000,
    "query=%7B__typename%7D&extensions=1",
    "query=%7B__typename%7D&extensions=%7B%22persistedQuery%22:%7B%7D%7D",
    "query=%7B__typename%7D&operationName=%00",
    "query=mutation%7B__typename%7D",
    "query=subscription%7B__typename%7D",
    "query=" + quote(MUTATIONS[1]),
    "&".join(f"a{number}=1" for number in range(30)),
    "query=" + "x" * 30_000,
    "%71uery=%7B&;;&&==&" + "a" * 1_000,
    "extensions=%7B%22persistedQuery%22:%7B%22version%22:1,%22sha256Hash%22:%22" + "0" * 64,
)
NO_HTTP: Sequence[bytes] = (
    request(b"", {"X-Huge": "x" * 100_000}),
    request(_SAID, {"Content-Length": "-1"}),
    request(_SAID, {"Content-Length": "5, 6"}),
    request(_SAID, {"Content-Length": "9" * 30}),
    request(_SAID, {"Transfer-Encoding": "gzip"}),
    request(b"zz\r\n", {"Content-Length": "", "Transfer-Encoding": "chunked"}),
    request(_SAID, {"a b": "c"}),
    request(_SAID, {"": "c"}).replace(b"Host", b" Host"),
    request(_SAID).replace(b"HTTP/1.1", b"HTTP/9.9"),
    request(_SAID, method="NONSENSE"),
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    b"POST " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"\r\n" * 50 + b"\0\r\n\r\n",
)
_CLIENT = frozenset({400, 403, 405, 406, 413, 415})


def wrapped_badly(dice: Random) -> Hostile:
    """What is no operation, whatever it says."""
    match dice.choice(
        ("body", "body", "headers", "extensions", "parameters", "parameters", "type")
    ):
        case "body":
            sent = request(dice.choice(BODIES))
        case "headers":
            sent = request(_SAID, dice.choice(HEADERS))
        case "extensions":
            extensions = dice.choice(EXTENSIONS)
            sent = posted({"query": dice.choice((HELLO, None)), "extensions": extensions})
        case "parameters":
            accept = dice.choice(("", "*/*", "application/graphql-response+json"))
            sent = got(dice.choice(PARAMETERS), accept=accept)
        case _:
            name = dice.choice(("query", "variables", "operationName", "extensions"))
            wrong = dice.choice((0, False, 1.5, [], ["x"], [None], 10**30))
            sent = posted({"query": HELLO, name: wrong})
    return Hostile(sent, codes=DOOR, statuses=_CLIENT | {200}, refused=True)


def wrapped_oddly(dice: Random) -> Hostile:
    """A query that is one all the same, if only just."""
    match dice.choice(("body", "headers", "chunks", "hash")):
        case "body":
            sent = request(dice.choice(TAKEN_BODIES))
        case "headers":
            sent = request(_SAID, dice.choice(TAKEN_HEADERS))
        case "chunks":
            at = dice.randrange(1, len(_SAID) - 1)
            parts = (_SAID[:at], _SAID[at:], b"")
            chunks = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in parts)
            sent = request(chunks, {"Content-Length": "", "Transfer-Encoding": "chunked"})
        case _:
            persisted = {"version": 1, "sha256Hash": _HASH}
            sent = posted({"query": HELLO, "extensions": {"persistedQuery": persisted}})
    return Hostile(sent, codes=frozenset())


def other_method(dice: Random) -> Hostile:
    method = dice.choice(("PUT", "DELETE", "PATCH", "TRACE", "HEAD", "OPTIONS", "PROPFIND"))
    return Hostile(
        request(_SAID if method not in {"HEAD", "OPTIONS"} else b"", method=method),
        statuses={200, 204, 400, 405},
        has_body=method not in {"HEAD", "OPTIONS"},
    )


def no_http(dice: Random) -> Hostile:
    """What no server takes for a request."""
    return Hostile(dice.choice(NO_HTTP), codes=DOOR, statuses={400, 405, 413}, is_http=False)


# Mutations, each of which must be refused

PATHS: Sequence[str] = (
    "",
    " ",
    "/",
    ".",
    "..",
    "README.md",
    "x.md",
    "../x.md",
    "autosaves/../x.md",
    "autosaves/../README.md",
    "autosaves/./x.md",
    "autosaves//x.md",
    "/autosaves/x.md",
    "autosaves/x.md/",
    "autosaves/x",
    "autosaves/x.MD",
    "autosaves/x.md.txt",
    "autosaves/.md",
    "autosaves\\x.md",
    "autosaves/a\\..\\x.md",
    "AUTOSAVES/x.md",
    "Autosaves/x.md",
    "projects-of-others/x.md",
    ".github/x.md",
    ".github/workflows/x.yml",
    "autosaves/.github/x.md",
    "autosaves/.GitHub/x.md",
    "autosaves/.git/x.md",
    "autosaves/git~1/x.md",
    "autosaves/.g\u200cit/x.md",
    "autosaves/x\0.md",
    "autosaves/x\n.md",
    "autosaves/\ud800.md",
    "autosaves/\u202efdp.md",
    "autosaves/\u2066x\u2069.md",
    "autosaves/\u200fx.md",
    "autosaves/\u200b.md",
    "autosaves/\u3164.md",
    "autosaves/ x.md",
    "autosaves/x /y.md",
    "autosaves/" + "x/" * 2_000 + "y.md",
    "autosaves/" + "ж" * 3_000 + ".md",
    DRILL,  # which is taken
    DRILL.replace("11", "11/.."),
    ROOM,
)
IDS: Sequence[str] = (
    *(path for path in PATHS if path not in {DRILL, ROOM}),
    *TEXTS[:30],
    NOWHERE,
    DRILL.upper(),
    DRILL + " ",
    DRILL + "\0",
    "autosaves/2026",
)
LINES: Sequence[object] = (
    "",
    " ",
    "a\nb",
    "a\rb",
    "x" * 301,
    "\0",
    "\ud800",
    "\u2028",
    "\x1b",
    5,
    [],
)
BAD: Mapping[str, Sequence[object]] = {
    "title": LINES,
    "name": LINES,
    "markdown": (
        "---\nstatus: !!python/name:os.system\n---\n",
        "\0",
        "a\0b",
        "\ud800",
        "x\udfff",
        5,
        [],
        {},
        None,
    ),
    "message": ("\0", "\ud800", "Annoris-Write: x", "x\n annoris-key: y", "x" * 10_001, 5),
    "idempotencyKey": ("", "  ", "\0", "\udfff", "x" * 201, 5, []),
    "project": ("", "none", NOWHERE, DRILL, "../x.md", "\0", "\ud800", ROOM + "x", [], True),
    "occurredAt": ("", "now", "2026-11-17", "2026-11-17T10:00:00", 5, *OTHERS[-5:-2], "\0"),
    "dueOn": (
        "",
        "2026-02-30",
        "0000-00-00",
        "2026-11-17T00:00:00Z",
        "２０２６-01-01",
        5,
        "\ud800",
    ),
    "rank": (2**31, -(2**31) - 1, 10**30, 1.5, "1", "", True, [], "\0"),
    "tags": ([None], [[]], [5], {}, 5, ["\0"], ["\ud800"], ["a\0"]),
    "status": ("\0", "\ud800", 5, [], {}),
    "agent": ("\0", "\udfff", False, [None]),
    "priority": ("a\0b", "\ud800", 1, {}),
    "path": (*PATHS, 5, [], True),
    "expectedRevision": ("", "0" * 39, "F" * 40, "0" * 40, "g" * 40, 5, "\0" * 40, "٠" * 40),
    "unknown": ("x",),
    "__proto__": ({},),
}
FIELDS: Mapping[str, Sequence[str]] = {
    "Session": ("title", "project", "occurredAt", "tags", "status", "agent", "priority"),
    "Project": ("name", "title", "rank", "status"),
    "Priority": ("title", "project", "rank", "status", "dueOn"),
}
_EXISTING = {"Session": DRILL, "Project": ROOM, "Priority": SEEDS}
_SAYING = ("message", "idempotencyKey", "unknown", "__proto__")


@dataclass(frozen=True)
class Write:
    """One operation, with its input. `name`: as `commitDocuments` has it."""

    field: str
    kind: str
    name: str
    input: dict[str, object]


def _bad_write(dice: Random) -> Write:
    kind = dice.choice(tuple(FIELDS))
    verb = dice.choice(("create", "create", "update", "update", "delete"))
    input: dict[str, object]
    if verb == "create":
        input = {"markdown": "# x\n", "title" if kind != "Project" else "name": "T"}
        fields = (*FIELDS[kind], *_SAYING, "markdown", "path", "path", "path")
    else:
        input = {"id": _EXISTING[kind]}
        own = (*FIELDS[kind], "markdown") if verb == "update" else ()
        fields = (*own, *_SAYING, "expectedRevision", "id", "id", "id")
    name = dice.choice(fields)
    input[name] = dice.choice(IDS if name == "id" else BAD[name])
    whole = f"{verb.title()}{kind}Input" if verb != "delete" else "DeleteDocumentInput"
    return Write(f"{verb}{kind}", whole, f"{verb}{kind}" if verb != "delete" else verb, input)


def refused(dice: Random) -> Hostile:
    """Mutations of which none can be carried out, one or many at once."""
    writes = [_bad_write(dice) for _ in range(dice.choice((1, 1, 2, 4)))]
    declared = ", ".join(f"$i{n}: {write.kind}!" for n, write in enumerate(writes))
    fields = " ".join(
        f"m{n}: {write.field}(input: $i{n}) {{ commit {{ oid }} }}"
        for n, write in enumerate(writes)
    )
    variables = {f"i{n}": write.input for n, write in enumerate(writes)}
    return Hostile(
        posted({"query": f"mutation({declared}) {{ {fields} }}", "variables": variables}),
        refused=True,
    )


COMMIT = (
    "mutation($operations: [DocumentOperation!]!, $message: String, $key: String) { "
    "commitDocuments(operations: $operations, message: $message, idempotencyKey: $key) "
    "{ documents { id title body } commit { oid } cache } }"
)


def refused_together(dice: Random) -> Hostile:
    """A commit of good operations with a bad one among them: none is carried out."""
    good: dict[str, object] = {"createSession": {"title": "Good", "markdown": "x"}}
    operations = [good] * dice.choice((0, 1, 3, 20))
    operations.insert(dice.randrange(len(operations) + 1), _bad_operation(dice))
    variables: dict[str, object] = {"operations": operations}
    match dice.randrange(12):
        case 0:
            variables = {"operations": [good] * 101}
        case 1:
            variables = {"operations": [good], "message": dice.choice(BAD["message"])}
        case 2:
            variables = {"operations": [good], "key": dice.choice(BAD["idempotencyKey"])}
        case 3:
            variables = {"operations": dice.choice(([], [None], [[]], {}, None, "x", [{}]))}
    return Hostile(posted({"query": COMMIT, "variables": variables}), refused=True)


def _bad_operation(dice: Random) -> dict[str, object]:
    good: dict[str, object] = {"title": "Good", "markdown": "x"}
    match dice.choice(("rename", "two", "key", "null", "write", "write")):
        case "rename":
            source = dice.choice((DRILL, NOWHERE))
            to = [path for path in PATHS if source != DRILL or path != DRILL]
            return {"rename": {"id": source, "path": dice.choice(to)}}
        case "two":
            return {"createSession": good, "createPriority": good}
        case "key":
            return {"createSession": {**good, "idempotencyKey": "k"}}
        case "null":
            return {"createSession": None}
    write = _bad_write(dice)
    return {write.name: write.input}


# Too much


def too_much(dice: Random) -> Hostile:
    """What a limit is there for."""
    match dice.randrange(9):
        case 0:
            levels = dice.randrange(7, 60)
            query = (
                "{ sessions(first: 1) { nodes { id "
                + "project { sessions(first: 1) { nodes { id " * levels
                + "} } } " * levels
                + "} } }"
            )
        case 1:
            count = dice.randrange(101, 400)
            query = "{ " + " ".join(f"a{n}: __typename" for n in range(count)) + " }"
        case 2:
            query = "{ " + "__typename " * dice.choice((2_000, 5_000, 20_000)) + "}"
        case 3:
            query = "{ __typename " + "@skip(if: true) " * dice.randrange(101, 300) + "}"
        case 4:
            query = "{ sessions(first: 100) { nodes { project { sessions(first: 100) { nodes { id "
            query += "title path } } } } } }"
        case 5:
            levels = dice.randrange(8, 60)  # each fragment is twice the next: 2 ** levels
            fragments = (
                f"fragment F{n} on Query {{ a{n}: __typename ...F{n + 1} ...F{n + 1} }}"
                for n in range(levels)
            )
            last = f"fragment F{levels} on Query {{ __typename }}"
            query = "{ ...F0 } " + " ".join([*fragments, last])
        case 6:
            query = '{ session(id: "' + dice.choice("[{(") * 10 + '") { metadata } } '
            query += "[" * dice.choice((200, 1_500)) + "{ a(b: " + "[" * dice.choice((200, 1_500))
            return Hostile(posted({"query": query}), refused=True)
        case 7:
            depth = dice.randrange(4, 40)
            query = "{ __schema { types " + "{ fields { type " * depth + "{ name } "
            query += "} } " * depth + "} }"
            return Hostile(posted({"query": query}), refused=True)
        case _:
            count = dice.randrange(101, 600)
            query = "mutation { " + " ".join(
                f'm{n}: deleteSession(input: {{id: "{DRILL}"}}) {{ id }}' for n in range(count)
            )
            query += " }"
    return Hostile(posted({"query": query}), codes={"LIMIT_EXCEEDED"}, refused=True)


# What is carried out

_NO_LINE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
TITLES = [text for text in TEXTS if text.strip() and len(text) <= 300 and not _NO_LINE.search(text)]
MARKDOWN = [text for text in TEXTS if text.strip() and not re.search("[\0\ud800-\udfff]|!!", text)]
SAVED_AT_ONCE = 10


def saved(dice: Random) -> Hostile:
    """Documents with hostile contents, all in one commit."""
    titles = dice.choices(TITLES, k=SAVED_AT_ONCE)
    operations = [
        {
            "createSession": {
                "title": title,
                "markdown": dice.choice(MARKDOWN),
                "status": dice.choice(TITLES),
                "tags": [dice.choice(TITLES)],
            }
        }
        for title in titles
    ]
    variables = {"operations": operations, "message": dice.choice(MARKDOWN)}
    sent = posted({"query": COMMIT, "variables": variables})
    return Hostile(sent, codes=frozenset(), titles=titles)


KINDS: Mapping[Kind, int] = {
    asking: 8,
    valued: 20,
    broken: 20,
    wrapped_badly: 16,
    wrapped_oddly: 6,
    other_method: 3,
    no_http: 3,
    refused: 14,
    refused_together: 6,
    too_much: 4,
}
EVERY = 1_000  # requests, of which one is carried out


def hostile(seed: int, number: int) -> tuple[str, Hostile]:
    """The request of this number, which depends on nothing else, and the name of its kind."""
    dice = Random(f"{seed} {number}")
    kind: Kind = saved
    if number % EVERY != EVERY // 2:
        [kind] = dice.choices(list(KINDS), list(KINDS.values()))
    return kind.__name__, kind(dice)
