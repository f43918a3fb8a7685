"""Texts as short ASCII names: for new files, and for comparing how people write a name."""

from slugify import slugify


def slug(text: str, max_length: int = 0) -> str:
    """Transliterated, lower-case, words joined by `-`; may be empty. 0 means unbounded."""
    # The back end is named because `auto` would give other slugs where Unidecode is installed.
    return slugify(text, max_length=max_length, word_boundary=True, backend="text-unidecode")
