"""A stand-in for GitHub: its GraphQL API, raw blobs, webhooks and git over HTTP, over a real
bare repository. What it does on purpose wrong is in `faults`, how to ask for it over HTTP in
`control`, and what it says in `catalogue`.

    create_repository(target, source)
    async with GitHub(target) as github:
        github.url, github.token, github.clone_url
"""

from sandbox.github.apps import App
from sandbox.github.create import CannotCreate, create_repository
from sandbox.github.faults import Fault, Faults
from sandbox.github.identity import DEFAULT_IDENTITY, DEFAULT_TOKEN, Identity
from sandbox.github.limits import Limits
from sandbox.github.recorder import Request, Requests
from sandbox.github.server import GitHub
from sandbox.github.webhooks import Webhook

__all__ = [
    "DEFAULT_IDENTITY",
    "DEFAULT_TOKEN",
    "App",
    "CannotCreate",
    "Fault",
    "Faults",
    "GitHub",
    "Identity",
    "Limits",
    "Request",
    "Requests",
    "Webhook",
    "create_repository",
]
