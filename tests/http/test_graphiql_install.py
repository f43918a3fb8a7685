"""Putting GraphiQL's files in place, with and without npm."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.http.graphiql import installed_assets
from api.http.graphiql.__main__ import main
from api.http.graphiql.assets import Asset, Bundle, integrity_of
from api.http.graphiql.install import NotFetched, WrongContent, install

SMALL = Bundle("small", "1.0.0", (Asset("a.js", "dist/a.js", integrity_of(b"let a")),))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The small bundle, in place."""
    directory = tmp_path / "root" / SMALL.version
    directory.mkdir(parents=True)
    (directory / "a.js").write_bytes(b"let a")
    return directory


def test_files_that_differ_from_the_pin_count_as_not_installed(installed: Path) -> None:
    assert installed_assets(installed.parent, SMALL) == installed
    (installed / "a.js").write_bytes(b"let b")
    assert installed_assets(installed.parent, SMALL) is None


def test_missing_files_count_as_not_installed(tmp_path: Path) -> None:
    assert installed_assets(tmp_path, SMALL) is None


FakeNpm = Callable[[bytes | None], None]


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNpm:
    """Put an npm on PATH that fetches a package with this content of dist/a.js, or fails."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.defpath}")

    def provide(content: bytes | None) -> None:
        tarball = tmp_path / "small-1.0.0.tgz"
        with tarfile.open(tarball, "w:gz") as package:
            for name, data in {"dist/a.js": content or b"", "package.json": b"{}"}.items():
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(data)
                package.addfile(member, io.BytesIO(data))
        program = programs / "npm"
        action = f"cp {tarball} ." if content is not None else "exit 1"
        program.write_text(f"#!/bin/sh\n{action}\n", encoding="utf-8")
        program.chmod(0o755)

    return provide


def test_installing_takes_only_the_pinned_files(tmp_path: Path, npm: FakeNpm) -> None:
    npm(b"let a")
    root = tmp_path / "root"
    assert install(root, SMALL) == root / SMALL.version
    assert [path.name for path in root.rglob("*")] == [SMALL.version, "a.js"]


def test_installing_twice_asks_npm_once(tmp_path: Path, npm: FakeNpm) -> None:
    npm(b"let a")
    first = install(tmp_path / "root", SMALL)
    npm(None)
    assert install(tmp_path / "root", SMALL) == first


def test_installing_mends_a_damaged_installation(installed: Path, npm: FakeNpm) -> None:
    (installed / "a.js").write_bytes(b"let b")
    npm(b"let a")
    install(installed.parent, SMALL)
    assert installed_assets(installed.parent, SMALL) == installed


def test_a_package_that_is_not_the_pinned_one_is_not_installed(
    tmp_path: Path, npm: FakeNpm
) -> None:
    npm(b"let evil")
    with pytest.raises(WrongContent, match="dist/a"):
        install(tmp_path / "root", SMALL)
    assert list((tmp_path / "root").iterdir()) == []


def test_a_failing_npm_leaves_nothing_behind(tmp_path: Path, npm: FakeNpm) -> None:
    npm(None)
    with pytest.raises(NotFetched):
        install(tmp_path / "root", SMALL)
    assert list((tmp_path / "root").iterdir()) == []


def test_the_command_without_npm_says_so_and_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = CliRunner().invoke(main, ["install", "--to", str(tmp_path / "root")])
    assert outcome.exit_code == 0
    assert outcome.output == ("GraphiQL will be loaded from its CDN: npm is not installed.\n")


def test_the_command_fails_if_the_content_is_wrong(tmp_path: Path, npm: FakeNpm) -> None:
    npm(b"let evil")  # and none of GraphiQL's files
    outcome = CliRunner().invoke(main, ["install", "--to", str(tmp_path / "root")])
    assert outcome.exit_code == 1
    assert "nothing was installed" in outcome.output
