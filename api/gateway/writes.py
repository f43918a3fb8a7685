"""Writing: GitHub first, then the cache. What GitHub did not take is saved nowhere."""

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import PurePosixPath

from api.cache.cache import CachedHead, IndexChange
from api.cache.database import CacheUnavailable
from api.documents import (
    Collection,
    FieldValue,
    InvalidDocument,
    InvalidPath,
    blob_oid,
    check_markdown,
    check_path,
    create,
)
from api.documents.listing import UNSTORABLE, Indexed
from api.gateway.errors import BadInput, Conflict, MasterUnavailable, of_read, of_write
from api.gateway.gateway import Gateway, Operation
from api.gateway.provenance import Consistency, Provenance, Source
from api.master.committing import Change, Commit, commit
from api.master.errors import HeadMoved, MasterError
from api.master.master import Head

log = logging.getLogger(__name__)

_MAX_TITLE, _MAX_MESSAGE = 300, 10_000  # characters
_BREAK = re.compile("[\x01-\x1f\x7f-\x9f\u2028\u2029]")  # what ends or garbles a line
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 1.0  # seconds before a head that moved is built upon anew


class CacheOutcome(Enum):
    """Whether the cache has a commit already. DEFERRED: the next sync brings it."""

    UPDATED = "UPDATED"
    DEFERRED = "DEFERRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A document to be created. `fields` are its collection's, without those left out."""

    collection: Collection
    title: str
    markdown: str
    path: str | None
    on: date  # for the path, where none is given
    fields: Mapping[str, FieldValue]
    message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A document as it was saved, and where."""

    item: Indexed
    commit: Commit
    cache: CacheOutcome
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class _Base:
    """A commit to build on, and the revision that lies at the path there, if any."""

    head: str
    revision: str | None


class Writer:
    """Commits documents to the master and takes them over into the cache.

    `seconds`: within which the outcome of a write must be known.
    """

    def __init__(self, gateway: Gateway, *, max_bytes: int, seconds: float) -> None:
        self._gateway = gateway
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def create(self, new: NewDocument) -> Written:
        """Create a document. Raises GatewayError; then nothing was saved, unless it says so.

        A caller that goes away does not stop a commit that is on its way.
        """
        path = self._path(new)
        content = self._content(new)
        deadline = asyncio.get_running_loop().time() + self._seconds
        async with _until(deadline):
            await self._check_project(new)
        return await asyncio.shield(self._gateway.start(self._create(new, path, content, deadline)))

    def _path(self, new: NewDocument) -> str:
        layout = self._gateway.layout
        if new.path is None:
            return layout.new_path(new.collection, new.title, new.on)
        try:
            path = check_path(new.path)
        except InvalidPath as error:
            raise BadInput(f"{error} Nothing was saved.", path=new.path) from error
        if layout.collection_of(path) is not new.collection:
            directories = ", ".join(layout.directories_of(new.collection)) or "the root"
            raise BadInput(
                f"The path {path} is not in the directories of {new.collection} ({directories}). "
                "Leave `path` out to have one chosen. Nothing was saved.",
                path=path,
            )
        return path

    def _content(self, new: NewDocument) -> bytes:
        if not new.title.strip() or _BREAK.search(new.title) or len(new.title) > _MAX_TITLE:
            raise BadInput(
                f"The title must be one line of 1 to {_MAX_TITLE} characters. Nothing was saved."
            )
        message = new.message or ""
        if UNSTORABLE.search(message) or len(message) > _MAX_MESSAGE:
            raise BadInput(
                f"The message must have at most {_MAX_MESSAGE:,} characters, none of them NUL or "
                "half of a surrogate pair. Nothing was saved."
            )
        try:
            check_markdown(new.markdown, max_bytes=self._max_bytes)
            text = create(new.collection, new.markdown, {"title": new.title, **new.fields})
            check_markdown(text, max_bytes=self._max_bytes)
        except InvalidDocument as error:
            raise BadInput(f"{error} Nothing was saved.") from error
        return text.encode()

    async def _check_project(self, new: NewDocument) -> None:
        project = new.fields.get("project")
        if not isinstance(project, str):
            return
        if self._gateway.layout.collection_of(project) is Collection.PROJECTS:
            for level in (Consistency.CACHE, Consistency.MASTER):
                async with Operation(self._gateway) as operation:
                    view = await operation.view(level, path=project)
                    try:
                        if project in await view.documents([project]):
                            return
                    except MasterError as error:
                        raise of_read(error) from error
        raise BadInput(
            f"There is no project {project!r}. `project` is the id of a project, as `projects` "
            "lists them. Nothing was saved."
        )

    async def _create(
        self, new: NewDocument, path: str, content: bytes, deadline: float
    ) -> Written:
        write_id, taken, stem = str(uuid.uuid4()), 1, path.removesuffix(".md")
        pause = _FIRST_PAUSE
        try:
            base = await self._base(path, deadline)
            while True:
                if base.revision is not None:
                    if new.path is not None or new.collection is not Collection.SESSIONS:
                        raise Conflict(
                            f"There is a document at {path} already. Choose another path, or "
                            "update that one. Nothing was saved.",
                            path=path,
                            currentRevision=base.revision,
                        )
                    taken += 1
                    path = f"{stem}-{taken}.md"
                    base = await self._base(path, deadline)
                    continue
                left = deadline - asyncio.get_running_loop().time()
                try:
                    return await self._commit(
                        path, content, base, write_id, message=new.message, seconds=left
                    )
                except HeadMoved:
                    if left <= pause:
                        raise
                    # A replica that lags names the same old head for a while.
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    async with _until(deadline):
                        base = await self._master_base(path)
        except MasterError as error:
            raise of_write(error, write_id) from error

    async def _base(self, path: str, deadline: float) -> _Base:
        """What to build on, from where it is known soonest."""
        async with _until(deadline):
            return await self._cached_base(path) or await self._master_base(path)

    async def _cached_base(self, path: str) -> _Base | None:
        """What the cache knows. If it is behind, the swap fails and nothing is lost."""
        try:
            async with self._gateway.cache.snapshot() as snapshot:
                if snapshot.head is None:
                    return None
                found = (await snapshot.documents([path])).get(path)
                return _Base(snapshot.head.commit, found.document.revision if found else None)
        except CacheUnavailable:
            return None

    async def _master_base(self, path: str) -> _Base:
        head, entry = await self._gateway.master.head_with_entry(path)
        return _Base(head.commit, entry.oid if entry else None)

    async def _commit(
        self,
        path: str,
        content: bytes,
        base: _Base,
        write_id: str,
        *,
        message: str | None,
        seconds: float,
    ) -> Written:
        sent_at = datetime.now(UTC)
        headline, _, body = ((message or "").strip() or f"Create {path}").partition("\n")
        done = await commit(
            self._gateway.master,
            Change(
                write_id=write_id,
                headline=headline.strip(),
                body=body.strip(),
                additions={path: content},
            ),
            expected=base.head,
            ask=[path, *_directories(path)],
            seconds=max(seconds, 0.1),
        )
        oid = blob_oid(content)
        if done.tree:
            head = Head(done.oid, done.tree, done.committed_at, sent_at)
            self._gateway.master.remember(done.parent, head)
        item = self._gateway.content.parse(path, oid, content)
        outcome = await self._take_over(item, done, sent_at, named=done.oids.get(path, oid) == oid)
        return Written(
            item=item,
            commit=done,
            cache=outcome,
            provenance=Provenance(source=Source.MASTER, commit=done.oid, as_of=sent_at),
        )

    async def _take_over(
        self, item: Indexed, done: Commit, sent_at: datetime, *, named: bool
    ) -> CacheOutcome:
        """Bring the cache from the commit's parent to the commit, if it is at the parent."""
        directories = {p: done.oids.get(p) for p in _directories(item.document.path)}
        change = IndexChange(
            head=CachedHead(done.oid, sent_at),
            directories=directories | {"": done.tree},
            upserts=[self._gateway.reconciler.upsert(item, done.committed_at)],
        )
        if not named:
            log.error("GitHub has other content at %s than was sent", item.document.path)
        try:
            if named and await self._gateway.cache.apply(change, expected=done.parent):
                return CacheOutcome.UPDATED
        except CacheUnavailable:
            log.warning("the commit %s is saved, but not in the cache yet", done.oid)
        self._gateway.request_sync()
        return CacheOutcome.DEFERRED


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    """Bounds what comes before a commit. Raises MasterUnavailable when the time is over."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise MasterUnavailable("GitHub did not answer in time. Nothing was saved.") from error


def _directories(path: str) -> list[str]:
    """The directories above a path, without the root."""
    return [str(parent) for parent in PurePosixPath(path).parents if str(parent) != "."]
