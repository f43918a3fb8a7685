"""Who may import whom: the contracts of [tool.importlinter] in pyproject.toml hold."""

from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS
from importlinter.cli import lint_imports as command


def test_imports_only_ever_go_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])

    assert command(no_cache=True) == EXIT_STATUS_SUCCESS
