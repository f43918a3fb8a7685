"""Commits with content that no editor would make, put straight into a repository by git."""

from collections.abc import Mapping
from pathlib import Path

from tests.clone import git

EXECUTABLE, LINK, SUBMODULE = "100755", "120000", "160000"


def plant(
    repository: Path,
    files: Mapping[str | bytes, str | bytes],
    *,
    mode: str = "100644",
    onto: str = "refs/heads/main^0",
    branch: str = "main",
    messages: tuple[str, ...] = ("Plant",),
    at: int = 1_790_000_000,
) -> str:
    """Commit files (a submodule's content is its commit's oid), once for each message."""
    stream = b""
    for number, message in enumerate(messages):
        said = message.encode()
        stream += b"commit refs/heads/%s\n" % branch.encode()
        stream += b"committer Somebody <somebody@users.noreply.example> %d +0000\n" % at
        stream += b"data %d\n%s\n" % (len(said), said)
        if number == 0:
            stream += b"from %s\n" % onto.encode()
        for path, content in files.items():
            stream += _file(mode, _raw(path), _raw(content))
    git(repository, "fast-import", "--quiet", "--force", stdin=stream)
    return rev(repository, f"refs/heads/{branch}")


def _file(mode: str, path: bytes, content: bytes) -> bytes:
    quoted = b'"' + b"".join(b"\\%03o" % byte for byte in path) + b'"'
    if mode == SUBMODULE:
        return b"M %s %s %s\n" % (mode.encode(), content, quoted)
    return b"M %s inline %s\ndata %d\n%s\n" % (mode.encode(), quoted, len(content), content)


def rev(repository: Path, revision: str) -> str:
    return git(repository, "rev-parse", revision).decode().strip()


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
