"""Who may import whom: the contracts of [tool.importlinter] in pyproject.toml hold."""

import subprocess
import sys
from pathlib import Path


def test_imports_only_ever_go_down() -> None:
    # As a command: in this process it would switch off the loggers of everybody else.
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout
