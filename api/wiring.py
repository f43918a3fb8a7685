"""Putting the parts together, for the API, the worker and the commands alike."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from api.cache.cache import Cache
from api.cache.database import Database
from api.documents import PARSER_VERSION, Layout
from api.gateway.gateway import Gateway
from api.gateway.writes import Writer
from api.jobs import Doorbell
from api.master.master import Master
from api.master.transport import GitHub
from api.settings import Settings, SettingsError
from api.sync.content import Content
from api.sync.reconcile import Reconciler


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


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Open the parts, and close them in reverse. Nothing is connected before it is needed."""
    layout = layout_of(settings)
    origin = (
        f"{settings.github_repository}@{settings.github_branch} "
        f"{layout.fingerprint} parser {PARSER_VERSION}"
    )
    doorbell = Doorbell(settings.redis_url.get_secret_value() if settings.redis_url else None)
    try:
        async with (
            GitHub(
                settings.github_api_url,
                settings.github_token.get_secret_value(),
                timeout=settings.master_timeout_seconds,
            ) as github,
            Database(
                settings.database_url.get_secret_value(),
                timeout=settings.database_timeout_seconds,
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
                )
                yield Parts(settings, reconciler, gateway, writer, doorbell)
    finally:
        await doorbell.close()
