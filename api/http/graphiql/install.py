"""Getting GraphiQL's files through npm."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from api.http.graphiql.assets import GRAPHIQL, Bundle, installed_assets, integrity_of

_PATIENCE = 90.0  # seconds; npm itself gives up after about a minute without a network


class NotFetched(Exception):
    """npm is not there or could not get the package. GraphiQL comes from the CDN then."""


class WrongContent(Exception):
    """The package is not the one that was pinned. Nothing was installed."""


def install(root: Path, bundle: Bundle = GRAPHIQL) -> Path:
    """Put the bundle's files below `root` unless they are there; returns their directory.

    The package is fetched without its dependencies, which are built into it already, and without
    running any of its scripts. Only the pinned files are taken out.
    """
    if present := installed_assets(root, bundle):
        return present
    root.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename: there are all files or none.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=root) as temporary:
        files = Path(temporary) / "files"
        files.mkdir()
        _unpack(_fetch(Path(temporary), bundle), files, bundle)
        target = root.absolute() / bundle.version
        shutil.rmtree(target, ignore_errors=True)
        files.rename(target)
    return target


def _fetch(directory: Path, bundle: Bundle) -> Path:
    """The package's tarball, as npm's own configuration finds it."""
    npm = shutil.which("npm")
    if npm is None:
        raise NotFetched("npm is not installed")
    command = [npm, "pack", f"{bundle.package}@{bundle.version}", "--ignore-scripts", "--silent"]
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=_PATIENCE)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotFetched(f"npm could not fetch {bundle.package}@{bundle.version}") from error
    tarball = next(directory.glob("*.tgz"), None)
    if tarball is None:
        raise NotFetched("npm fetched nothing")
    return tarball


def _unpack(tarball: Path, directory: Path, bundle: Bundle) -> None:
    try:
        with tarfile.open(tarball) as package:
            for asset in bundle.assets:
                member = package.extractfile(f"package/{asset.path}")
                content = member.read() if member else b""
                if integrity_of(content) != asset.integrity:
                    raise WrongContent(f"{asset.path} of {bundle.package} is not as pinned")
                (directory / asset.name).write_bytes(content)
    except (KeyError, tarfile.TarError) as error:
        raise WrongContent(f"{bundle.package}@{bundle.version} is not as pinned") from error
