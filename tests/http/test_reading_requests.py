"""What is read from the bytes of a body or a URL."""

import json
from contextlib import suppress
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

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
