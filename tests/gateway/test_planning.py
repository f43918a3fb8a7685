"""What goes into one commit: each write as if it were alone and in its turn, or not at all."""

from collections.abc import Mapping, Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.documents import Collection, FieldValue, Layout, blob_oid, directories_above
from api.gateway.changes import Delete, Rename, Update
from api.gateway.errors import BadInput, Conflict, GatewayError, LimitExceeded, NotFound
from api.gateway.planning import (
    MAX_BYTES,
    MAX_FILES,
    MAX_REQUEST_BYTES,
    MAX_WRITES,
    Addition,
    File,
    Files,
    Lacking,
    Names,
    Plan,
    Step,
    Write,
    plan,
)
from api.master.messages import Key

LAYOUT = Layout(sessions=("s",), projects=("p",), priorities=("q",))
NUMBERS = count()
A, B, C = "s/a.md", "s/b.md", "s/c.md"


def write(*steps: Step, key: Key | None = None) -> Write:
    return Write(id=f"w{next(NUMBERS)}", steps=steps, key=key, messages=[None] * len(steps))


def add(path: str, text: str = "new\n", *, chosen: bool = False) -> Addition:
    return Addition(path=path, content=text.encode(), chosen=chosen)


def update(path: str, expected: str | None = None, **fields: FieldValue) -> Update:
    return Update(collection=Collection.SESSIONS, path=path, fields=fields, expected=expected)


def delete(path: str, expected: str | None = None) -> Delete:
    return Delete(collection=None, path=path, expected=expected)


def file(text: str | bytes) -> File:
    content = text.encode() if isinstance(text, str) else text
    return File(blob_oid(content), len(content), content)


def planned(writes: list[Write], files: Files, *, max_bytes: int = 100_000) -> Plan:
    return plan(writes, files, names_around(files), layout=LAYOUT, max_bytes=max_bytes)


def names_around(files: Files, *others: str) -> dict[str, Names]:
    """What lies in each directory. `others`: what else there is, directories with a slash."""
    there = {path for path, found in files.items() if found} | set(others)
    there |= {f"{d}/" for d in directories_above(there) if d}
    names: dict[str, list[str]] = {d: [] for d in {"s", *directories_above([*files, *there])}}
    for path in there:
        directory = path.removesuffix("/").rpartition("/")[0]
        names[directory].append(path.removeprefix(f"{directory}/" if directory else ""))
    return {directory: Names(found) for directory, found in names.items()}


def saved(files: Files, draft: Plan) -> dict[str, bytes]:
    """What lies at the master after the commit."""
    after = {path: f.content or b"" for path, f in files.items() if f}
    for path in draft.deletions:
        del after[path]
    return {**after, **draft.additions}


# One write


def test_an_update_sets_its_fields_and_no_other_byte() -> None:
    files = {A: file("---\r\nstatus: open\r\nmine: [1,  2]\r\n---\r\n# Título\r\n")}

    draft = planned([write(update(A, status="done"))], files)

    assert draft.additions == {
        A: b"---\r\nstatus: done\r\nmine: [1,  2]\r\n---\r\n# T\xc3\xadtulo\r\n"
    }


def test_an_update_that_changes_nothing_is_no_part_of_the_commit() -> None:
    same = write(update(A, status="open"))

    draft = planned([same], {A: file("---\nstatus: open\n---\ntext\n")})

    assert (draft.additions, draft.made, draft.unchanged) == ({}, {}, {same.id: [A]})


def test_a_new_text_goes_below_the_front_matter_unless_it_brings_its_own() -> None:
    files = {A: file("---\nstatus: open\n---\nold\n")}
    text = Update(collection=Collection.SESSIONS, path=A, fields={}, markdown="new\n")
    whole = Update(
        collection=Collection.SESSIONS, path=A, fields={}, markdown="---\nstatus: x\n---\nnew\n"
    )

    assert planned([write(text)], files).additions[A] == b"---\nstatus: open\n---\nnew\n"
    assert planned([write(whole)], files).additions[A] == b"---\nstatus: x\n---\nnew\n"


