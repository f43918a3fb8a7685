"""Writing: requests are checked here and carried out by the committer. GitHub always first."""

import asyncio
import hashlib
import json
import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime
from functools import partial
from weakref import WeakValueDictionary

from api.documents import (
    Collection,
    FieldValue,
    InvalidDocument,
    InvalidPath,
    Session,
    blob_oid,
    check_markdown,
    check_path,
    create,
    parse,
    requested,
)
from api.documents.listing import UNSTORABLE
from api.gateway.changes import (
    Change,
    Create,
    Delete,
    Rename,
    Request,
    SecretsPolicy,
    Update,
    Written,
)
from api.gateway.cleaning import cleaned, texts_of
from api.gateway.committer import Committer
from api.gateway.errors import BadInput, LimitExceeded, NotFound, RateLimited, said_of_a_retry
from api.gateway.gateway import Gateway
from api.gateway.planning import MAX_REQUEST_BYTES, Addition, Step, Write, no_project
from api.master.messages import RESERVED, Key

log = logging.getLogger(__name__)

MAX_CHANGES = 100  # in one request
_MUCH_TEXT = 50_000  # characters, which are looked through in about 10 ms
_MAX_TITLE, _MAX_MESSAGE, _MAX_KEY = 300, 10_000, 200  # characters
_BREAK = re.compile("[\x01-\x1f\x7f-\x9f\u2028\u2029]")  # what ends or garbles a line
_RESERVED = re.compile(rf"^\s*{re.escape(RESERVED)}", re.IGNORECASE | re.MULTILINE)


