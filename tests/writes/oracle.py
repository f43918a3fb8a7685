"""What may be true of a history, judged by git alone and by a model that is not the gateway's."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from api.documents import Collection, Json, Unreadable, blob_oid, body_of, parse
from tests.clone import git
from tests.sync.oracle import ls_tree, show
from tests.writes.gateways import Answer

Kind = Literal["create", "update", "delete", "rename"]
Tree = Mapping[str, str]  # path -> oid


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change of one document. `path` of a creation is None where the gateway chooses it."""

    kind: Kind
    path: str | None
    fields: Mapping[str, str | None] = field(default_factory=dict)
    text: str | None = None
    to: str | None = None
    expected: str | None = None


@dataclass
class Attempt:
    """A write that was asked for, and each time what came of it.

    `token` is in the commit message, and in no other write's. `since`, `until`: the heads before
    the first question and after the last answer.
    """

    token: str
    steps: Sequence[Step]
    since: str
    until: str = ""
    answers: list[Answer] = field(default_factory=list)

    @property
    def commits(self) -> set[str]:
        return {
            self.commit_of(answer) for answer in self.answers if answer.data and not answer.errors
        }

    @staticmethod
    def commit_of(answer: Answer) -> str:
        [payload] = answer.data.values()
        oid: str = payload["commit"]["oid"]
        return oid

    @property
    def is_certainly_not_saved(self) -> bool:
        """Every time it was said so."""
        return all(answer.errors and answer.code != "OUTCOME_UNKNOWN" for answer in self.answers)


class History:
    """The first-parent line of the branch, oldest first, with the tree of each commit."""

    def __init__(self, repository: Path, base: str) -> None:
        self.repository = repository
        line = git(repository, "log", "--first-parent", "--reverse", "--format=%H", f"{base}..main")
        self.commits = [base, *line.decode().split()]
        self.place = {oid: place for place, oid in enumerate(self.commits)}
        messages = git(
            repository, "log", "--first-parent", "--reverse", "--format=%B%x00", f"{base}..main"
        )
        said = [message.strip() for message in messages.decode().split("\0")][
            : len(self.commits) - 1
        ]
        self.tokens = [[], *(_tokens(message) for message in said)]
        self.trees: list[Tree] = [
            {entry.path.decode(): entry.oid for entry in ls_tree(repository, oid)}
            for oid in self.commits
        ]
        self.contents = show(repository, {oid for tree in self.trees for oid in tree.values()})

    def between(self, attempt: Attempt) -> range:
        """The places of the commits that were the head while the attempt was made."""
        return range(self.place[attempt.since], self.place[attempt.until] + 1)

    def model(self, place: int, path: str) -> tuple[dict[str, Json], str]:
        """The metadata and the body of a document."""
        content = self.contents[self.trees[place][path]]
        return read(content)


def read(content: bytes) -> tuple[dict[str, Json], str]:
    document = parse(
        Collection.SESSIONS, "x.md", content, revision=blob_oid(content), max_bytes=1_000_000
    )
    assert not isinstance(document, Unreadable)
    return dict(document.metadata), body_of(content.decode())


ByToken = Mapping[str, Attempt]


def _tokens(message: str) -> list[str]:
    """The writes that a commit lists, in their order."""
    return re.findall(r"^(?:\* )?(token-\d+)$", message, re.MULTILINE)


def check(history: History, attempts: Sequence[Attempt]) -> None:
    """Every promise about writes. Fails with the first that is broken."""
    by_token = {attempt.token: attempt for attempt in attempts}
    landed: dict[str, int] = {}
    for place, tokens in enumerate(history.tokens):
        for token in tokens:
            assert token not in landed, f"{token} is in the history twice"
            landed[token] = place
        if tokens:
            _check_carried_out(history, [by_token[token] for token in tokens], place)
    for attempt in attempts:
        try:
            _check_answers(history, attempt, landed.get(attempt.token), by_token)
        except AssertionError as broken:
            broken.add_note(f"{attempt}")
            raise


def _check_answers(
    history: History, attempt: Attempt, landed: int | None, by_token: ByToken
) -> None:
    if attempt.is_certainly_not_saved:
        assert landed is None, f"{attempt.token} was refused, and saved"
    for commit in attempt.commits:
        assert commit in history.place, f"{attempt.token} was acknowledged in {commit}, and is lost"
        if landed is None:
            _check_unchanged(history, attempt, history.place[commit], by_token)
        else:
            assert history.commits[landed] == commit, f"{attempt.token} is in another commit"
    for answer in attempt.answers:
        if answer.code in {"CONFLICT", "NOT_FOUND"}:
            _check_refusal(history, attempt, answer)


