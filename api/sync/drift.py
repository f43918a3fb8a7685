"""Drift: a difference between cache and master at one and the same commit. Pure."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from api.cache.rows import Stored
from api.documents import Collection, Layout, blob_oid
from api.documents.listing import Indexed
from api.sync.content import Content
from api.sync.walk import Listed, listed

_LONGEST_KEPT = timedelta(days=2)  # bodies that were read stay for a day


class Drift(StrEnum):
    """How a row differs from the document that the master names."""

    MISSING = "missing"  # the master has it, the index does not
    EXTRA = "extra"  # the index has it, the master does not
    WRONG_REVISION = "wrong revision"
    CORRUPT_BODY = "corrupt body"  # it does not hash to its revision
    WRONG_METADATA = "wrong metadata"  # not what the body says, or not what was written
    MISSING_BODY = "missing body"  # of a document that is hot
    UNEXPECTED_BODY = "unexpected body"  # of one that is cold, and that nobody asked for


def judge(
    content: Content, layout: Layout, item: Indexed | None, file: Listed | None
) -> Drift | None:
    """What is wrong with a row, if anything. A row that has its body is proven by it."""
    if item is None:
        return Drift.MISSING if file else None
    document = item.document
    if file is None or layout.collection_of(document.path) is not item.collection:
        return Drift.EXTRA
    if document.revision != file.oid:
        return Drift.WRONG_REVISION
    if document.bytes != file.size:
        return Drift.WRONG_METADATA
    if item.markdown is None:
        return None
    encoded = item.markdown.encode()
    if blob_oid(encoded) != file.oid:
        return Drift.CORRUPT_BODY
    told = content.parsed(document.path, file.oid, encoded)
    return None if replace(told, hot=item.hot) == item else Drift.WRONG_METADATA


def judge_alone(
    content: Content, layout: Layout, row: Stored, markdown: str | None, parser: int
) -> Drift | None:
    """What is wrong with a row, whatever the master says: it must agree with itself.

    What a newer parser than this one read is not judged by what this one would.
    """
    item = replace(row.item, markdown=markdown)
    if not row.is_sealed:
        return Drift.WRONG_METADATA
    if markdown is None:
        goes_cold = item.collection is Collection.SESSIONS or item.unreadable is not None
        return Drift.MISSING_BODY if row.hot or not goes_cold else None
    if not row.hot and not _is_kept(row):
        return Drift.UNEXPECTED_BODY
    if row.parser > parser:
        is_true = blob_oid(markdown.encode()) == item.document.revision
        return None if is_true else Drift.CORRUPT_BODY
    return judge(content, layout, item, listed(row))


def _is_kept(row: Stored) -> bool:
    """Whether somebody asked for a cold body lately."""
    until = row.kept_until
    if until is None:
        return False
    aware = until if until.tzinfo else until.replace(tzinfo=UTC)  # infinity has no zone
    return aware < datetime.now(UTC) + _LONGEST_KEPT


def nines(documents: int, drifted: int) -> float:
    """The consistency as a number of nines: 99.9 % are three.

    No more are claimed than so many documents can show: if none of n was wrong, fewer than 3 in n
    are, with a confidence of 95 %.
    """
    if documents == 0:
        return 0.0
    shown = math.log10(documents / 3)
    return max(0.0, min(shown, -math.log10(drifted / documents)) if drifted else shown)
