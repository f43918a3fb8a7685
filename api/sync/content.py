"""Documents by oid: from memory, from the cache where a hash proves it, else from the master."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from cachetools import LRUCache

from api.documents import Layout, Unreadable, blob_oid, parse
from api.documents.listing import Indexed, unreadable
from api.master.fetching import Wanted
from api.master.master import Master
from api.sync.walk import Listed

BodiesByOid: TypeAlias = Callable[[Iterable[str]], Awaitable[Mapping[str, str]]]

_REMEMBERED = 10_000  # parsed documents without their text, about 1.5 KB each
_DOCUMENTS_A_STEP = 200  # these bound the memory that texts take that nobody asked for
_BYTES_A_STEP = 8_000_000


class Content:
    """Reads documents whose path and oid are known. What an oid names never changes."""

    def __init__(self, master: Master, layout: Layout, *, max_bytes: int) -> None:
        self._master = master
        self._layout = layout
        self._max_bytes = max_bytes
        self._parsed: LRUCache[tuple[str, str], Indexed] = LRUCache(_REMEMBERED)

    def through(self, master: Master) -> "Content":
        """The same documents, parsed once for both, got by another way to the master."""
        content = Content(master, self._layout, max_bytes=self._max_bytes)
        content._parsed = self._parsed
        return content

    async def summaries(
        self, files: Iterable[Listed], cached: BodiesByOid | None = None
    ) -> dict[str, Indexed]:
        """Documents by path, without their text."""
        files = list(files)
        known = {f.path: i for f in files if (i := self._parsed.get((f.path, f.oid))) is not None}
        for step in steps([file for file in files if file.path not in known]):
            read = await self.read(step, cached)
            known |= {path: replace(item, markdown=None) for path, item in read.items()}
        return known

    async def read(
        self, files: Iterable[Listed], cached: BodiesByOid | None = None
    ) -> dict[str, Indexed]:
        """Documents by path, with their text. `cached` offers bodies, which are hashed first."""
        files = list(files)
        found = {f.path: self._too_large(f) for f in files if f.size > self._max_bytes}
        readable = [file for file in files if file.path not in found]
        bytes_of = await self._bytes(readable, cached)
        for file in readable:
            found[file.path] = self.parse(file.path, file.oid, bytes_of[file.oid])
        return found

    def parse(self, path: str, oid: str, content: bytes) -> Indexed:
        """A document from bytes that are known to hash to `oid`."""
        collection = self._layout.collection_of(path)
        if collection is None:
            raise ValueError(f"{path} belongs to no collection")
        document = parse(collection, path, content, revision=oid, max_bytes=self._max_bytes)
        if isinstance(document, Unreadable):
            item = unreadable(collection, document)
        else:
            item = Indexed(collection=collection, document=document, markdown=content.decode())
        self._parsed[path, oid] = replace(item, markdown=None)
        return item

    def parsed(self, path: str, oid: str, content: bytes) -> Indexed:
        """As `parse`, but what was parsed before is remembered."""
        item = self._parsed.get((path, oid))
        if item is None or item.unreadable:
            return self.parse(path, oid, content)
        return replace(item, markdown=content.decode())

    def _too_large(self, file: Listed) -> Indexed:
        collection = self._layout.collection_of(file.path)
        if collection is None:
            raise ValueError(f"{file.path} belongs to no collection")
        reason = f"It has {file.size} bytes, more than the limit of {self._max_bytes}."
        return unreadable(
            collection,
            Unreadable(path=file.path, revision=file.oid, bytes=file.size, reason=reason),
        )

    async def _bytes(
        self, files: Sequence[Listed], cached: BodiesByOid | None
    ) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        if cached is not None and files:
            offered = await cached({file.oid for file in files})
            encoded = {oid: markdown.encode() for oid, markdown in offered.items()}
            found = {oid: content for oid, content in encoded.items() if blob_oid(content) == oid}
        missing = [Wanted(file.oid, file.size) for file in files if file.oid not in found]
        return found | await self._master.blobs(missing)


def steps(files: Iterable[Listed]) -> Iterator[Sequence[Listed]]:
    """Cut into as many as are read at once, bounded by count and by the sizes that trees told."""
    step: list[Listed] = []
    size = 0
    for file in files:
        if step and (len(step) == _DOCUMENTS_A_STEP or size + file.size > _BYTES_A_STEP):
            yield step
            step, size = [], 0
        step.append(file)
        size += file.size
    if step:
        yield step
