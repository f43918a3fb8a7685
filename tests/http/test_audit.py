"""GraphQL over HTTP as its specification has it, judged by the audits of graphql-http."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGES = {"graphql-http": "^1.23.1", "graphql": "^16.11.0"}
AUDITS = 61  # that the first of these versions has
DIRECTORY = Path(__file__).parents[2] / ".annoris" / "audit"
SCRIPT = Path(__file__).with_name("audit.mjs")
PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Audit:
    """What came of one. `name` begins with MUST, SHOULD or MAY."""

    id: str
    name: str
    status: str
    reason: str | None


@pytest.fixture(scope="session")
def auditor() -> Sequence[str]:
    """The command that audits a server. Skips where npm or node is absent, or npm cannot fetch."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("the audits need npm and node")
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    package = {"private": True, "dependencies": PACKAGES}
    (DIRECTORY / "package.json").write_text(json.dumps(package))
    script = shutil.copy(SCRIPT, DIRECTORY)  # modules are looked for beside who imports them
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    try:
        subprocess.run(
            [npm, "install", *options, "--fetch-retries=0"],
            cwd=DIRECTORY,
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"npm could not fetch graphql-http: {error}")
    return [node, str(script)]


@pytest.fixture(scope="session")
def audits(auditor: Sequence[str], door: int) -> Sequence[Audit]:
    """What all audits found, of a gateway with nothing behind it: HTTP needs nothing."""
    done = subprocess.run(
        [*auditor, f"http://127.0.0.1:{door}/graphql"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return [Audit(**audit) for audit in json.loads(done.stdout)]


@pytest.mark.parametrize("level", ["MUST", "SHOULD", "MAY"])
def test_every_audit_of_a_level_passes(audits: Sequence[Audit], level: str) -> None:
    found = [audit for audit in audits if audit.name.startswith(f"{level} ")]

    assert found
    assert [audit for audit in found if audit.status != "ok"] == []


def test_all_audits_were_carried_out(audits: Sequence[Audit]) -> None:
    assert len(audits) >= AUDITS
