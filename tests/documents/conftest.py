import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from api.documents import Layout

BUNDLE = Path(__file__).parents[2].parent / "shared" / "corpus" / "annoris.bundle"


@pytest.fixture(scope="session")
def layout() -> Layout:
    return Layout(
        sessions=("autosaves",),
        projects=("autosaves/projects", "projects"),
        priorities=("autosaves/priorities",),
    )


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """Every Markdown file of the corpus by its path."""
    if not BUNDLE.exists():
        pytest.skip("the corpus of real documents is not on this machine")
    root = tmp_path_factory.mktemp("corpus") / "clone"
    command = ["git", "clone", "--quiet", "--branch", "main", str(BUNDLE), str(root)]
    subprocess.run(command, check=True, capture_output=True)
    found = sorted(root.rglob("*.md"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}
