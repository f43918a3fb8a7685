"""Automatic persisted queries: the document once, its hash from then on."""

from hashlib import sha256
from typing import Any

import pytest

from api.http import persisted
from api.http.persisted import Persisted
from api.http.reply import Refused
from api.http.request import Asked
from tests.http.wire import Got, get, post

numbers = iter(range(10**6))


@pytest.fixture
def query() -> str:
    """A valid document that nobody has sent yet."""
    return f"query Q($if: Boolean = true) {{ __typename @include(if: $if) }} # {next(numbers)}"


def known_as(query: str) -> dict[str, Any]:
    return {"persistedQuery": {"version": 1, "sha256Hash": digest(query)}}


def digest(query: str) -> str:
    return sha256(query.encode()).hexdigest()


def is_unknown(got: Got) -> bool:
    [error] = got.content["errors"]
    return bool(
        error["message"] == "PersistedQueryNotFound"
        and error["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"
    )


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_document_is_known_once_it_was_sent(door: int, query: str, method: str) -> None:
    def ask(**given: object) -> Got:
        return get(door, given) if method == "GET" else post(door, given)

    first = ask(extensions=known_as(query))
    assert is_unknown(first)
    assert (first.status, first.headers["cache-control"]) == (200, "no-store")

    sent = ask(query=query, extensions=known_as(query))
    again = ask(extensions=known_as(query))
    other = ask(extensions=known_as(query), operationName="Q", variables={"if": False})

    assert sent.content == again.content == {"data": {"__typename": "Query"}}
    assert other.content == {"data": {}}


def test_what_was_sent_by_post_is_known_by_get(door: int, query: str) -> None:
    post(door, {"query": query, "extensions": known_as(query)})
    assert get(door, {"extensions": known_as(query)}).content == {"data": {"__typename": "Query"}}


def test_without_the_hash_nothing_is_remembered(door: int, query: str) -> None:
    post(door, {"query": query})
    assert is_unknown(get(door, {"extensions": known_as(query)}))


def test_a_document_that_is_not_that_of_the_hash_is_refused_and_forgotten(
    door: int, query: str
) -> None:
    got = post(door, {"query": "{ __typename }", "extensions": known_as(query)})

    assert (got.status, got.code) == (400, "BAD_INPUT")
    assert is_unknown(get(door, {"extensions": known_as(query)}))


@pytest.mark.parametrize("query", ["{ nothing }", "{", "# \ud83d\n{ __typename "])
def test_a_document_that_is_not_valid_is_not_remembered(door: int, query: str) -> None:
    digest = sha256(query.encode(errors="surrogatepass")).hexdigest()
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": digest}}

    assert post(door, {"query": query, "extensions": extensions}).code == "BAD_INPUT"
    assert is_unknown(post(door, {"extensions": extensions}))


def test_a_mutation_that_is_known_is_not_carried_out_by_get(door: int) -> None:
    mutation = 'mutation { deleteSession(input: {id: "a.md"}) { id } }'
    post(door, {"query": mutation, "extensions": known_as(mutation)})

    got = get(door, {"extensions": known_as(mutation)})

    assert (got.status, got.code) == (405, "BAD_INPUT")


def asked(query: str | None, digest: str) -> Asked:
    return Asked(query, None, None, digest)


def test_of_many_documents_those_used_last_stay() -> None:
    store = Persisted()
    most = persisted._BYTES // persisted._LEAST
    texts = [f"{{ a{number} }}" for number in range(most + 1)]
    for text in texts[:most]:
        store.remember(asked(text, digest(text)))
    assert store.text_of(asked(None, digest(texts[0]))) == texts[0]

    store.remember(asked(texts[most], digest(texts[most])))

    assert store.text_of(asked(None, digest(texts[0]))) == texts[0]
    with pytest.raises(Refused, match="PersistedQueryNotFound"):
        store.text_of(asked(None, digest(texts[1])))


def test_all_documents_together_have_a_bound_in_bytes() -> None:
    store = Persisted()
    size = persisted._MOST - 1_000
    texts = [f"# {number} ".ljust(size, "x") for number in range(2 * persisted._BYTES // size)]
    for text in texts:
        store.remember(asked(text, digest(text)))

    assert store._texts.currsize <= persisted._BYTES
    assert store.text_of(asked(None, digest(texts[-1]))) == texts[-1]


def test_a_document_that_carries_somebodys_text_is_not_remembered() -> None:
    store = Persisted()
    text = "#" * (persisted._MOST + 1)

    store.remember(asked(text, digest(text)))

    assert len(store._texts) == 0
