"""Making the bare repository that the stand-in serves, from whatever is at hand."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

AUTHOR = "Annoris Sandbox <sandbox@users.noreply.example>"

CONFIG = {
    "http.receivepack": "true",
    "uploadpack.allowFilter": "true",
    "uploadpack.allowAnySHA1InWant": "true",
    # Packs must not vanish while the server reads them, nor repacking slow a push down.
    "gc.auto": "0",
    "receive.autogc": "false",
    "core.logAllRefUpdates": "false",
}


class CannotCreate(Exception):
    """The repository cannot be made from this source; the message says why."""


def create_repository(target: Path, source: Path | None, *, branch: str = "main") -> str:
    """Make the bare repository `target` and return the name of the branch to serve.

    `source` is a bare repository, a clone, a `.bundle` file, or a directory of plain files that
    become one commit; None makes a repository with a README, as GitHub does. The source is only
    read. Of a repository all branches are copied; `main` is served where it exists, else the
    branch that HEAD names, else the only one; it is called `branch` in the copy.

    Raises CannotCreate where `target` exists already or `source` cannot be read.
    """
    if target.exists() and any(target.iterdir()):
        msg = f"{target} exists already"
        raise CannotCreate(msg)
    if source is None:
        _import(target, iter([("README.md", "100644", b"# documents\n")]), branch)
    elif is_repository(source):
        _copy(target, source, branch)
    elif source.is_dir():
        _import(target, _files(source), branch)
    else:
        msg = f"{source} is neither a git repository, a bundle nor a directory"
        raise CannotCreate(msg)
    prepare(target)
    return branch


def prepare(repository: Path) -> None:
    """Set what serving a repository needs; safe to repeat."""
    for key, value in CONFIG.items():
        _git(repository, "config", key, value)


def is_repository(path: Path) -> bool:
    """A bundle, a clone or a bare repository; a folder inside a clone is plain files."""
    if path.is_file():
        return path.suffix == ".bundle"
    return (path / ".git").exists() or (
        (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()
    )


def _git(repository: Path | None, *arguments: str) -> str:
    where = ["--git-dir", str(repository)] if repository else []
    done = subprocess.run(
        # The source may belong to someone else; it is only read, and none of its hooks run.
        ["git", "-c", "safe.directory=*", *where, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"},
        timeout=600,
    )
    if done.returncode:
        msg = f"git {arguments[0]} failed: {done.stderr.strip()}"
        raise CannotCreate(msg)
    return done.stdout.strip()


def _copy(target: Path, source: Path, branch: str) -> None:
    # No hard links: an object file shared with the source could be repacked away by either.
    _git(None, "clone", "--quiet", "--bare", "--no-hardlinks", str(source), str(target))
    _git(target, "remote", "remove", "origin")
    branches = _git(target, "for-each-ref", "--format=%(refname:short)", "refs/heads/").splitlines()
    head = _git(target, "symbolic-ref", "--short", "HEAD")
    if "main" in branches:
        chosen = "main"
    elif head in branches:
        chosen = head
    elif len(branches) == 1:
        chosen = branches[0]
    else:
        shutil.rmtree(target)
        msg = f"{source} has no branch main and none that HEAD names: {', '.join(branches)}"
        raise CannotCreate(msg)
    if chosen != branch:
        _git(target, "update-ref", f"refs/heads/{branch}", f"refs/heads/{chosen}")
        _git(target, "update-ref", "-d", f"refs/heads/{chosen}")
    _git(target, "symbolic-ref", "HEAD", f"refs/heads/{branch}")


def _files(source: Path) -> Iterator[tuple[str, str, bytes]]:
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_symlink():
            yield name, "120000", os.fsencode(path.readlink())
        elif path.is_file():
            executable = os.access(path, os.X_OK)
            yield name, "100755" if executable else "100644", path.read_bytes()


def _import(target: Path, files: Iterator[tuple[str, str, bytes]], branch: str) -> None:
    """One commit of many files, as one pack: git fast-import takes 100,000 in seconds."""
    target.mkdir(parents=True, exist_ok=True)
    _git(target, "init", "--quiet", "--bare")
    _git(target, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    with subprocess.Popen(
        ["git", "--git-dir", str(target), "fast-import", "--quiet"], stdin=subprocess.PIPE
    ) as importer:
        if importer.stdin is None:
            msg = "git fast-import was started without a pipe"
            raise CannotCreate(msg)
        _write_import(importer.stdin, files, branch)
        importer.stdin.close()
        if importer.wait(timeout=600):
            msg = "git fast-import failed"
            raise CannotCreate(msg)


def _write_import(stream: IO[bytes], files: Iterator[tuple[str, str, bytes]], branch: str) -> None:
    message = b"Initial commit"
    stream.write(
        f"commit refs/heads/{branch}\ncommitter {AUTHOR} {int(time.time())} +0000\n"
        f"data {len(message)}\n".encode()
        + message
        + b"\n"
    )
    for name, mode, content in files:
        stream.write(f"M {mode} inline ".encode() + _quoted(name) + b"\n")
        stream.write(f"data {len(content)}\n".encode() + content + b"\n")


def _quoted(name: str) -> bytes:
    """A path as fast-import reads it: quoted like a C string."""
    raw = os.fsencode(name)
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
