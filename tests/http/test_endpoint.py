"""/graphql as HTTP: what is asked how, what is refused, and in which form."""

import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from graphql import GraphQLError

from api.app import create_app
from api.gateway.planning import MAX_REQUEST_BYTES
from api.graphql.plans import Plans
from api.http import endpoint
from api.http.endpoint import MAX_BODY_BYTES
from api.http.graphiql import PAGE_HEADERS
from api.settings import load
from sandbox.github import Fault
from tests.http.conftest import NOWHERE
from tests.http.serving import serving
from tests.http.wire import JSON, connected, get, post, received, send
from tests.system import System

GRAPHQL = "application/graphql-response+json"
PLAIN = "application/json"
HELLO = {"query": "{ __typename }"}
ANSWER = {"data": {"__typename": "Query"}}
HEAD = b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
DEEP = b'{"a":' * 2_000 + b"1" + b"}" * 2_000


def test_a_query_is_answered(door: int) -> None:
    got = post(door, HELLO)

    assert (got.status, got.content) == (200, ANSWER)
    assert got.headers["content-type"] == "application/json; charset=utf-8"
    assert got.headers["cache-control"] == "no-store"
    assert got.headers["vary"] == "Accept, Accept-Encoding, Authorization"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert not [name for name in got.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"]
)
def test_json_in_utf_8_is_taken(door: int, content_type: str) -> None:
    got = post(door, '{"query": "{ ж: __typename }"}'.encode(), content_type=content_type)
    assert got.code == "BAD_INPUT"  # GraphQL's names are Latin; the letter was understood
    assert "U+0436" in got.content["errors"][0]["message"]


def test_nulls_empty_texts_and_what_is_unknown_are_as_if_left_out(door: int) -> None:
    sent = {**HELLO, "operationName": "", "variables": None, "extensions": None, "id": 5}
    assert post(door, sent).content == ANSWER
    assert post(door, HELLO | {"operationName": None, "extensions": {}}).content == ANSWER


def test_the_operation_of_the_name_is_carried_out(door: int) -> None:
    two = "query A { a: __typename } query B { b: __typename }"
    assert post(door, {"query": two, "operationName": "B"}).content == {"data": {"b": "Query"}}
    assert get(door, {"query": two, "operationName": "A"}).content == {"data": {"a": "Query"}}


# Status codes and media types, as the specification of GraphQL over HTTP has them

UNANSWERABLE = {
    "document that cannot be parsed": {"query": "{"},
    "document that is not valid": {"query": "{ nothing }"},
    "unknown operation": {"query": "query A { __typename }", "operationName": "B"},
    "ambiguous operation": {"query": "query A { __typename } query B { __typename }"},
    "no operation": {"query": "fragment F on Query { __typename }"},
    "subscription": {"query": "subscription { x }"},
    "missing variable": {"query": "query ($n: Int!) { sessions(first: $n) { totalCount } }"},
    "wrong variable": {
        "query": "query ($n: Int!) { sessions(first: $n) { totalCount } }",
        "variables": {"n": 2**64},
    },
    "unknown persisted query": {
        "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}
    },
}


@pytest.mark.parametrize("name", UNANSWERABLE)
def test_a_request_that_cannot_be_answered_is_200_in_json_and_400_in_the_newer_type(
    door: int, name: str
) -> None:
    plain = post(door, UNANSWERABLE[name], accept=PLAIN)
    newer = post(door, UNANSWERABLE[name], accept=GRAPHQL)

    assert (plain.status, plain.media_type) == (200, PLAIN)
    assert (newer.status, newer.media_type) == (400, GRAPHQL)
    for got in (plain, newer):
        assert set(got.content) == {"errors"}
        assert got.code in {"BAD_INPUT", "PERSISTED_QUERY_NOT_FOUND"}
        assert got.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("media_type", [PLAIN, GRAPHQL])
