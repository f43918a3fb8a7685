"""Keys of metadata, compared as people mean them."""

import unicodedata


def plain_key(written: str) -> str:
    """A key without case, blanks, punctuation and emoji: `Occurred-At`, `occurred_at` are one."""
    if not written.isascii():
        written = unicodedata.normalize("NFC", written)
    return "".join(character for character in written.casefold() if character.isalnum())
