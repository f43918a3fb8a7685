"""docs/security.md names tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_test_that_is_named_is_there() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    file, checked = "", 0
    for named, function in re.findall(r"`(tests/[\w/]+\.py)?(?:::(test_\w+))?`", page):
        file = named or file
        if not file or not (named or function):
            continue
        text = (ROOT / file).read_text()
        assert not function or f"def {function}(" in text, f"{file}::{function}"
        checked += 1
    assert checked > 20