class Writer:
    """Checks what callers want written and has it committed.

    `seconds`: within which the outcome of a write must be known. `addresses`: of agents who are
    to be named as co-authors, by their name in lower case. `secrets`: what becomes of them where a
    request does not say.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        max_bytes: int,
        seconds: float,
        addresses: Mapping[str, str],
        secrets: SecretsPolicy = SecretsPolicy.REFUSE,
    ) -> None:
        self.secrets = secrets
        self._gateway = gateway
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._addresses = addresses
        self._committer = Committer(gateway, max_bytes=max_bytes)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def write(self, request: Request) -> Written:
        """Carry out a request: all of it or nothing, in one commit.

        Raises GatewayError; then nothing was saved, unless it is OutcomeUnknown. A caller that
        goes away does not stop a commit that is on its way.
        """
        deadline = asyncio.get_running_loop().time() + self._seconds
        # From here on nobody has a secret any more, the words of an error and the digest of the
        # content included: who knows all of a text but a password could find it by that digest.
        request = await self._without_secrets(request, deadline)
        written = await self._committer.submit(self._checked(request), deadline=deadline)
        log.info("%s: saved as of %s", request.caller or "somebody", written.commit)
        return written

    async def _without_secrets(self, request: Request, deadline: float) -> Request:
        if len(request.changes) > MAX_CHANGES:
            return request  # it is refused for that
        clean = partial(cleaned, request, self.secrets, max_length=self._max_bytes)
        size = sum(map(len, texts_of(request)))
        if size <= _MUCH_TEXT:
            return clean()
        # What takes long is not to keep the loop from others, nor all that one caller sends at
        # once the CPU.
        turn = self._turns.setdefault(request.caller or "", asyncio.Lock())
        try:
            async with asyncio.timeout_at(deadline):
                await turn.acquire()
        except TimeoutError:
            error = RateLimited(
                "Other long texts of yours are being looked through for secrets. Nothing was "
                "saved. Try again later, with fewer at once.",
                retryAfter=1,
            )
            raise said_of_a_retry(error) if request.idempotency_key else error from None
        try:
            return await asyncio.to_thread(clean)
        finally:
            turn.release()

    def _checked(self, request: Request) -> Write:
        if not request.changes:
            raise BadInput("There is nothing to do: name at least one operation.")
        if len(request.changes) > MAX_CHANGES:
            raise LimitExceeded(
                f"One mutation takes at most {MAX_CHANGES} operations, not {len(request.changes)}. "
                "Nothing was saved."
            )
        steps: list[Step] = []
        for number, change in enumerate(request.changes):
            try:
                _check_message(change.message)
                steps.append(self._step(change, request.received_at))
            except (BadInput, NotFound) as error:
                if len(request.changes) > 1:
                    error.details["operation"] = number
                raise
        _check_message(request.message)
        size = sum(len(step.content) for step in steps if isinstance(step, Addition))
        if size > MAX_REQUEST_BYTES:
            raise LimitExceeded(
                f"The documents have {size:,} bytes together; one mutation may write "
                f"{MAX_REQUEST_BYTES:,}. Write fewer at once. Nothing was saved."
            )
        return Write(
            id=str(uuid.uuid4()),
            steps=steps,
            key=_key(request),
            message=request.message,
            messages=[change.message for change in request.changes],
            co_authors=self._co_authors(request.changes),
            caller=request.caller,
        )

    def _step(self, change: Change, now: datetime) -> Step:
        match change:
            case Create():
                return self._addition(change, now)
            case Update():
                self._check_place(change.path, change.collection)
                self._check_fields(change.collection, change.fields)
                if change.markdown is not None:
                    self._check_markdown(change.markdown)
                return change
            case Delete():
                self._check_place(change.path, change.collection)
                return change
            case Rename():
                self._check_place(change.path, None)
                to = _checked_path(change.to)
                if self._gateway.layout.collection_of(to) is None:
                    raise BadInput(
                        f"The path {to} is in none of the directories of documents. Nothing was "
                        "saved.",
                        path=to,
                    )
                return Rename(path=change.path, to=to, expected=change.expected)

    def _addition(self, change: Create, now: datetime) -> Addition:
        layout, fields = self._gateway.layout, dict(change.fields)
        self._check_markdown(change.markdown)
        occurred_at = fields.get("occurred_at") or self._own_date(change)
        if change.collection is Collection.SESSIONS and occurred_at is None:
            fields["occurred_at"] = now.replace(microsecond=0)
        self._check_fields(change.collection, fields)
        try:
            text = create(change.collection, change.markdown, fields)
            check_markdown(text, max_bytes=self._max_bytes)
        except InvalidDocument as error:
            raise BadInput(f"{error} Nothing was saved.") from error
        project = fields.get("project")
        project = project if isinstance(project, str) else None
        if change.path is None:
            title = fields.get("title") or fields.get("name") or ""
            on = occurred_at.date() if isinstance(occurred_at, datetime) else now.date()
            path = layout.new_path(change.collection, str(title), on)
            is_session = change.collection is Collection.SESSIONS
            return Addition(path=path, content=text.encode(), chosen=is_session, project=project)
        path = _checked_path(change.path)
        if layout.collection_of(path) is not change.collection:
            directories = ", ".join(layout.directories_of(change.collection)) or "the root"
            raise BadInput(
                f"The path {path} is not in the directories of {change.collection} "
                f"({directories}). Leave `path` out to have one chosen. Nothing was saved.",
                path=path,
            )
        return Addition(path=path, content=text.encode(), chosen=False, named=True, project=project)

    def _own_date(self, change: Create) -> datetime | None:
        """When a new session happened, if its text or the path that it is to have says so."""
        content = change.markdown.encode()
        document = parse(
            change.collection,
            change.path or "session.md",
            content,
            revision=blob_oid(content),
            max_bytes=self._max_bytes,
        )
        return document.occurred_at if isinstance(document, Session) else None

    def _check_place(self, path: str, collection: Collection | None) -> None:
        """A document that cannot be where it is looked for is not there."""
        if not self._may_be(path, collection):
            kind = f" in {collection}" if collection else ""
            raise NotFound(f"There is no document {path!r}{kind}. Nothing was saved.")

    def _may_be(self, path: str, collection: Collection | None) -> bool:
        """Whether a document of the collection, or of any, can be at this path."""
        place = self._gateway.layout.collection_of(path)
        return place is not None and place is (collection or place) and not UNSTORABLE.search(path)

    def _check_fields(self, collection: Collection, fields: Mapping[str, FieldValue]) -> None:
        for name in ("title", "name"):
            title = fields.get(name)
            if isinstance(title, str) and (
                not title.strip() or _BREAK.search(title) or len(title) > _MAX_TITLE
            ):
                raise BadInput(
                    f"The {name} must be one line of 1 to {_MAX_TITLE} characters. Nothing was "
                    "saved."
                )
        project = fields.get("project")
        if isinstance(project, str) and not self._may_be(project, Collection.PROJECTS):
            raise no_project(project)
        try:
            requested(collection, fields)
        except InvalidDocument as error:
            raise BadInput(f"{error} Nothing was saved.") from error

    def _check_markdown(self, markdown: str) -> None:
        try:
            check_markdown(markdown, max_bytes=self._max_bytes)
        except InvalidDocument as error:
            raise BadInput(f"{error} Nothing was saved.") from error

    def _co_authors(self, changes: Sequence[Change]) -> list[str]:
        agents = dict.fromkeys(
            agent.strip()
            for change in changes
            if isinstance(change, Create | Update)
            and isinstance(agent := change.fields.get("agent"), str)
        )
        return [
            f"{_BREAK.sub(' ', agent)} <{address}>"
            for agent in agents
            if (address := self._addresses.get(agent.casefold()))
        ]


def _markdown(change: Change) -> str:
    return (change.markdown if isinstance(change, Create | Update) else None) or ""


def _checked_path(path: str) -> str:
    try:
        return check_path(path)
    except InvalidPath as error:
        raise BadInput(f"{error} Nothing was saved.", path=path) from error


def _check_message(message: str | None) -> None:
    if message is None:
        return
    if UNSTORABLE.search(message) or len(message) > _MAX_MESSAGE:
        raise BadInput(
            f"The message must have at most {_MAX_MESSAGE:,} characters, none of them NUL or "
            "half of a surrogate pair. Nothing was saved."
        )
    if _RESERVED.search(message):
        raise BadInput(
            f"No line of the message may begin with {RESERVED}: the gateway finds its own writes "
            "by such lines. Nothing was saved."
        )


def _key(request: Request) -> Key | None:
    """The digests of the idempotency key and of all that was asked for under it."""
    key = request.idempotency_key
    if key is None:
        return None
    if not key.strip() or len(key) > _MAX_KEY or UNSTORABLE.search(key):
        raise BadInput(
            f"The idempotencyKey must have 1 to {_MAX_KEY} characters, none of them NUL or half of "
            "a surrogate pair. Nothing was saved."
        )
    content = [
        [type(change).__name__, {k: v for k, v in asdict(change).items() if v is not None}]
        for change in (replace(change, secrets=None) for change in request.changes)
    ]
    written = json.dumps([content, request.message], sort_keys=True, default=_plain)
    # Callers know nothing of each other's keys, so that two may choose the same.
    own = f"{request.caller}\0{key}" if request.caller else key
    return Key(_digest(own), _digest(written))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
