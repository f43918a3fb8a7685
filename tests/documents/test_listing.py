"""Lists: cursors that outlive their documents, windows that make sense, and one order for all."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.documents import AnyDocument, Collection, Priority, Project, Session, Unreadable
from api.documents.listing import (
    MAX_PAGE,
    UNDATED,
    UNRANKED,
    Indexed,
    InvalidPage,
    Listing,
    Order,
    Where,
    Window,
    cursor,
    cursor_at,
    fold,
    matches,
    page_of,
    position,
    read_cursor,
    unreadable,
    window,
)

NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)


def session(path: str = "a.md", **fields: Any) -> Session:
    return Session(path=path, revision="0" * 40, bytes=1, **{"title": "T", **fields})


def project(path: str, rank: int | None) -> Project:
    return Project(path=path, revision="0" * 40, bytes=1, title="T", name="N", rank=rank)


def encoded(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def ordered(order: Order, *documents: AnyDocument) -> list[str]:
    collection = Collection.PROJECTS if order is Order.RANK_ASC else Collection.SESSIONS
    index = [Indexed(collection=collection, document=document) for document in documents]
    listing = Listing(collection=collection, where=Where(), order=order)
    return [item.document.path for item in page_of(listing, Window(), index).items]


# Orders


def test_descending_is_the_exact_reverse_of_ascending_ties_included() -> None:
    documents = [
        session("b.md", occurred_at=NOON),
        session("a.md", occurred_at=NOON),
        session("c.md"),
        session("A.md", occurred_at=NOON - timedelta(days=1)),
    ]
    ascending = ["c.md", "A.md", "a.md", "b.md"]
    assert ordered(Order.OCCURRED_AT_ASC, *documents) == ascending
    assert ordered(Order.OCCURRED_AT_DESC, *documents) == ascending[::-1]


def test_paths_are_ordered_by_code_points_as_git_orders_them() -> None:
    paths = ["Z.md", "a-b.md", "a.md", "a/b.md", "ä.md", "я.md", "\uffee.md", "🔥.md"]
    assert ordered(Order.PATH_ASC, *map(session, reversed(paths))) == paths


def test_what_has_no_rank_comes_last_and_no_rank_is_out_of_order() -> None:
    documents = [project("none.md", None), project("b.md", 2), project("a.md", 2)]
    documents += [project("first.md", -1)]
    assert ordered(Order.RANK_ASC, *documents) == ["first.md", "a.md", "b.md", "none.md"]


# Cursors


@pytest.mark.parametrize(
    ("order", "document"),
    [
        (Order.OCCURRED_AT_DESC, session("🔥 я.md", occurred_at=NOON)),
        (Order.OCCURRED_AT_ASC, session(occurred_at=datetime.max.replace(tzinfo=UTC))),
        (Order.OCCURRED_AT_ASC, session()),
        (Order.PATH_ASC, session('"\n.md')),
        (Order.RANK_ASC, project("p.md", -5)),
        (Order.RANK_ASC, project("p.md", None)),
    ],
)
def test_a_cursor_names_the_place_of_its_document(order: Order, document: AnyDocument) -> None:
    text = cursor(order, document)
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert read_cursor(order, text) == position(order, document)


def test_a_cursor_names_a_number_where_there_are_no_documents() -> None:
    text = cursor_at(Order.NUMBER_DESC, (5, ""))
    assert read_cursor(Order.NUMBER_DESC, text) == (5, "")


def test_undated_and_unranked_have_places_of_their_own() -> None:
    assert position(Order.OCCURRED_AT_ASC, session()) == (UNDATED, "a.md")
    assert position(Order.RANK_ASC, project("p.md", None)) == (UNRANKED, "p.md")


def test_a_moment_in_any_zone_is_one_place() -> None:
    moscow = timezone(timedelta(hours=3))
    assert read_cursor(
        Order.OCCURRED_AT_ASC, cursor(Order.OCCURRED_AT_ASC, session(occurred_at=NOON))
    ) == read_cursor(
        Order.OCCURRED_AT_ASC,
        encoded(["occurred", NOON.astimezone(moscow).isoformat(), "a.md"]),
    )


@pytest.mark.parametrize(
    "content",
    [
        ["occurred", "2026-02-28T12:00:00", "a.md"],  # when in the world?
        ["occurred", "0001-01-01T00:00:00+14:00", "a.md"],  # before the first moment
        ["occurred", "9999-12-31T23:59:59-14:00", "a.md"],
        ["occurred", 5, "a.md"],
        ["occurred", "2026-02-28T12:00:00Z", 5],
        ["occurred", "2026-02-28T12:00:00Z", "a\0.md"],
        ["occurred", "2026-02-28T12:00:00Z", "\ud800.md"],
        ["occurred", "2026-02-28T12:00:00Z"],
        ["rank", 1, "a.md"],
        {"occurred": 1, "b": 2, "c": 3},
        "occurred",
        None,
    ],
)
def test_what_is_no_cursor_of_this_order_is_refused(content: object) -> None:
    with pytest.raises(InvalidPage):
        read_cursor(Order.OCCURRED_AT_ASC, encoded(content))


@pytest.mark.parametrize("rank", [2**63, -(2**63), 10**400, 1.5, "1", None, True])
def test_a_rank_that_no_store_can_hold_is_no_place(rank: object) -> None:
    with pytest.raises(InvalidPage):
        read_cursor(Order.RANK_ASC, encoded(["rank", rank, "a.md"]))


def test_a_place_by_path_is_nothing_but_the_path() -> None:
    with pytest.raises(InvalidPage):
        read_cursor(Order.PATH_ASC, encoded(["path", "z", "a.md"]))


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    for order in Order:
        try:
            _, path = read_cursor(order, text)
        except InvalidPage:
            continue
        assert isinstance(path, str)


def test_a_cursor_nested_without_end_is_refused() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    with pytest.raises(InvalidPage):
        read_cursor(Order.PATH_ASC, deep)


# Windows


def test_a_window_is_the_first_twenty_unless_asked_otherwise() -> None:
    assert window(Order.PATH_ASC) == Window(size=20)
    assert window(Order.PATH_ASC, first=0) == Window(size=0)
    assert window(Order.PATH_ASC, last=MAX_PAGE) == Window(size=MAX_PAGE, from_end=True)


@pytest.mark.parametrize(
    "sizes", [{"first": 1, "last": 1}, {"first": -1}, {"last": -1}, {"first": MAX_PAGE + 1}]
)
def test_a_window_that_makes_no_sense_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(InvalidPage):
        window(Order.PATH_ASC, **sizes)  # type: ignore[arg-type]


def test_a_page_knows_whether_there_is_more() -> None:
    index = [Indexed(collection=Collection.SESSIONS, document=session(path)) for path in "abcde"]
    listing = Listing(collection=Collection.SESSIONS, where=Where(), order=Order.PATH_ASC)

    def page(**arguments: object) -> tuple[str, bool, bool]:
        found = page_of(listing, Window(**arguments), index)  # type: ignore[arg-type]
        paths = "".join(item.document.path for item in found.items)
        return paths, found.has_previous, found.has_next

    assert page(size=2) == ("ab", False, True)
    assert page(size=2, after=("", "b")) == ("cd", True, True)
    assert page(size=2, after=("", "d")) == ("e", True, False)
    assert page(size=2, from_end=True) == ("de", True, False)
    assert page(size=2, before=("", "d"), from_end=True) == ("bc", True, True)
    assert page(size=9, after=("", "a"), before=("", "e")) == ("bcd", True, False)
    assert page(size=2, after=("", "bb")) == ("cd", True, True)  # its document is gone
    assert page(size=2, after=("", "d"), before=("", "b")) == ("", True, False)
    assert page(size=0) == ("", False, True)


# Conditions


@pytest.mark.parametrize(
    ("where", "fields", "holds"),
    [
        (Where(), {}, True),
        (Where(status="done"), {"status": "done"}, True),
        (Where(status="done"), {"status": "Done"}, False),
        (Where(status="done"), {}, False),
        (Where(tag="a"), {"tags": ("b", "a")}, True),
        (Where(tag="a"), {"tags": ("ab",)}, False),
        (Where(since=NOON), {"occurred_at": NOON}, True),
        (Where(until=NOON), {"occurred_at": NOON}, False),
        (Where(since=NOON), {}, False),
        (Where(until=NOON), {}, False),
        (Where(title_contains="ОТЧЁТ"), {"title": "Мой отчёт"}, True),
        (Where(title_contains="strasse"), {"title": "Die Straße"}, True),
        (Where(title_contains="%"), {"title": "T"}, False),
        (Where(title_contains="\0"), {"title": "T"}, False),
        (Where(title_contains=""), {"title": "T"}, True),
        (Where(project_keys=frozenset({"annoris"})), {"project": "ANNORIS"}, True),
        (Where(project_keys=frozenset()), {"project": "ANNORIS"}, False),
        (Where(project_keys=frozenset({"annoris"})), {}, False),
        (Where(project_keys=frozenset({"x" * 601})), {"project": "x" * 700}, True),
    ],
)
def test_conditions_on_sessions(where: Where, fields: dict[str, Any], *, holds: bool) -> None:
    assert matches(where, session(**fields)) is holds


def test_conditions_on_sessions_hold_for_nothing_else() -> None:
    priority = Priority(path="p.md", revision="0" * 40, bytes=1, title="T", status="done")
    assert matches(Where(), priority)
    assert not matches(Where(status="done"), priority)


@given(st.text(), st.text())
def test_folding_a_part_gives_a_part_of_the_folded(one: str, other: str) -> None:
    assert fold(one) in fold(one + other)


@pytest.mark.parametrize("collection", Collection)
def test_an_unreadable_document_is_titled_by_its_file(collection: Collection) -> None:
    broken = Unreadable(path="a/b.md", revision="0" * 40, bytes=9, reason="Why.")
    item = unreadable(collection, broken)
    assert (item.collection, item.document.title, item.unreadable) == (collection, "b", "Why.")
    assert (item.document.path, item.document.bytes, item.hot) == ("a/b.md", 9, False)
