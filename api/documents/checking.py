"""Whether a text may become a document."""

import re

from api.documents.anatomy import split_bom
from api.documents.errors import InvalidDocument
from api.documents.front_matter import read_front_matter

_SURROGATE = re.compile("[\ud800-\udfff]")


def check_markdown(markdown: str, *, max_bytes: int) -> None:
    """Raises InvalidDocument for a text that could not be stored, read back or trusted."""
    if "\0" in markdown:
        raise InvalidDocument("The Markdown contains a NUL character; remove it.")
    if _SURROGATE.search(markdown):
        raise InvalidDocument("The Markdown contains half of a surrogate pair; send UTF-8.")
    size = len(markdown.encode())
    if size > max_bytes:
        raise InvalidDocument(
            f"The Markdown has {size:,} bytes; the limit is {max_bytes:,}. Split the document."
        )
    _, text = split_bom(markdown)
    if not text.strip():
        raise InvalidDocument("The Markdown is empty; a document needs some text.")
    read_front_matter(text)