def _check_refusal(history: History, attempt: Attempt, answer: Answer) -> None:
    """What was said of a document was true at some moment while the caller waited."""
    told = answer.errors[0]["extensions"]
    step = attempt.steps[told.get("operation", 0)]
    path = told.get("path") or step.path
    there = {history.trees[place].get(path) for place in history.between(attempt)}
    if len(attempt.steps) > 1:
        return  # an earlier step may have made it so
    if answer.code == "NOT_FOUND":
        assert None in there, f"{path} was there all the time"
        return
    assert told["currentRevision"] in there, f"{path} was never at {told['currentRevision']}"
    if step.kind != "create" and path != step.to:
        assert told["currentRevision"] != step.expected, f"{path} was as expected"


def _check_carried_out(history: History, attempts: Sequence[Attempt], place: int) -> None:
    """A commit is what its writes asked for, done to its parent one by one, and nothing else."""
    fold = _Fold(history, place - 1)
    try:
        for attempt in attempts:
            fold.carry_out(attempt, place)
        fold.check_is_at(place)
    except AssertionError as broken:
        broken.add_note(f"{history.commits[place]}: {attempts}")
        raise


def _check_unchanged(history: History, attempt: Attempt, place: int, by_token: ByToken) -> None:
    """There was nothing to change: at this commit, or on the way to it, before or among others."""
    if _is_vain(_Fold(history, place), attempt, place):
        return
    fold = _Fold(history, place - 1)
    for other in [by_token[token] for token in history.tokens[place]]:
        if _is_vain(fold, attempt, place):
            return
        fold.carry_out(other, place)
    raise AssertionError(f"{attempt.token} is acknowledged, and in no commit")


def _is_vain(fold: "_Fold", attempt: Attempt, place: int) -> bool:
    after = fold.copied()
    try:
        after.carry_out(attempt, place)
    except AssertionError:
        return False
    return all(fold.at(path) == after.at(path) for path in after.touched)


Document = tuple[dict[str, Json], str]  # metadata and body


class _Fold:
    """What some writes make of the documents of a commit, as a model that is not the gateway's."""

    def __init__(self, history: History, base: int) -> None:
        self.history, self.base = history, base
        self.before = history.trees[base]
        self.changed: dict[str, Document | None] = {}

    @property
    def touched(self) -> set[str]:
        return set(self.changed)

    def copied(self) -> "_Fold":
        copy = _Fold(self.history, self.base)
        copy.changed = dict(self.changed)
        return copy

    def at(self, path: str) -> Document | None:
        if path in self.changed:
            return self.changed[path]
        return self.history.model(self.base, path) if path in self.before else None

    def carry_out(self, attempt: Attempt, place: int) -> None:
        """Do what was asked for. `place`: where its chosen path is to be found."""
        by_others = self.touched
        for step in attempt.steps:
            path = step.path or _chosen(self.history, place, step)
            there = self.at(path)
            is_made_here = path not in self.before and there is not None
            if step.expected and not is_made_here:
                assert self.before.get(path) == step.expected, f"{path} is not as expected"
                assert path not in by_others, f"{path} was changed before, in the same commit"
            if step.kind == "create":
                assert there is None, f"{path} was overwritten"
                self.changed[path] = (_changed({"title": "Title"}, step), step.text or "")
                continue
            assert there is not None, f"{path} was not there"
            if step.kind == "update":
                metadata, body = there
                text = body if step.text is None else step.text
                self.changed[path] = (_changed(metadata, step), text)
                continue
            self.changed[path] = None
            if step.to:
                assert self.at(step.to) is None, f"{step.to} was overwritten"
                self.changed[step.to] = there

    def check_is_at(self, place: int) -> None:
        """Whether the commit at this place is what was made here."""
        after = self.history.trees[place]
        for path in self.before.keys() | after.keys() | self.touched:
            if path not in self.changed:
                assert self.before.get(path) == after.get(path), f"{path} was changed as well"
                continue
            found = self.history.model(place, path) if path in after else None
            assert _timeless(found) == _timeless(self.changed[path]), f"{path} is another"


def _timeless(document: Document | None) -> Document | None:
    """Without the moment of a creation, which the gateway chooses."""
    if document is None:
        return None
    metadata, body = document
    return {name: said for name, said in metadata.items() if name != "occurred_at"}, body


def _changed(metadata: Mapping[str, Json], step: Step) -> dict[str, Json]:
    changed = {**metadata, **step.fields}
    return {name: value for name, value in changed.items() if value is not None}


def _chosen(history: History, place: int, step: Step) -> str:
    """Where a document went: its text tells, for no other has it."""
    [path] = [
        path
        for path, oid in history.trees[place].items()
        if path not in history.trees[place - 1] and read(history.contents[oid])[1] == step.text
    ]
    return path