def test_a_rename_keeps_the_bytes_whatever_they_are() -> None:
    files = {A: file(b"\xff\xfe not a text"), B: None}
    moved = write(Rename(path=A, to=B))

    draft = planned([moved], files)

    assert (draft.additions, draft.deletions) == ({B: b"\xff\xfe not a text"}, [A])
    assert draft.made == {moved.id: [B]}


@pytest.mark.parametrize("step", [update(A, status="x"), delete(A), Rename(path=A, to=B)])
def test_what_is_not_there_is_not_found(step: Step) -> None:
    [error] = planned([write(step)], {A: None, B: None}).refused.values()

    assert isinstance(error, NotFound)


@pytest.mark.parametrize(
    "step",
    [
        update(A, "0" * 40, status="x"),
        delete(A, "0" * 40),
        Rename(path=A, to=B, expected="0" * 40),
    ],
)
def test_another_revision_than_expected_is_a_conflict_that_names_the_present_one(
    step: Step,
) -> None:
    there = file("# Present\n")

    [error] = planned([write(step)], {A: there, B: None}).refused.values()

    assert isinstance(error, Conflict)
    assert error.details == {
        "path": A,
        "currentRevision": there.revision,
        "currentTitle": "Present",
    }


@pytest.mark.parametrize("step", [add(A), Rename(path=B, to=A)])
def test_a_path_that_is_taken_is_a_conflict(step: Step) -> None:
    [error] = planned([write(step)], {A: file("# There\n"), B: file("b")}).refused.values()

    assert isinstance(error, Conflict)
    assert error.details["currentTitle"] == "There"


def test_what_is_no_document_is_neither_changed_nor_replaced() -> None:
    link = File("1" * 40, 5, is_document=False)

    draft = planned([write(update(A, status="x")), write(delete(A)), write(add(A))], {A: link})

    assert [type(error) for error in draft.refused.values()] == [NotFound, NotFound, Conflict]


def test_a_chosen_path_makes_way_for_one_that_is_taken() -> None:
    files = {A: file("x"), "s/a-2.md": file("y"), "s/a-3.md": None}
    new = write(add(A, chosen=True))

    assert planned([new], files).made == {new.id: ["s/a-3.md"]}


@pytest.mark.parametrize("content", [b"\xff", b"a\0b", b"x" * 2_000])
def test_what_cannot_be_understood_cannot_be_changed_by_fields(content: bytes) -> None:
    [error] = planned(
        [write(update(A, status="x"))], {A: file(content)}, max_bytes=1_000
    ).refused.values()

    assert isinstance(error, BadInput)


# All or nothing


def test_a_write_of_many_steps_is_made_as_a_whole_or_not_at_all() -> None:
    files = {A: file("a"), B: file("b"), C: None}
    bad = write(delete(A), add(C), update(B, "0" * 40, status="x"))

    draft = planned([bad], files)

    assert (draft.additions, draft.deletions) == ({}, [])
    assert draft.refused[bad.id].details["operation"] == 2


def test_each_step_sees_what_those_before_it_did() -> None:
    files = {A: file("---\nstatus: open\n---\na"), B: None, C: None}
    steps: list[Step] = [
        Rename(path=A, to=B),
        update(B, status="done"),
        add(A, "again\n"),
        add(C),
        delete(C),
    ]

    draft = planned([write(*steps)], files)

    assert saved(files, draft) == {A: b"again\n", B: b"---\nstatus: done\n---\na"}


def test_a_guard_means_what_was_saved_and_not_what_the_same_write_makes_of_it() -> None:
    there = file("---\nstatus: open\n---\na")
    steps = [update(A, there.revision, status="x"), update(A, there.revision, agent="me")]

    draft = planned([write(*steps)], {A: there})

    assert draft.additions == {A: b"---\nstatus: x\nagent: me\n---\na"}


def test_a_guard_goes_with_a_document_that_the_same_write_renames() -> None:
    there = file("---\nstatus: open\n---\na")
    moved = write(Rename(path=A, to=B), update(B, there.revision, status="x"))

    draft = planned([moved], {A: there, B: None})

    assert draft.additions == {B: b"---\nstatus: x\n---\na"}


