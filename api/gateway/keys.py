"""Keyed writes: known from memory, else from the cache's copy, else from the master's history."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from api.cache.database import CacheUnavailable
from api.cache.keyed import KeyedHistory, KeyedWrite
from api.gateway.gateway import Gateway
from api.master.committing import Commit
from api.master.errors import MasterError
from api.master.ledger import Landed, Ledger
from api.master.messages import Key, Record

log = logging.getLogger(__name__)

_PATIENCE = 1.0  # seconds that a commit is held up by the search for the keys in it
_HURRY = 0.05  # ... when it was held up before, and others wait


class Keys:
    """The ledger of keyed writes. Its copy in the cache saves a process that starts from reading
    days of history; without it everything is the same, only later.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._ledger = Ledger(gateway.master)
        self._copy = KeyedHistory(gateway.cache)
        self._is_loaded = False
        self._reading: asyncio.Task[None] | None = None
        self._trouble: MasterError | None = None  # what the last reading ended with
        self._keeping: asyncio.Task[None] | None = None

    async def find(
        self, keys: Iterable[str], head: str, *, others_wait: bool
    ) -> Mapping[str, Landed] | None:
        """Those of these keys that are in the history of `head`.

        None when that is not known yet: a long history is read on meanwhile. `others_wait`: for
        those it is no use to wait any longer than once. Raises MasterError.
        """
        patience = _HURRY if self._reading and others_wait else _PATIENCE
        if self._reading is None:
            self._reading = self._gateway.tidy(self._read(head))
        await asyncio.wait({self._reading}, timeout=patience)
        if not self._reading.done():
            return None
        self._reading, trouble, self._trouble = None, self._trouble, None
        if trouble:
            raise trouble
        return await self._ledger.find(keys, head)

    async def _read(self, head: str) -> None:
        if not self._is_loaded:
            await self._load()
        try:
            await self._ledger.find((), head)
        except MasterError as error:
            self._trouble = error
        self._keep()

    def remember(self, commit: Commit, of: Sequence[Record]) -> None:
        """Note a commit of our own."""
        self._ledger.remember(commit, of)
        self._keep()

    async def _load(self) -> None:
        self._is_loaded = True
        try:
            copy = await self._copy.load()
        except CacheUnavailable:
            return
        if copy:
            head, writes = copy
            self._ledger.resume(head, map(_landed, writes))

    def _keep(self) -> None:
        if self._keeping is None or self._keeping.done():
            self._keeping = self._gateway.tidy(self._store())

    async def _store(self) -> None:
        while news := self._ledger.news():
            since = datetime.now(UTC) - self._ledger.age
            try:
                if not news.anew and await self._copy.add(
                    map(_stored, news.landed), head=news.head, since=since
                ):
                    continue
                if (known := self._ledger.known()) is None:
                    continue
                head, landed = known
                # Others may have written the copy anew. Then it is only to be filled up.
                is_there = not news.anew and await self._copy.load() is not None
                if not is_there or not await self._copy.add(
                    map(_stored, landed), head=head, since=since
                ):
                    await self._copy.replace(map(_stored, landed), head=head)
            except CacheUnavailable:
                log.info("the cache has no copy of the newest keyed writes: it is down")
                return


def _landed(write: KeyedWrite) -> Landed:
    return Landed(
        Record(write.write_id, Key(write.key, write.content), tuple(write.chosen)),
        Commit(
            oid=write.commit,
            parent=write.parent,
            committed_at=write.committed_at,
            tree=write.tree,
            oids={},
        ),
    )


def _stored(landed: Landed) -> KeyedWrite:
    record, commit = landed.record, landed.commit
    assert record.key is not None  # noqa: S101  # the ledger has no others
    return KeyedWrite(
        key=record.key.key,
        content=record.key.content,
        write_id=record.write_id,
        chosen=record.chosen,
        commit=commit.oid,
        parent=commit.parent,
        tree=commit.tree,
        committed_at=commit.committed_at,
    )
