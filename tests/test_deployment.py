"""What `railway.json` has the deployed commands run as."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = json.loads((Path(__file__).parents[1] / "railway.json").read_text())
COMMANDS = [DEPLOY["deploy"]["startCommand"], *DEPLOY["deploy"]["preDeployCommand"]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is a part of Debian, not of this")
@pytest.mark.parametrize("command", COMMANDS)
def test_deployed_commands_run_as_nobody_with_a_home_that_can_be_read(command: str) -> None:
    """The image runs as root, and asyncpg looks for certificates in whose home it is."""
    words = shlex.split(command)
    program = next(i for i, word in enumerate(words) if word.startswith("/app/"))
    script = 'id -u; id -G; cd && ls > /dev/null && echo "$HOME"; grep NoNewPrivs /proc/self/status'

    ran = subprocess.run(
        [*words[:program], "sh", "-c", script], capture_output=True, text=True, check=True, cwd="/"
    )

    user, groups, home, privileges = ran.stdout.split("\n", 3)
    assert (user, groups) == ("65534", "65534")
    assert home == "/"
    assert privileges.split() == ["NoNewPrivs:", "1"]


def test_what_is_deployed_is_what_is_locked() -> None:
    assert "--require-hashes -r requirements.lock" in DEPLOY["build"]["buildCommand"]
