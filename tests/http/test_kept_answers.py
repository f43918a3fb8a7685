"""Answers that a caller may keep: what they are known by, who may keep them, how they travel."""

import gzip
import json
import random
from datetime import UTC, datetime, timedelta

import pytest

from api.gateway.provenance import Age
from api.http.negotiation import MediaType
from api.http.reply import GZIP_FROM, answered, zipped
from tests.http.wire import get, post, send
from tests.system import System

GRAPHQL = "application/graphql-response+json"
LONG = "{ __schema { types { name description } } }"  # long, and always the same
SHORT = "{ __typename }"


# By GET


def test_an_answer_that_is_kept_is_not_sent_again_while_it_holds(door: int) -> None:
    had = get(door, {"query": LONG})
    tag = had.headers["etag"]

    again = get(door, {"query": LONG}, headers={"if-none-match": f'"other", {tag}'})

    assert had.headers["cache-control"] == "private, no-cache"
    assert (again.status, again.body) == (304, b"")
    for name in ("etag", "cache-control", "vary"):
        assert again.headers[name] == had.headers[name]
    assert "content-length" not in again.headers


def test_another_answer_is_sent_whole(door: int) -> None:
    tag = get(door, {"query": LONG}).headers["etag"]
    got = get(door, {"query": SHORT}, headers={"if-none-match": tag})
    assert (got.status, got.content) == (200, {"data": {"__typename": "Query"}})


async def test_what_has_changed_is_sent_and_what_has_not_is_not(system: System) -> None:
    query = "{ sessions { totalCount nodes { title } } }"

    async def ask(tag: str = "") -> tuple[int, str, bytes]:
        async with system.http.get(
            f"{system.url}/graphql", params={"query": query}, headers={"if-none-match": tag}
        ) as answer:
            return answer.status, answer.headers["etag"], await answer.read()

    _, before, _ = await ask()
    assert await ask(before) == (304, before, b"")
    await system.ask('mutation { createSession(input: {title: "T", markdown: "x"}) { cache } }')

    status, after, body = await ask(before)

    assert (status, after == before) == (200, False)
    assert json.loads(body)["data"]["sessions"]["nodes"][0]["title"] == "T"


def test_the_tag_is_that_of_all_but_the_ages() -> None:
    def tag(value: object, age: timedelta) -> bytes | None:
        answer = {"data": {"value": value, "age": Age(datetime.now(UTC) - age)}}
        return answered(MediaType.JSON, answer, may_be_kept=True).tag

    second, day = timedelta(seconds=1), timedelta(days=1)
    assert tag(1, second) == tag(1, day) != tag(2, day)
    assert answered(MediaType.JSON, {"data": {}}).tag is None


@pytest.mark.parametrize("query", ["{ nothing }", "{", "{ sessions { totalCount } }"])
def test_an_error_is_not_kept(door: int, query: str) -> None:
    got = get(door, {"query": query})

    assert got.headers["cache-control"] == "no-store"
    assert "etag" not in got.headers
    assert get(door, {"query": query}, headers={"if-none-match": "*"}).status == 200


@pytest.mark.parametrize("accept", ["application/json", GRAPHQL])
def test_an_answer_by_post_is_not_kept(door: int, accept: str) -> None:
    got = post(door, {"query": LONG}, accept=accept, if_none_match="*")

    assert got.status == 200
    assert got.headers["cache-control"] == "no-store"
    assert "etag" not in got.headers


def test_head_tells_whether_it_holds(door: int) -> None:
    tag = get(door, {"query": LONG}, method="HEAD").headers["etag"]
    assert get(door, {"query": LONG}, method="HEAD", headers={"if-none-match": tag}).status == 304
    assert get(door, {"query": LONG}, headers={"if-none-match": tag}).status == 304


# Compressed


def test_a_long_answer_is_compressed_for_those_who_take_it(door: int) -> None:
    plain = get(door, {"query": LONG})

    small = get(door, {"query": LONG}, headers={"accept-encoding": "gzip"})

    assert small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(small.body) == plain.body
    assert len(small.body) < len(plain.body) / 2
    assert small.headers["etag"] == plain.headers["etag"]  # it is weak
    assert "content-encoding" not in plain.headers
    assert small.headers["vary"] == plain.headers["vary"]
    assert "Accept-Encoding" in plain.headers["vary"]


@pytest.mark.parametrize("accepted", ["gzip;q=0", "identity", "br", "*;q=0", "gzip;q=0, *;q=1"])
def test_whoever_does_not_take_gzip_is_not_sent_it(door: int, accepted: str) -> None:
    got = post(door, {"query": LONG}, accept_encoding=accepted)

    assert "content-encoding" not in got.headers
    assert got.content["data"]["__schema"]


def test_an_answer_that_fits_into_a_packet_is_left_as_it_is(door: int) -> None:
    over = f"{{ {''.join(f'a{number:09}: __typename ' for number in range(100))} }}"

    short = post(door, {"query": SHORT}, accept_encoding="gzip")
    long = post(door, {"query": over}, accept_encoding="gzip")

    assert "content-encoding" not in short.headers
    assert len(short.body) < GZIP_FROM < len(gzip.decompress(long.body))
    assert long.headers["content-encoding"] == "gzip"


def test_the_page_and_head_are_compressed_alike(door: int) -> None:
    asked = {"accept": "text/html", "accept-encoding": "gzip"}

    page, head = (send(door, method, headers=asked) for method in ("GET", "HEAD"))

    assert b"<title>" in gzip.decompress(page.body)
    assert head.headers["content-length"] == page.headers["content-length"]
    assert head.body == b""


@pytest.mark.parametrize("size", [GZIP_FROM, 99_999, 100_000, 3_000_000])
def test_a_body_of_any_size_comes_out_as_it_went_in(size: int) -> None:
    body = random.Random(size).randbytes(size)
    assert gzip.decompress(zipped(body)) == body
