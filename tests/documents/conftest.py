import subprocess
from collections.abc import Mapping

import pytest

from api.documents import Layout
from tests.corpus import corpus_bundle


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
    root = tmp_path_factory.mktemp("corpus") / "clone"
    command = ["git", "clone", "--quiet", "--branch", "main", str(corpus_bundle()), str(root)]
    subprocess.run(command, check=True, capture_output=True)
    found = sorted(root.rglob("*.md"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}