def test_a_project_must_be_there_when_all_is_done() -> None:
    new = Addition(path=A, content=b"a", chosen=False, project=B)

    assert planned([write(new)], {A: None, B: None}).refused
    assert planned([write(new), write(add(B))], {A: None, B: None}).refused
    assert planned([write(add(B)), write(new)], {A: None, B: None}).made
    assert planned([write(new, add(B))], {A: None, B: None}).made
    assert planned([write(new, delete(B))], {A: None, B: file("b")}).refused


# Many writes


def test_a_guard_is_not_met_by_what_was_not_saved() -> None:
    made_and_minded = write(add(A), delete(A, blob_oid(b"something else\n")))

    draft = planned([made_and_minded], {A: None})

    [error] = draft.refused.values()
    assert isinstance(error, NotFound)
    assert error.details["operation"] == 1


def test_a_bad_write_does_not_touch_its_neighbours() -> None:
    files = {A: file("---\nstatus: open\n---\na"), B: None}
    good, bad, fine = write(update(A, status="x")), write(delete(B)), write(add(B))

    draft = planned([good, bad, fine], files)

    assert list(draft.made) == [good.id, fine.id]
    assert list(draft.refused) == [bad.id]


def test_updates_of_one_document_are_folded_in_their_order() -> None:
    files = {A: file("---\nstatus: open\nagent: a\n---\ntext\n")}
    writes = [
        write(update(A, status="one")),
        write(update(A, agent="b")),
        write(update(A, status="two")),
    ]

    assert planned(writes, files).additions == {A: b"---\nstatus: two\nagent: b\n---\ntext\n"}


@pytest.mark.parametrize("step", [delete(A), Rename(path=A, to=B), update(A, "0" * 40), add(A)])
def test_what_asks_for_a_saved_state_waits_until_there_is_one(step: Step) -> None:
    first, second, third = (
        write(update(A, status="x")),
        write(step),
        write(update(A, status="y")),
    )

    draft = planned([first, second, third], {A: file("a"), B: None})

    assert list(draft.made) == [first.id]
    assert draft.later == [second, third]  # nobody overtakes at one path


def test_nothing_is_done_to_a_path_after_it_was_emptied_in_the_same_commit() -> None:
    gone, after, other = write(delete(A)), write(add(A)), write(update(B, status="x"))

    draft = planned([gone, after, other], {A: file("a"), B: file("b")})

    assert list(draft.made) == [gone.id, other.id]
    assert draft.later == [after]


def test_of_two_writes_with_one_key_the_second_waits_for_what_comes_of_the_first() -> None:
    key = Key("k" * 32, "c" * 32)
    first, second = write(add(A), key=key), write(add(B), key=key)

    draft = planned([first, second], {A: None, B: None})

    assert (list(draft.made), draft.later) == ([first.id], [second])


def test_a_refused_write_stands_in_nobodys_way() -> None:
    bad, good = write(update(A, "0" * 40, status="x")), write(delete(A))

    draft = planned([bad, good], {A: file("a")})

    assert (list(draft.made), list(draft.refused)) == ([good.id], [bad.id])


def test_equal_titles_get_different_paths() -> None:
    names = [A, *(f"s/a-{n}.md" for n in range(2, 40))]
    writes = [write(add(A, f"{n}", chosen=True)) for n in range(30)]

    draft = planned(writes, dict.fromkeys(names))

    assert list(draft.made.values()) == [[name] for name in names[:30]]


# Bounds


def test_a_commit_has_bounds_and_the_rest_waits_in_its_order() -> None:
    writes = [write(add(f"s/{n}.md")) for n in range(120)]

    draft = planned(writes, {f"s/{n}.md": None for n in range(120)})

    assert len(draft.additions) == MAX_FILES
    assert draft.later == writes[MAX_FILES:]


