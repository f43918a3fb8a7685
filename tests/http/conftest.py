from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import create_app
from api.http.graphiql import installed_assets
from api.settings import load
from tests.http.serving import serving

_ROOT = Path(__file__).parents[2] / ".annoris" / "graphiql"
NOWHERE = {
    "DATABASE_URL": "postgresql://u@/d?host=/nonexistent",
    "GITHUB_TOKEN": "none",
    "GITHUB_REPOSITORY": "nobody/nothing",
    "GITHUB_API_URL": "http://127.0.0.1:9",
}


@pytest.fixture(scope="session")
def assets() -> Path:
    """GraphiQL's files, where the test set-up could put them in place."""
    directory = installed_assets(_ROOT)
    if directory is None:
        pytest.skip("GraphiQL's files are not installed: run `make assets` where npm is")
    return directory


@pytest.fixture(scope="session")
def door() -> Iterator[int]:
    """The port of a gateway with neither PostgreSQL nor GitHub behind it."""
    with serving(create_app(load(NOWHERE))) as port:
        yield port