def test_a_field_that_fails_is_an_answer(door: int, media_type: str) -> None:
    asked = '{ __typename project(id: "projects/x.md") { id } }'

    got = post(door, {"query": asked}, accept=media_type)

    assert (got.status, got.code) == (200, "MASTER_UNAVAILABLE")
    assert got.content["data"] == {"__typename": "Query", "project": None}


@pytest.mark.parametrize("media_type", [PLAIN, GRAPHQL])
def test_an_answer_without_any_data_is_an_answer(door: int, media_type: str) -> None:
    got = post(door, {"query": "{ sessions { totalCount } }"}, accept=media_type)

    assert (got.status, got.code) == (200, "MASTER_UNAVAILABLE")
    assert got.content["data"] is None


@pytest.mark.parametrize("accept", ["text/plain", "text/html", "application/json;q=0"])
def test_whoever_takes_no_type_of_ours_is_told_which_there_are(door: int, accept: str) -> None:
    for got in (
        post(door, HELLO, accept=accept),
        get(door, {"query": "{ a }"}, headers={"accept": accept}),
    ):
        assert (got.status, got.media_type, got.code) == (406, PLAIN, "BAD_INPUT")
        assert GRAPHQL in got.content["errors"][0]["message"]


# What is no operation

NO_OPERATION = {
    "nothing": b"",
    "a piece": b'{"query": ',
    "null": b"null",
    "a number": b"1",
    "a text": b'"{ __typename }"',
    "many at once": b'[{"query": "{ __typename }"}]',
    "an empty list": b"[]",
    "an empty object": b"{}",
    "no query": b'{"query": null}',
    "an empty query": b'{"query": ""}',
    "a query that is no text": b'{"query": 5}',
    "a query in a list": b'{"query": ["{ __typename }"]}',
    "a byte order mark": b'\xef\xbb\xbf{"query": "{ __typename }"}',
    "UTF-16": '{"query": "{ __typename }"}'.encode("utf-16"),
    "UTF-32 without a mark": '{"query": "{ __typename }"}'.encode("utf-32-le"),
    "latin-1": '{"query": "{ __typename } # é"}'.encode("latin-1"),
    "NUL": b'{"query": "{ __typename }\x00"}',
    "NUL afterwards": b'{"query": "{ __typename }"}\x00',
    "two objects": b'{"query": "{ __typename }"}{}',
    "NaN": b'{"query": "{ __typename }", "variables": {"a": NaN}}',
    "infinity": b'{"query": "{ __typename }", "variables": {"a": -Infinity}}',
    "a number of 5,000 digits": b'{"query": "{ __typename }", "variables": {"a": '
    + b"1" * 5_000
    + b"}}",
    "a comment": b'{"query": "{ __typename }" /* */}',
    "lists in lists": b"[" * 100_000,
    "objects in objects": DEEP,
    "objects in variables": b'{"query": "{ __typename }", "variables": ' + DEEP + b"}",
    "variables in a list": b'{"query": "{ __typename }", "variables": []}',
    "variables as a text": b'{"query": "{ __typename }", "variables": "{}"}',
    "a name that is none": b'{"query": "{ __typename }", "operationName": {}}',
    "extensions in a list": b'{"query": "{ __typename }", "extensions": [1]}',
    "extensions as a text": b'{"query": "{ __typename }", "extensions": "a"}',
    "false as extensions": b'{"query": "{ __typename }", "extensions": false}',
}


@pytest.mark.parametrize("name", NO_OPERATION)
@pytest.mark.parametrize("media_type", [PLAIN, GRAPHQL])
def test_what_is_no_operation_is_400_in_words(door: int, name: str, media_type: str) -> None:
    got = post(door, NO_OPERATION[name], accept=media_type)

    assert (got.status, got.media_type, got.code) == (400, media_type, "BAD_INPUT")
    assert set(got.content) == {"errors"}
    assert len(got.body) < 500


def test_many_at_once_are_refused_in_one_sentence(door: int) -> None:
    [error] = post(door, [HELLO, HELLO]).content["errors"]
    assert (
        error["message"] == "Send one operation at a time, as a JSON object: arrays are not taken."
    )


