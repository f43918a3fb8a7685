"""Automatic persisted queries: a document that was sent once is known by its hash from then on."""

import hashlib
import sys

from cachetools import LRUCache

from api.http.reply import Refused
from api.http.request import Asked

_BYTES = 8_000_000  # for all documents together
_LEAST = 4_000  # that each counts for, so that there are 2,000 at most
_MOST = 100_000  # a larger document carries somebody's text, and is not sent twice


class Persisted:
    """The documents that this process knows by their SHA-256. Those used last stay."""

    def __init__(self) -> None:
        self._texts = LRUCache[str, str](_BYTES, getsizeof=_size)

    def text_of(self, asked: Asked) -> str:
        """The document that is asked for. Raises Refused: not known, or not that of the hash."""
        if asked.digest is None:
            if asked.query is None:
                raise Refused(400, "Send the operation in `query`.")
            return asked.query
        if asked.query is None:
            if text := self._texts.get(asked.digest):
                return text
            # Clients know these very words, and send the document along with the hash.
            raise Refused(None, "PersistedQueryNotFound", code="PERSISTED_QUERY_NOT_FOUND")
        if hashlib.sha256(asked.query.encode(errors="surrogatepass")).hexdigest() != asked.digest:
            raise Refused(400, "`sha256Hash` is not the SHA-256 of `query` in UTF-8.")
        return asked.query

    def remember(self, asked: Asked) -> None:
        """Know a document by its hash from now on. It must be valid: only such are worth it."""
        if asked.digest and asked.query and _size(asked.query) <= _MOST:
            self._texts[asked.digest] = asked.query


def _size(text: str) -> int:
    return max(_LEAST, sys.getsizeof(text))
