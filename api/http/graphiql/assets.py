"""The files that GraphiQL consists of: which they are, where they lie, how they are served.

The pin below is the one place that names them. The page, the installer, the routes and the
tests all read it. To move to another version, change it and the hashes together; a hash is
`openssl dgst -sha384 -binary FILE | base64` over the file as the npm package holds it.
"""

import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

DEFAULT_ROOT = Path(".annoris/graphiql")
"""Where `make assets` puts them, below the directory that the gateway is started in."""

_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",  # the version is part of the URL
    "X-Content-Type-Options": "nosniff",
}
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}


def integrity_of(content: bytes) -> str:
    """Subresource integrity as browsers take it: `sha384-<base64>`."""
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()


@dataclass(frozen=True)
class Asset:
    """One file of the bundle."""

    name: str
    """What it is called on disk and in URLs here."""
    path: str
    """Where it is inside the npm package."""
    integrity: str

    def is_proven_in(self, directory: Path) -> bool:
        try:
            return integrity_of((directory / self.name).read_bytes()) == self.integrity
        except OSError:
            return False


@dataclass(frozen=True)
class Bundle:
    """A prebuilt npm package at an exact version, and the files of it that are used."""

    package: str
    version: str
    assets: tuple[Asset, ...]

    @property
    def cdn(self) -> str:
        """Address of the package's root, with a slash at the end. jsDelivr serves npm verbatim."""
        return f"https://cdn.jsdelivr.net/npm/{self.package}@{self.version}/"

    @property
    def served_under(self) -> str:
        """Path of the same files at the gateway, with a slash at the end."""
        return f"/graphiql/{self.version}/"

    def url(self, name: str, *, installed: bool) -> str:
        """Where a browser finds a file: at the gateway when installed, else at the CDN."""
        return self.served_under + name if installed else self.cdn + self.asset(name).path

    def asset(self, name: str) -> Asset:
        return next(asset for asset in self.assets if asset.name == name)

    def is_proven_in(self, directory: Path) -> bool:
        """True if the directory holds every file with exactly the pinned content."""
        return all(asset.is_proven_in(directory) for asset in self.assets)


SCRIPT = "graphiql.js"
STYLE = "graphiql.css"
WORKERS = {
    "graphql": "graphql.worker.js",
    "json": "json.worker.js",
    "editorWorkerService": "editor.worker.js",
}
"""Label by which the editor asks for a worker -> name of its file."""

GRAPHIQL = Bundle(
    package="@graphql-yoga/graphiql",
    version="4.5.0",
    assets=(
        Asset(
            SCRIPT,
            "dist/yoga-graphiql.umd.js",
            "sha384-/t4fhWxYGaViR67PMxhDacRXghTA/X82HkhLqo1g3mf/YS3U8WQRV4mDYOi+WAwY",
        ),
        Asset(
            STYLE,
            "dist/graphiql.css",
            "sha384-Xp/7OLcB0QxJbd7DgYyj2SlhlXcC3CfoZwV0noESXagTOy5SgLd0fvxFirGgDlSe",
        ),
        Asset(
            "editor.worker.js",
            "dist/monacoeditorwork/editor.worker.bundle.js",
            "sha384-pE2N9HoATIHFXyG+qNs0KfCQYNupaLtNYdrU+207YoYufZkQXiNrxwhjD19bwavY",
        ),
        Asset(
            "graphql.worker.js",
            "dist/monacoeditorwork/graphql.worker..bundle.js",
            "sha384-PFVHFyE1C49Jx+IQWrSNUWIDw1b3aaYAoDYJip6kaM+AqrNwvYabc3Vn5oR7bJ5d",
        ),
        Asset(
            "json.worker.js",
            "dist/monacoeditorwork/json.worker.bundle.js",
            "sha384-DWcw3li66h7qm7RgvaRzwTHxNSsmDbhaapFdWTO7qtVLuSCrGXwp0Kg2QIutW7Iu",
        ),
    ),
)


def installed_assets(root: Path | None = None, bundle: Bundle = GRAPHIQL) -> Path | None:
    """The directory with all files of the pinned version, or None.

    Files that differ from the pin by a byte count as not installed: the browser would refuse
    them, as the page names the same hashes.
    """
    directory = (root or DEFAULT_ROOT).absolute() / bundle.version
    return directory if bundle.is_proven_in(directory) else None


def assets_router(directory: Path | None, bundle: Bundle = GRAPHIQL) -> APIRouter:
    """A route for each file, and nothing else: no part of a path is ever taken from a request."""
    router = APIRouter()
    if directory is not None:
        for asset in bundle.assets:
            served = Route(bundle.served_under + asset.name, _file(directory / asset.name))
            router.routes.append(served)
    return router


def _file(path: Path) -> Callable[[Request], Awaitable[FileResponse]]:
    async def answer(request: Request) -> FileResponse:  # noqa: ARG001
        return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix], headers=_HEADERS)

    return answer