@pytest.mark.parametrize(
    "persisted",
    [
        5,
        "a",
        [],
        {},
        {"version": 1},
        {"version": 2, "sha256Hash": "0" * 64},
        {"version": "1", "sha256Hash": "0" * 64},
        {"version": 1, "sha256Hash": None},
        {"version": 1, "sha256Hash": "0" * 63},
        {"version": 1, "sha256Hash": "G" * 64},
        {"version": 1, "sha256Hash": "0" * 64 + "\n"},
    ],
)
def test_a_hash_that_is_none_is_refused(door: int, persisted: object) -> None:
    got = post(door, HELLO | {"extensions": {"persistedQuery": persisted}})
    assert (got.status, got.code) == (400, "BAD_INPUT")


def test_of_keys_that_come_twice_the_last_counts(door: int) -> None:
    got = post(door, b'{"query": "{ nothing }", "query": "{ __typename }"}')
    assert got.content == ANSWER


def test_a_long_name_is_not_sent_back_whole(door: int) -> None:
    got = post(door, HELLO | {"operationName": "A" * 100_000})

    assert (got.status, got.code) == (200, "BAD_INPUT")
    assert len(got.body) < 500


@pytest.mark.parametrize("where", ["variables", "operationName", "query"])
def test_half_of_a_surrogate_pair_breaks_nothing(door: int, where: str) -> None:
    sent: dict[str, object] = {
        "query": "query A($id: ID!) { session(id: $id) { id } }",
        "operationName": "A",
        "variables": {"id": "autosaves/\ud83d.md"},
    }
    if where != "variables":
        sent[where] = "{ __typename } # \ud83d"

    got = post(door, sent)

    assert got.status == 200
    assert got.content == {"data": {"session": None}} or got.code == "BAD_INPUT"


@pytest.mark.parametrize("text", ["{" * 50_000, "{a" * 5_000, "{ a(b: " + "[" * 5_000])
def test_a_document_that_is_nested_without_end_is_refused(door: int, text: str) -> None:
    assert post(door, {"query": text}).code in {"BAD_INPUT", "LIMIT_EXCEEDED"}


# The body


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/graphql",
    ],
)
def test_what_a_page_of_others_can_send_is_not_taken(door: int, content_type: str) -> None:
    got = post(door, HELLO, content_type=content_type)

    assert (got.status, got.code) == (415, "BAD_INPUT")
    assert "application/json" in got.content["errors"][0]["message"]


def test_a_body_without_a_type_is_not_taken(door: int) -> None:
    assert send(door, "POST", body=json.dumps(HELLO).encode()).status == 415


def test_a_compressed_body_is_not_taken(door: int) -> None:
    got = post(door, HELLO, content_encoding="gzip")
    assert (got.status, got.code) == (415, "BAD_INPUT")


def test_whatever_the_writer_takes_comes_through_the_door() -> None:
    text = "ж" * (MAX_REQUEST_BYTES // 2)
    assert len(json.dumps({"markdown": text})) < MAX_BODY_BYTES


def test_a_body_may_be_as_long_as_the_bound_and_no_longer(door: int) -> None:
    body = json.dumps(HELLO).encode()
    longest = body + b" " * (MAX_BODY_BYTES - len(body))

    assert post(door, longest).content == ANSWER

    with connected(door) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1))
        by_length = received(connection)
    with connected(door) as connection:
        chunk = longest + b" "
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(chunk) + chunk)
        by_count = received(connection)
    for refused in (by_length, by_count):
        assert refused.startswith(b"HTTP/1.1 413 ")
        assert b'"LIMIT_EXCEEDED"' in refused


def test_a_body_in_chunks_is_put_together(door: int) -> None:
    body = json.dumps(HELLO).encode()

    def byte_by_byte() -> Iterator[bytes]:
        yield from (body[i : i + 1] for i in range(len(body)))

    headers = JSON | {"transfer-encoding": "chunked"}
    assert send(door, "POST", body=byte_by_byte(), headers=headers).content == ANSWER


