"""What the headers of a request ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.negotiation import (
    MediaType,
    answer_type,
    has,
    is_json,
    prefers_page,
    takes_gzip,
)

J, G = MediaType.JSON, MediaType.GRAPHQL
BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (None, J),
        (b"", J),
        (b"*/*", J),
        (b"application/*", J),
        (b"application/json", J),
        (b"application/graphql-response+json", G),
        (b"application/json, application/graphql-response+json", G),
        (b"application/graphql-response+json, application/json;q=0.9", G),
        (b"application/graphql-response+json;q=0.9, application/json", J),
        (b"application/graphql-response+json;charset=utf-8, application/json;charset=utf-8", G),
        (b"APPLICATION/JSON ; Q=1", J),
        (b"application/json;q=0.5, */*;q=0.8", G),
        (b"application/json;q=0, */*", G),
        (b"*/*;q=0", None),
        (b"application/json;q=0.0", None),
        (b"application/json;q=nan", None),
        (b"application/json;q=-1", None),
        (b"application/json;q=1e9", None),
        (b"application/json;q=", None),
        (b"text/plain", None),
        (b"text/html", None),
        (b"application/xml, text/*", None),
        (b"multipart/mixed;deferSpec=20220824, application/json", J),
        (b",,;,q=1", None),
        (BROWSER, J),
    ],
)
def test_an_answer_is_of_the_type_that_is_asked_for(
    accept: bytes | None, answered: MediaType | None
) -> None:
    assert answer_type(accept) == answered


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (BROWSER, True),
        (b"text/html", True),
        (b"text/html;q=0.5, application/json", False),
        (b"text/html;q=0, */*", False),
        (b"text/*", False),
        (b"*/*", False),
        (b"application/json", False),
        (None, False),
    ],
)
def test_the_page_is_for_those_who_name_html(accept: bytes | None, is_page: bool) -> None:
    assert prefers_page(accept) == is_page


@pytest.mark.parametrize(
    ("accept_encoding", "taken"),
    [
        (None, False),
        (b"", False),
        (b"identity", False),
        (b"gzip", True),
        (b"GZIP", True),
        (b"gzip, deflate, br, zstd", True),
        (b"br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        (b"*", True),
        (b"gzip;q=0", False),
        (b"gzip;q=0.000, *", False),
        (b"*;q=0", False),
        (b"identity;q=1, gzip;q=0.5", False),
        (b"identity;q=0.5, gzip", True),
        (b"gzip;q=much", False),
    ],
)
def test_an_answer_is_compressed_for_those_alone_who_allow_it(
    accept_encoding: bytes | None, taken: bool
) -> None:
    assert takes_gzip(accept_encoding) == taken


@pytest.mark.parametrize(
    ("content_type", "is_it"),
    [
        (b"application/json", True),
        (b"Application/JSON; Charset=UTF-8", True),
        (b'application/json;charset="utf-8"', True),
        (b"application/json; charset=utf8", True),
        (b"application/json; profile=x", True),
        (b"application/json; charset=latin-1", False),
        (b"application/json; charset=utf-16", False),
        (b"application/jsonx", False),
        (b"text/plain; application/json", False),
        (b"application/x-www-form-urlencoded", False),
        (b"multipart/form-data; boundary=application/json", False),
        (b"application/graphql", False),
        (b"\xff", False),
        (b"", False),
        (None, False),
    ],
)
def test_a_body_is_json_in_utf_8_or_none(content_type: bytes | None, is_it: bool) -> None:
    assert is_json(content_type) == is_it


@pytest.mark.parametrize(
    ("if_none_match", "is_there"),
    [
        (b'W/"a"', True),
        (b'"a"', True),
        (b'"b", W/"a" ,"c"', True),
        (b"*", True),
        (b"", False),
        (b"a", False),
        (b'W/"A"', False),
        (b'"b"', False),
    ],
)
def test_tags_are_compared_weakly(if_none_match: bytes, is_there: bool) -> None:
    assert has(if_none_match, b'W/"a"') == is_there


@given(st.binary(max_size=200))
def test_no_header_is_too_strange_to_be_read(header: bytes) -> None:
    assert answer_type(header) in {J, G, None}
    assert prefers_page(header) in {True, False}
    assert takes_gzip(header) in {True, False}
    assert is_json(header) in {True, False}
    assert has(header, b'W/"a"') in {True, False}
