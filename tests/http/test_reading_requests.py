"""What is read from the bytes of a body or a URL."""

import json
import tracemalloc
from contextlib import suppress
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http import request
from api.http.reply import Refused
from api.http.request import Asked, read_body, read_parameters

texts = st.text(min_size=1)
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.lists(st.text())
variables = st.none() | st.dictionaries(st.text(), values, max_size=3)
pieces = st.sampled_from(
    [b"{", b"}", b'"query"', b":", b"[", b"]", b'"a"', b",", b"\xff", b"\x00", b"1", b"\\ud800"]
)


@given(texts, st.none() | texts, variables)
def test_what_was_sent_is_read(
    query: str, name: str | None, given: dict[str, object] | None
) -> None:
    sent = {"query": query, "operationName": name, "variables": given}
    parameters = {"query": query, "variables": json.dumps(given)}
    if name:
        parameters["operationName"] = name

    read = Asked(query, name, given, None)
    assert read_body(json.dumps(sent).encode()) == read
    assert read_body(json.dumps(sent, ensure_ascii=False).encode()) == read
    assert read_parameters(urlencode(parameters).encode()) == read


@given(st.text(alphabet=st.characters(), min_size=1))
def test_a_text_with_half_a_surrogate_pair_is_read_as_it_is(text: str) -> None:
    assert read_body(json.dumps({"query": text + "\ud83d"}).encode()).query == text + "\ud83d"


@given(st.binary() | st.lists(pieces).map(b"".join) | values.map(lambda v: json.dumps(v).encode()))
def test_what_cannot_be_read_is_refused_and_breaks_nothing(body: bytes) -> None:
    for read in (read_body, read_parameters):
        with suppress(Refused):
            assert isinstance(read(body), Asked)


# Many small things in a large body


def tokens(value: object) -> int:
    """How many strings, brackets and commas JSON has for it."""
    match value:
        case str():
            return 1
        case dict():
            commas = max(len(value) - 1, 0)
            return 1 + commas + sum(tokens(k) + tokens(v) for k, v in value.items())
        case list():
            return 1 + max(len(value) - 1, 0) + sum(map(tokens, value))
    return 0


JSON = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('a"\\[{,\n'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('a"\\[{,'), inner),
    max_leaves=30,
)


@given(variables=st.dictionaries(st.text('a"\\[,'), JSON), most=st.integers(0, 60))
def test_what_has_more_tokens_than_are_allowed_is_refused_before_it_is_read(
    variables: dict[str, object], most: int
) -> None:
    sent = {"query": "{ x }", "variables": variables}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request, "MAX_JSON_TOKENS", most)
        if tokens(sent) <= most:
            assert read_body(orjson.dumps(sent)).variables == variables
        else:
            with pytest.raises(Refused) as refused:
                read_body(orjson.dumps(sent))
            assert refused.value.status == 413


@pytest.mark.parametrize(
    "thing", [b"[]", b"{}", b'""', b"0", b'{"":0}', b"[[[[[[]]]]]]", b'"\\""', b'"\\\\"', b'"']
)
def test_no_body_takes_far_more_memory_than_it_has_bytes(thing: bytes) -> None:
    things = b",".join([thing] * (2**23 // len(thing)))
    body = b'{"query": "{ x }", "variables": {"x": [' + things + b"]}}"
    tracemalloc.start()
    try:
        with pytest.raises(Refused):
            read_body(body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


@pytest.mark.parametrize("text", ['1,"2",[{', '\\"', "[" * 10])
def test_texts_may_hold_whatever_they_like(text: str) -> None:
    long = text * 200_000

    assert read_body(json.dumps({"query": "{ x }", "variables": {"t": long}}).encode()).variables
