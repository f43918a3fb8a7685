"""Git's name for a content."""

import hashlib


def blob_oid(content: bytes) -> str:
    """The blob oid that Git gives to these bytes: 40 lower-case hex digits."""
    # SHA-1 is Git's choice and protects nothing here.
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
