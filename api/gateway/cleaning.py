"""Keeping secrets out of what is to be written. Pure: a request in, one without secrets out.

Only what the caller sends is looked at: a document that has an old secret can still be changed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from api.documents import FieldValue, Json
from api.documents.secrets import find_secrets, redact
from api.gateway.changes import Change, Create, Delete, Rename, Request, SecretsPolicy, Update
from api.gateway.errors import BadInput

_NAMED = 5  # secrets that a message names
_LISTED = 100  # that its details list


@dataclass(frozen=True, slots=True)
class _Seen:
    """A secret that is refused, by its place. `line`: of that text, from 1."""

    text: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"line {self.line} of the {self.text} ({self.kind})"


def cleaned(request: Request, usual: SecretsPolicy, *, max_length: int) -> Request:
    """The request as it may be written. Raises BadInput, which names lines and kinds alone.

    `usual`: what to do where the request does not say. A text of more than `max_length` characters
    is not looked at: it is refused for that.
    """
    of_all = request.secrets or usual
    changes: list[Change] = []
    for number, change in enumerate(request.changes):
        texts = _Texts(change.secrets or of_all, max_length)
        changes.append(_cleaned(change, texts))
        texts.check(number if len(request.changes) > 1 else None)
    texts = _Texts(of_all, max_length)
    message = texts.clean("message", request.message)
    texts.check()
    return replace(request, changes=changes, message=message)


def texts_of(request: Request) -> Iterator[str]:
    """All texts that are looked through."""
    for sent in (request, *request.changes):
        yield sent.message or ""
    for change in request.changes:
        if isinstance(change, Create | Update):
            yield change.markdown or ""
            for value in change.fields.values():
                yield from value if isinstance(value, list | tuple) else [str(value)]


def _cleaned(change: Change, texts: "_Texts") -> Change:
    message = texts.clean("message", change.message)
    match change:
        case Create(path=path, markdown=markdown, fields=fields):
            texts.look("path", path)
            return replace(
                change,
                markdown=texts.clean("markdown", markdown) or "",
                fields=texts.clean_fields(fields),
                message=message,
            )
        case Update(markdown=markdown, fields=fields):
            return replace(
                change,
                markdown=texts.clean("markdown", markdown),
                fields=texts.clean_fields(fields),
                message=message,
            )
        case Rename(to=to):
            texts.look("path", to)
            return replace(change, message=message)
        case Delete():
            return replace(change, message=message)


class _Texts:
    """The texts of one change, cleaned one by one, and what has to be refused in them."""

    def __init__(self, policy: SecretsPolicy, max_length: int) -> None:
        self._policy = policy
        self._max_length = max_length
        self._seen: list[_Seen] = []

    def clean_fields(self, fields: Mapping[str, FieldValue]) -> dict[str, FieldValue]:
        return {name: self._clean_field(name, value) for name, value in fields.items()}

    def _clean_field(self, name: str, value: FieldValue) -> FieldValue:
        if isinstance(value, str):
            return self.clean(name, value)
        if isinstance(value, list | tuple):
            return tuple(self.clean(name, item) or "" for item in value)
        return value

    def clean(self, name: str, text: str | None) -> str | None:
        if text and self._policy is SecretsPolicy.REDACT and len(text) <= self._max_length:
            return redact(text)
        self.look(name, text)
        return text

    def look(self, name: str, text: str | None) -> None:
        """Note what is in a text that cannot be redacted."""
        if text and self._policy is not SecretsPolicy.ALLOW and len(text) <= self._max_length:
            self._seen += [_Seen(name, found.line, found.kind) for found in find_secrets(text)]

    def check(self, operation: int | None = None) -> None:
        """Raises BadInput for what was seen."""
        if not self._seen:
            return
        named = ", ".join(map(str, self._seen[:_NAMED]))
        if (more := len(self._seen) - _NAMED) > 0:
            named += f" and {more} more"
        listed: list[Json] = [
            {"text": seen.text, "line": seen.line, "kind": seen.kind}
            for seen in self._seen[:_LISTED]
        ]
        way = (
            "A path cannot be redacted: choose another."
            if self._policy is SecretsPolicy.REDACT
            else "If it is a real one, revoke it where it was made; then send the text without it, "
            "or with `secrets: REDACT` to have it replaced."
        )
        raise BadInput(
            f"There seems to be a secret in {named}, and a repository keeps what it gets for ever. "
            f"{way} Nothing was saved.",
            secrets=listed,
            operation=operation,
        )
