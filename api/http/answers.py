"""Answers that are kept while they stay true.

An answer is kept with the version of the cache that all of it is from. It is given again only while
that is known to be the cache's version now: then who asks anew would read the very same rows.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from cachetools import LRUCache

from api.gateway.gateway import Basis, Gateway
from api.http.reply import Draft

Key: TypeAlias = tuple[bytes, ...]  # all that an answer depends on, but for the cache

_KEPT_BYTES = 4_000_000
_OVERHEAD = 1_000  # bytes of memory that an answer takes beside its own


class Answers:
    """The answers that this process keeps."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._kept: LRUCache[Key, _Kept] = LRUCache(_KEPT_BYTES, getsizeof=lambda k: k.size)

    def find(self, key: Key) -> Draft | None:
        """An answer that is as good as one that is made now. It was kept under this key."""
        kept = self._kept.get(key)
        if kept is None or kept.basis.head.version != self._gateway.cache.watch.version:
            return None
        head = kept.basis.head
        if datetime.now(UTC) > kept.basis.fresh_until or self._gateway.is_outdated(head):
            return None
        return kept.draft

    def keep(self, key: Key, draft: Draft, basis: Basis) -> None:
        """Keep an answer that holds nothing but what was read from the cache at `basis`."""
        size = _OVERHEAD + sum(map(len, key)) + sum(map(len, draft.text.parts))
        if draft.text.lasts and size <= self._kept.maxsize // 8:
            self._kept[key] = _Kept(draft, basis, size)


@dataclass(frozen=True, slots=True)
class _Kept:
    draft: Draft
    basis: Basis
    size: int  # bytes of memory
