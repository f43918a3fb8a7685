"""Drift: a difference between cache and master at one and the same commit. Pure."""

from dataclasses import replace
from enum import StrEnum

from api.documents import Layout, blob_oid
from api.documents.listing import Indexed
from api.sync.content import Content
from api.sync.walk import Listed


class Drift(StrEnum):
    """How a row differs from the document that the master names."""

    MISSING = "missing"  # the master has it, the index does not
    EXTRA = "extra"  # the index has it, the master does not
    WRONG_REVISION = "wrong revision"
    CORRUPT_BODY = "corrupt body"  # it does not hash to its revision
    WRONG_METADATA = "wrong metadata"  # not what the body says


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
    told = content.parse(document.path, file.oid, encoded)
    return None if replace(told, hot=item.hot) == item else Drift.WRONG_METADATA