def test_a_body_that_does_not_come_is_not_waited_for(
    door: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_BODY_SECONDS", 0.05)

    with connected(door) as connection:
        connection.sendall(HEAD + b'Content-Length: 100\r\n\r\n{"query":')
        refused = received(connection)

    assert refused.startswith(b"HTTP/1.1 408 ")
    assert b'"LIMIT_EXCEEDED"' in refused


@pytest.mark.parametrize("sent", [b"", b'{"query": "{ __typename }"'])
def test_a_body_that_is_cut_off_is_forgotten(
    door: int, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        with connected(door) as connection:
            connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n" + sent)

    assert post(door, HELLO).content == ANSWER
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /graphql?query=",
        b"GET /graphql HTTP/1.1\r\nHost: ",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nA: ",
    ],
)
def test_a_head_or_a_trailer_that_does_not_end_is_not_read_on(door: int, endless: bytes) -> None:
    with connected(door) as connection, suppress(ConnectionError):
        connection.sendall(endless)
        while True:  # until it hangs up
            connection.sendall(b"a" * 10_000)

    assert post(door, HELLO).content == ANSWER


def test_a_long_body_counts_for_no_head(door: int) -> None:
    content = HELLO | {"variables": {"a": "b" * 300_000}}
    assert post(door, content).content == ANSWER


# Methods


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECTED"])
def test_other_methods_are_named_the_right_ones(door: int, method: str) -> None:
    got = send(door, method)

    if method == "CONNECTED":  # not even HTTP's
        assert got.status == 400
        return
    assert (got.status, got.code) == (405, "BAD_INPUT")
    assert got.headers["allow"] == "GET, HEAD, OPTIONS, POST"


def test_options_names_the_methods_and_opens_nothing_to_other_origins(door: int) -> None:
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}

    got = send(door, "OPTIONS", headers=asked)

    assert (got.status, got.body) == (204, b"")
    assert got.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert not [name for name in got.headers if name.startswith("access-control")]


def test_head_is_get_without_the_body(door: int) -> None:
    asked, had = (
        get(door, {"query": "{ __typename }"}, method=method) for method in ("HEAD", "GET")
    )

    assert (asked.status, asked.body) == (200, b"")
    assert {**asked.headers, "date": ""} == {**had.headers, "date": ""}
    assert asked.headers["content-length"] == str(len(had.body))


def test_the_address_with_a_slash_is_the_same(door: int) -> None:
    got = send(door, "POST", "/graphql/", json.dumps(HELLO).encode(), JSON)
    assert got.content == ANSWER


def test_the_other_doors_are_open(door: int) -> None:
    assert send(door, "GET", "/healthz").content == {"status": "ok"}
    assert send(door, "GET", "/graphql/x").status == 404


# GET


def test_a_query_is_answered_by_get(door: int) -> None:
    query = "query A($if: Boolean!) { __typename @include(if: $if) }"

    given = {
        "query": query,
        "operationName": "A",
        "variables": {"if": True},
        "extensions": {"a": 1},
    }
    got = get(door, given)

    assert (got.status, got.content) == (200, ANSWER)
    newer = get(door, {"query": "{ __typename }"}, headers={"accept": GRAPHQL})
    assert (newer.media_type, newer.content) == (GRAPHQL, ANSWER)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_mutation_is_not_carried_out_by_get(door: int, method: str) -> None:
    mutation = 'mutation M { createSession(input: {title: "T", markdown: "x"}) { cache } }'

    given = {"query": f"{mutation} query Q {{ __typename }}", "operationName": "M"}
    got = get(door, given, method=method)

    assert (got.status, got.headers["allow"]) == (405, "POST")
    assert got.headers["cache-control"] == "no-store"
    if method == "GET":
        assert got.code == "BAD_INPUT"


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "query=",
        "query",
        "id=5",
        "variables={}",
        "query=%7B__typename%7D&query=%7B__typename%7D",
        "query=%7B__typename%7D&variables={}&variables={}",
        "query=%7B__typename%7D&variables=a",
        "query=%7B__typename%7D&variables=[]",
        "query=%7B__typename%7D&variables=%22%22",
        "query=%7B__typename%7D&extensions=1",
        "query=%7B__typename%7D&extensions={",
        "query=%FF",
        "query=%7B__typename%7D%20%23%ED%A0%80",
        "query=%7B__typename%7D&" + "&".join(f"a{i}=" for i in range(1_000)),
    ],
)
def test_parameters_that_are_no_operation_are_400_in_words(door: int, parameters: str) -> None:
    got = send(door, "GET", f"/graphql?{parameters}")

    assert (got.status, got.code) == (400, "BAD_INPUT")
    assert got.headers["cache-control"] == "no-store"


