"""Putting the parts together, for the API, the worker and the commands alike."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from api.cache.cache import Cache
from api.cache.database import Database
from api.documents import Layout
from api.gateway.changes import SecretsPolicy
from api.gateway.gateway import Gateway
from api.gateway.writes import Writer
from api.jobs import Doorbell
from api.master.credentials import App, Credentials, FixedToken
from api.master.master import Master
from api.master.transport import GitHub
from api.memory import giving_back
from api.settings import Settings, SettingsError
from api.sync.content import Content
from api.sync.reconcile import Reconciler

_WORK_SECONDS = 2.0  # for a statement that no reader waits for, before PostgreSQL counts as down


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a process works with, open."""

    settings: Settings
    reconciler: Reconciler
    gateway: Gateway
    writer: Writer
    doorbell: Doorbell


def layout_of(settings: Settings) -> Layout:
    """Raises SettingsError when the directories contradict each other."""
    try:
        return Layout(
            sessions=settings.session_paths,
            projects=settings.project_paths,
            priorities=settings.priority_paths,
        )
    except ValueError as error:
        names = "SESSION_PATHS, PROJECT_PATHS and PRIORITY_PATHS"
        raise SettingsError(f"Cannot start: correct {names}: {error}") from error


def credentials_of(settings: Settings) -> Credentials:
    """The one of the two ways to GitHub that is set up."""
    app_id, key = settings.github_app_id, settings.github_app_private_key
    installation_id = settings.github_app_installation_id
    if app_id and key and installation_id:
        return App(app_id, key.get_secret_value(), installation_id)
    if settings.github_token:
        return FixedToken(settings.github_token.get_secret_value())
    raise SettingsError("Cannot start: set GITHUB_TOKEN or a GitHub App.")


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Open the parts, and close them in reverse. Nothing is connected before it is needed."""
    layout = layout_of(settings)
    origin = (
        f"{settings.github_repository}@{settings.github_branch} "
        f"{layout.fingerprint} up to {settings.max_document_bytes} bytes"
    )
    doorbell = Doorbell(settings.redis_url.get_secret_value() if settings.redis_url else None)
    try:
        async with (
            giving_back(),
            GitHub(
                settings.github_api_url,
                credentials_of(settings),
                timeout=settings.master_timeout_seconds,
            ) as github,
            Database(
                settings.database_url.get_secret_value(),
                timeout=max(_WORK_SECONDS, settings.database_timeout_seconds),
                read_timeout=settings.database_timeout_seconds,
            ) as database,
        ):
            master = Master(github, settings.github_repository, settings.github_branch)
            reconciler = Reconciler(
                master=master,
                cache=Cache(database, origin),
                content=Content(master, layout, max_bytes=settings.max_document_bytes),
                layout=layout,
                retention=timedelta(days=settings.retention_days),
            )
            async with Gateway(
                reconciler,
                max_staleness=settings.max_staleness_seconds,
                ring=doorbell.ring,
            ) as gateway:
                writer = Writer(
                    gateway,
                    max_bytes=settings.max_document_bytes,
                    seconds=settings.write_timeout_seconds,
                    addresses=settings.agent_addresses,
                    secrets=SecretsPolicy[settings.secrets.upper()],
                )
                yield Parts(settings, reconciler, gateway, writer, doorbell)
    finally:
        await doorbell.close()
