"""Another writer, with plain git: what pushes behind the gateway's back."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_WHO = {
    "GIT_AUTHOR_NAME": "Somebody",
    "GIT_AUTHOR_EMAIL": "somebody@users.noreply.example",
    "GIT_COMMITTER_NAME": "Somebody",
    "GIT_COMMITTER_EMAIL": "somebody@users.noreply.example",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
}


def git(repository: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    """What git prints. Fails loudly."""
    return subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(repository), *arguments],
        check=True,
        capture_output=True,
        input=stdin,
        env={**os.environ, **_WHO},
        timeout=60,
    ).stdout


@dataclass(frozen=True)
class Clone:
    """A working copy whose commits are pushed at once."""

    path: Path

    @classmethod
    def of(cls, remote: Path | str, path: Path) -> Self:
        git(path.parent, "clone", "--quiet", str(remote), str(path))
        return cls(path)

    def push(
        self,
        files: Mapping[str, str | bytes | None],
        message: str = "Change",
        *,
        force: bool = False,
    ) -> str:
        """Write files (None removes one), commit and push. Returns the commit's oid."""
        if not force:
            git(self.path, "pull", "--quiet", "--ff-only")
        for name, content in files.items():
            file = self.path / name
            if content is None:
                file.unlink()
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        git(self.path, "add", "--all")
        git(self.path, "commit", "--quiet", "--allow-empty", "--message", message)
        git(self.path, "push", "--quiet", *(["--force"] if force else []))
        return git(self.path, "rev-parse", "HEAD").decode().strip()

    def reset(self, commit: str) -> None:
        """Rewrite the branch to point at `commit`."""
        git(self.path, "reset", "--quiet", "--hard", commit)
        git(self.path, "push", "--quiet", "--force")
