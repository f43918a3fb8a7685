from pathlib import Path

import pytest

from api.http.graphiql import installed_assets

_ROOT = Path(__file__).parents[2] / ".annoris" / "graphiql"


@pytest.fixture(scope="session")
def assets() -> Path:
    """GraphiQL's files, where the test set-up could put them in place."""
    directory = installed_assets(_ROOT)
    if directory is None:
        pytest.skip("GraphiQL's files are not installed: run `make assets` where npm is")
    return directory