def test_a_commit_is_bounded_by_bytes_and_by_writes() -> None:
    big = [write(add(f"s/{n}.md", "x" * 1_500_000)) for n in range(4)]
    small = [write(update(A, status=f"s{n}")) for n in range(MAX_WRITES + 5)]

    first = planned(big, {f"s/{n}.md": None for n in range(4)})
    second = planned(small, {A: file("a")})

    assert sum(map(len, first.additions.values())) <= MAX_BYTES
    assert first.later == big[2:]
    assert second.later == small[MAX_WRITES:]


def test_one_write_may_be_larger_than_a_group_but_not_without_end() -> None:
    steps = [add(f"s/{n}.md", "x" * 50_000) for n in range(100)]
    files = {f"s/{n}.md": None for n in range(200)}
    large = write(*steps)
    huge = write(
        *(add(f"s/{n}.md", "x" * 100_000) for n in range(MAX_REQUEST_BYTES // 100_000 + 1))
    )

    assert list(planned([large], files).made) == [large.id]
    assert isinstance(planned([huge], files).refused[huge.id], LimitExceeded)


def test_a_document_that_is_too_large_to_be_sent_is_not_asked_for() -> None:
    whale = File("1" * 40, MAX_REQUEST_BYTES + 1)

    [error] = planned([write(Rename(path=A, to=B))], {A: whale, B: None}).refused.values()

    assert isinstance(error, LimitExceeded)


# What is not known


def test_what_is_not_known_is_asked_for_all_at_once() -> None:
    cold = File("1" * 40, 10)
    writes = [write(update(A, status="x")), write(delete(B)), write(Rename(path=C, to="s/d.md"))]

    with pytest.raises(Lacking) as lacking:
        planned(writes, {A: cold, C: cold})

    assert lacking.value.contents == {A, C}
    assert lacking.value.paths == {B}


def test_free_names_are_looked_for_many_at_once() -> None:
    with pytest.raises(Lacking) as lacking:
        planned([write(add(A, chosen=True))], {A: file("taken")})

    assert len(lacking.value.paths) > 10


# What some computers cannot tell apart


BESIDE = [
    ("s/Note.md", "s/note.md"),
    ("s/ПЛАН.md", "s/План.md"),
    ("s/Straße.md", "s/STRASSE.MD"),
    ("s/й.md", "s/и\u0306.md"),
    ("s/a.md", "s/a.md/"),
    ("s/a.md", "s/a.md"),
]
ABOVE = [
    ("s/Ordner/a.md", "s/ordner/"),
    ("s/Ordner/a.md", "s/ordner./"),
    ("S/a.md", "s/"),
    ("s/a.md/b.md", "s/a.md"),
    ("s/link/b.md", "s/link"),
]


def beside(step: Addition, other: str) -> tuple[Sequence[str | None], GatewayError | None]:
    free = f"{step.path.removesuffix('.md')}-2.md"
    asked = write(step)
    files = {step.path: None, free: None}
    draft = plan([asked], files, names_around(files, other), layout=LAYOUT, max_bytes=9)
    return draft.made.get(asked.id, []), draft.refused.get(asked.id)


@pytest.mark.parametrize(("path", "other"), BESIDE + ABOVE)
def test_nothing_is_laid_beside_or_upon_what_some_computer_takes_for_it(
    path: str, other: str
) -> None:
    _, refused = beside(add(path), other)

    assert isinstance(refused, Conflict)
    assert str(refused).startswith(f"{path} cannot be saved beside {other}: ")


@pytest.mark.parametrize(("path", "other"), BESIDE)
def test_a_chosen_path_makes_way_for_it(path: str, other: str) -> None:
    assert beside(add(path, chosen=True), other)[0] == [f"{path.removesuffix('.md')}-2.md"]


@pytest.mark.parametrize(("path", "other"), ABOVE)
def test_a_chosen_path_has_no_way_to_make_for_a_directory(path: str, other: str) -> None:
    assert isinstance(beside(add(path, chosen=True), other)[1], Conflict)


@pytest.mark.parametrize("other", ["s/", "s/b.md", "s/a", "s/aa.md", "a.md", "s/a.md.md", "t"])
def test_what_lies_elsewhere_is_in_nobodys_way(other: str) -> None:
    draft = plan(
        [write(add(A))], {A: None}, names_around({A: None}, other), layout=LAYOUT, max_bytes=9
    )

    assert draft.additions == {A: b"new\n"}


def test_a_document_can_be_renamed_to_another_spelling_of_its_name() -> None:
    files = {A: file("x"), "s/A.md": None}

    draft = planned([write(Rename(path=A, to="s/A.md"))], files)

    assert (set(draft.additions), draft.deletions) == ({"s/A.md"}, [A])


def test_one_write_cannot_add_two_documents_that_some_computer_takes_for_one() -> None:
    both = write(add("s/x.md"), add("s/X.md"))

    draft = planned([both], {"s/x.md": None, "s/X.md": None})

    assert "s/X.md cannot be saved beside s/x.md" in str(draft.refused[both.id])
    assert draft.refused[both.id].details["operation"] == 1


def test_of_two_writes_the_second_waits_until_it_is_known_what_became_of_the_first() -> None:
    first, second = write(add("s/x.md")), write(add("s/X.md"))

    draft = planned([first, second], {"s/x.md": None, "s/X.md": None})

    assert (list(draft.made), draft.later) == ([first.id], [second])


def test_what_lies_around_is_asked_for_together_with_what_lies_there() -> None:
    with pytest.raises(Lacking) as lacking:
        plan([write(add(A, chosen=True))], {}, {"": Names([])}, layout=LAYOUT, max_bytes=9)

    assert lacking.value.paths == {A}
    assert lacking.value.directories == {"s"}


# Everything together

PATHS = [A, B, C, "s/d.md", "s/A.md", "s/Free.md", "s/a.md/e.md"]
PATH = st.sampled_from(PATHS)
TEXT = st.sampled_from(["one", "two", "три"])


def steps() -> st.SearchStrategy[Step]:
    guards = st.one_of(st.none(), TEXT.map(lambda t: file(f"---\nstatus: {t}\n---\nx").revision))
    return st.one_of(
        st.builds(lambda p, t: add(p, f"---\nstatus: {t}\n---\nx"), PATH, TEXT),
        st.builds(lambda t: add("s/free.md", f"{t}\n", chosen=True), TEXT),
        st.builds(lambda p, t, g: update(p, g, status=t), PATH, TEXT, guards),
        st.builds(lambda p, t: update(p, agent=t), PATH, TEXT),
        st.builds(delete, PATH, guards),
        st.builds(lambda a, b, g: Rename(path=a, to=b, expected=g), PATH, PATH, guards),
    )


@given(
    st.dictionaries(PATH, TEXT.map(lambda t: f"---\nstatus: {t}\n---\nx"), max_size=4),
    st.lists(st.lists(steps(), min_size=1, max_size=3), min_size=1, max_size=12),
)
def test_a_group_saves_what_its_writes_would_have_saved_one_by_one(
    texts: Mapping[str, str], groups: list[list[Step]]
) -> None:
    free = ["s/free.md", *(f"s/free-{n}.md" for n in range(2, 80))]
    files: dict[str, File | None] = dict.fromkeys([*PATHS, *free])
    files |= {path: file(text) for path, text in texts.items()}
    left = [write(*group) for group in groups]
    alone = dict(files)

    while left:
        draft = planned(left, files)
        later = {w.id for w in draft.later}
        assert draft.made or draft.unchanged or draft.refused  # it always goes on
        for each in left:
            if each.id in later:
                continue
            single = planned([each], alone)
            # Those who overtook others did so at other paths, so each is judged alike alone.
            assert (each.id in single.made) == (each.id in draft.made)
            assert (each.id in single.refused) == (each.id in draft.refused)
            alone |= single.files
        files |= draft.files
        assert {p: f and f.revision for p, f in files.items()} == {
            p: f and f.revision for p, f in alone.items()
        }
        assert not set(draft.additions) & set(draft.deletions)
        left = list(draft.later)
