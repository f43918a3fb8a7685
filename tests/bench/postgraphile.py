"""PostGraphile, to be compared with: fetched by npm, with a Node.js that is new enough for it."""

import json
import shutil
import subprocess
from pathlib import Path

POSTGRAPHILE, NODE = "5.1.5", "22"
PATIENCE = 300.0  # seconds for npm
DIRECTORY = Path(".annoris/postgraphile").absolute()
CONFIGURATION = Path(__file__).with_suffix(".mjs")


class NotFetched(Exception):
    """npm is not there or could not get it. The message says which."""


def command() -> list[str]:
    """What starts it, with PORT and DATABASE_URL in the environment. Raises NotFetched."""
    npm = shutil.which("npm")
    if npm is None:
        raise NotFetched("npm is not installed")
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    package = {"private": True, "dependencies": {"postgraphile": POSTGRAPHILE, "node": NODE}}
    (DIRECTORY / "package.json").write_text(json.dumps(package))
    # Modules are looked for beside the file that imports them.
    script = shutil.copy(CONFIGURATION, DIRECTORY)
    if "postgraphile" not in versions():
        try:
            subprocess.run(
                [npm, "install", "--no-audit", "--no-fund", "--prefer-offline"],
                cwd=DIRECTORY,
                check=True,
                capture_output=True,
                timeout=PATIENCE,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise NotFetched(f"npm could not fetch postgraphile@{POSTGRAPHILE}") from error
    return [str(DIRECTORY / "node_modules/node/bin/node"), str(script)]


def versions() -> dict[str, str]:
    """The versions of what is installed, if they are those that are asked for."""
    found = {}
    for name, wanted in (("postgraphile", POSTGRAPHILE), ("node", NODE)):
        try:
            package = json.loads((DIRECTORY / "node_modules" / name / "package.json").read_text())
        except (OSError, ValueError):
            return {}
        if f"{package['version']}.".startswith(f"{wanted}."):
            found[name] = package["version"]
    return found if len(found) == 2 else {}
