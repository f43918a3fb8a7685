"""What commits say of writes: for people first, and readable again for us whatever people say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.master.messages import Key, Note, Record, compose, records

KEY = Key("a" * 32, "b" * 32)


def message(*notes: Note) -> str:
    headline, body = compose(notes)
    return f"{headline}\n\n{body}"


def test_one_write_says_what_its_caller_said() -> None:
    note = Note(write_id="id-1", message="Save it\n\nBecause.\n\nAnd so.", co_authors=("A <a@b>",))

    assert message(note) == (
        "Save it\n\nBecause.\n\nAnd so.\n\nAnnoris-Write: id-1\nCo-authored-by: A <a@b>"
    )


def test_a_group_lists_what_each_of_its_callers_said() -> None:
    notes = [
        Note(write_id="id-1", message="Create a.md", co_authors=("A <a@b>",)),
        Note(write_id="id-2", message="Close b\n\nIt is done.\n\nReally.", key=KEY),
        Note(
            write_id="id-3", message="Third", key=KEY, chosen=("c-2.md",), co_authors=("A <a@b>",)
        ),
    ]

    assert message(*notes) == (
        "Save 3 changes: Create a.md, Close b, Third\n"
        "\n"
        "* Create a.md\n"
        "* Close b\n"
        "  It is done.\n"
        "\n"
        "  Really.\n"
        "* Third\n"
        "\n"
        "Annoris-Write: id-1\n"
        "Annoris-Write: id-2\n"
        f"Annoris-Key: {'a' * 32} {'b' * 32}\n"
        "Annoris-Write: id-3\n"
        f"Annoris-Key: {'a' * 32} {'b' * 32}\n"
        "Annoris-Path: c-2.md\n"
        "Co-authored-by: A <a@b>"
    )


def test_the_headline_of_a_large_group_is_cut() -> None:
    headline, _ = compose([Note(write_id=str(n), message=f"Create {n}.md") for n in range(90)])

    assert headline.startswith("Save 90 changes: Create 0.md, Create 1.md")
    assert len(headline) <= 72
    assert headline.endswith("…")


def test_the_callers_own_trailers_stay_trailers() -> None:
    note = Note(write_id="id-1", message="Save\n\nText.\n\nCo-authored-by: B <b@c>\nRefs: 7")

    assert message(note).endswith("Text.\n\nCo-authored-by: B <b@c>\nRefs: 7\nAnnoris-Write: id-1")


def test_what_a_caller_makes_up_is_not_taken_for_ours() -> None:
    note = Note(write_id="id-1", message=f"Save\n\nAnnoris-Write: x\nAnnoris-Key: {'c' * 32} y")

    assert records(message(note)) == [Record("id-1", None, ())]


@pytest.mark.parametrize("said", [[""], [" \n "], ["Fine", "\n"], []])
def test_a_commit_without_words_is_a_mistake_of_ours(said: list[str]) -> None:
    with pytest.raises(ValueError, match="headline"):
        compose([Note(write_id="id", message=each) for each in said])


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Annoris-Write: alone-in-the-headline",
        "Text\n\nAnnoris-Write: quoted\n\nMore text",
        "Text\n\nAnnoris-Key: " + "a" * 32 + " " + "b" * 32,
        "Text\n\nAnnoris-Write: ",
        "\n" * 100_000,
        "Text\n\n" + "Annoris-Path: x\n" * 10_000,
    ],
)
def test_what_others_push_tells_of_no_write(said: str) -> None:
    assert records(said) == []


def test_a_broken_key_is_no_key() -> None:
    assert records("Text\n\nAnnoris-Write: a\nAnnoris-Key: short b") == [Record("a", None, ())]


def test_line_ends_of_windows_do_not_matter() -> None:
    note = Note(write_id="id", message="Text", key=KEY, chosen=("a.md",))

    assert records(message(note).replace("\n", "\r\n")) == [Record("id", KEY, ("a.md",))]


DIGEST = st.text("0123456789abcdef", min_size=32, max_size=32)
NOTES = st.builds(
    Note,
    write_id=st.uuids().map(str),
    message=st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text.strip()),
    key=st.builds(Key, DIGEST, DIGEST),
    chosen=st.lists(st.sampled_from(["a.md", "s/б.md", "с пробелом.md"])).map(tuple),
    co_authors=st.lists(st.just("A <a@b>")).map(tuple),
)


@given(st.lists(NOTES, min_size=1, max_size=4))
def test_every_write_is_read_back_whatever_its_message(notes: list[Note]) -> None:
    assert records(message(*notes)) == [
        Record(note.write_id, note.key, note.chosen) for note in notes
    ]


def test_trailers_that_are_added_below_ours_hide_nothing() -> None:
    headline, body = compose([Note(write_id="w", message="Save")])

    [record] = records(f"{headline}\n\n{body}\n\nSigned-off-by: Somebody <s@example.org>")

    assert record.write_id == "w"