# The page

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize("target", ["/graphql", "/graphql/", "/graphql?", "/graphql?a=b"])
def test_a_browser_is_shown_graphiql(door: int, target: str) -> None:
    got = send(door, "GET", target, headers=BROWSER)

    assert (got.status, got.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<title>Annoris Gateway</title>" in got.body
    assert {name: got.headers[name.lower()] for name in PAGE_HEADERS} == PAGE_HEADERS
    assert "Accept" in got.headers["vary"]


def test_a_browser_that_asks_something_is_answered(door: int) -> None:
    assert get(door, {"query": "{ __typename }"}, headers=BROWSER).content == ANSWER


def test_who_is_no_browser_is_told_to_send_an_operation(door: int) -> None:
    got = send(door, "GET", headers={"accept": "*/*"})
    assert (got.status, got.code) == (400, "BAD_INPUT")


def test_what_breaks_inside_is_told_by_a_reference_alone(
    door: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(Plans, "plan", broken)

    got = post(door, HELLO)

    assert (got.status, got.code) == (500, "INTERNAL")
    assert b"secret" not in got.body
    assert got.content["errors"][0]["extensions"]["reference"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_few_large_bodies_are_taken_at_once_and_small_ones_do_not_wait() -> None:
    """Who sends two slowly keeps others from sending large ones, and from nothing else."""
    body = json.dumps(HELLO).encode() + b" " * 2_000_000
    head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    app = create_app(load(NOWHERE))

    def ask() -> bytes:
        with connected(port) as connection:
            connection.sendall(head + body)
            return received(connection)

    with (
        serving(app) as port,
        ThreadPoolExecutor() as threads,
        connected(port) as one,
        connected(port) as two,
    ):
        for slow in (one, two):
            slow.sendall(head + body[:-1])
        while not (app.graphql and app.graphql._large.locked()):
            time.sleep(0.01)
        third = threads.submit(ask)
        for _ in range(20):
            assert post(port, HELLO).content == ANSWER
        assert not third.done()

        one.sendall(body[-1:])
        assert received(one).startswith(b"HTTP/1.1 200 ")
        assert third.result(30).startswith(b"HTTP/1.1 200 ")
        two.sendall(body[-1:])
        assert received(two).startswith(b"HTTP/1.1 200 ")


async def test_a_query_takes_no_longer_than_it_may(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_QUERY_SECONDS", 0.2)
    system.github.faults.add(Fault(kind="hang", count=None))

    async with system.http.post(
        f"{system.url}/graphql",
        json={"query": "{ sessions(consistency: MASTER) { totalCount } }"},
    ) as response:
        answer = await response.json()

    assert response.status == 503
    [error] = answer["errors"]
    assert error["extensions"] == {"code": "LIMIT_EXCEEDED", "limit": "seconds", "maximum": 0.2}
    assert "0.2 seconds" in error["message"]


def test_of_very_many_errors_a_hundred_are_told_and_how_many_more_there_are() -> None:
    told = endpoint._written([GraphQLError(f"No {n}") for n in range(103)], {})

    assert [error["message"] for error in told if isinstance(error, dict)] == [
        *(f"No {n}" for n in range(100)),
        "There are 3 more errors.",
    ]
