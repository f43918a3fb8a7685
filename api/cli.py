"""The `annoris` command."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TypeVar

import click
import uvicorn
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from api.cache.database import CacheUnavailable
from api.cache.migrate import migrate as migrate_database
from api.jobs import HEALTH_CHECK, RETENTION, SYNC
from api.master.errors import MasterError
from api.settings import Settings, SettingsError, load
from api.sync.health import CacheMoved, check_health
from api.sync.log import logged
from api.sync.retention import forget_cold
from api.wiring import Parts, layout_of, open_parts

T = TypeVar("T")
log = logging.getLogger(__name__)
_GRACE_SECONDS = 12  # for requests that run when the process is told to stop: as a write may take
_PAUSE_SECONDS = 5.0  # before a worker that crashed is started again
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


class Stop(click.ClickException):
    """One sentence on standard error; exit code 1."""

    def show(self, file: object = None) -> None:  # noqa: ARG002
        click.echo(self.format_message(), err=True)


class StopUnconfigured(Stop):
    """A setting is missing or wrong; exit code 2."""

    exit_code = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A GraphQL gateway over Markdown documents: GitHub is the master, PostgreSQL the cache."""


@main.command()
@click.option(
    "--repo",
    type=click.Path(exists=True, path_type=Path),
    help="Serve a copy of this: a bare repository, a clone, a .bundle or a folder of documents.",
)
@click.option("--port", default=8000, show_default=True, help="Port of the gateway.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".annoris/up"),
    show_default=True,
    help="Where everything is kept.",
)
def up(repo: Path | None, port: int, data: Path) -> None:
    """Run the whole system on this machine, with embedded servers, until Ctrl-C."""
    from sandbox.stack import StackError, run_stack  # noqa: PLC0415  # an extra may be missing

    _logging("WARNING")
    try:
        _run(run_stack(repo, port=port, data=data))
    except StackError as error:
        raise Stop(str(error)) from error


@main.command()
def serve() -> None:
    """Serve the API."""
    settings = _settings()
    _run(_serve(settings))


@main.command()
def worker() -> None:
    """Run the worker: hourly sync, daily health check, retention."""
    from workers.worker import run  # noqa: PLC0415  # the API is not to carry arq's worker

    _run(run(_settings()))


@main.command()
def start() -> None:
    """Run what ANNORIS_ROLE says: the API, the worker, or both in one process."""
    settings = _settings()
    _run(_start(settings))


@main.command()
def migrate() -> None:
    """Bring the database's tables to this version."""
    settings = _settings()
    try:
        asyncio.run(migrate_database(settings.database_url.get_secret_value()))
    except CacheUnavailable as error:
        raise Stop(str(error)) from error
    click.echo("The database is up to date.")


@main.command()
@as_json
def sync(as_json: bool) -> None:
    """Bring the cache to the master's head now."""

    async def run(parts: Parts) -> object:
        reconciler = parts.reconciler
        with _progress("documents", hidden=as_json) as progress:
            return await logged(reconciler.cache, SYNC, lambda: reconciler.run(progress=progress))

    _show(_with_parts(run), as_json=as_json)


@main.command("health-check")
@as_json
def health_check(as_json: bool) -> None:
    """Prove the whole cache against the master, and repair it."""

    async def run(parts: Parts) -> object:
        reconciler = parts.reconciler
        with _progress("documents", hidden=as_json) as progress:
            report = await logged(
                reconciler.cache, HEALTH_CHECK, lambda: check_health(reconciler, progress)
            )
        return asdict(report) | {"consistency": report.consistency}

    _show(_with_parts(run), as_json=as_json)


@main.command()
@as_json
def retention(as_json: bool) -> None:
    """Let the bodies of sessions that are older than RETENTION_DAYS leave the cache."""

    async def run(parts: Parts) -> object:
        gone = await logged(
            parts.reconciler.cache, RETENTION, lambda: forget_cold(parts.reconciler)
        )
        return {"bodies_dropped": gone}

    _show(_with_parts(run), as_json=as_json)


@main.command()
@as_json
def status(as_json: bool) -> None:
    """Show what the cache holds and how old it is, and whether GitHub answers."""

    async def run(parts: Parts) -> object:
        report: dict[str, object] = {"repository": parts.settings.github_repository}
        try:
            head = await parts.gateway.master.head()
            report["master"] = {"commit": head.commit, "committed_at": head.committed_at}
        except MasterError as error:
            report["master"] = {"error": str(error)}
        try:
            async with parts.gateway.cache.snapshot() as snapshot:
                totals = await snapshot.totals()
                known = snapshot.head
                report["cache"] = {
                    "commit": known.commit if known else None,
                    "seen_at": known.seen_at if known else None,
                    **asdict(totals),
                }
        except CacheUnavailable as error:
            report["cache"] = {"error": str(error)}
        return report

    _show(_with_parts(run), as_json=as_json)


@main.command()
def schema() -> None:
    """Print the GraphQL schema."""
    from api.graphql.schema import schema as graphql_schema  # noqa: PLC0415  # slow to import

    click.echo(graphql_schema.as_str())


async def _serve(settings: Settings) -> None:
    from api.app import create_app  # noqa: PLC0415  # a worker is not to carry the web framework

    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    # Signals cancel us; uvicorn would take them too, and end its lifespan twice.
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    serving = asyncio.create_task(_listen(server))
    while not serving.done():
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.force_exit = server.should_exit  # told twice: wait for no connection
            server.should_exit = True
    if server.force_exit:  # uvicorn would skip this
        await server.lifespan.shutdown()


async def _listen(server: uvicorn.Server) -> None:
    try:
        await server.serve()
    except SystemExit as error:
        where = f"{server.config.host}, port {server.config.port}"
        raise Stop(f"Cannot listen on {where}: the log says why. Set HOST and PORT.") from error


async def _start(settings: Settings) -> None:
    """API and worker in one process. The worker may fail and be started again; the API goes on."""
    if settings.annoris_role == "api":
        return await _serve(settings)
    from workers.worker import run  # noqa: PLC0415

    if settings.annoris_role == "worker":
        return await run(settings)
    if settings.redis_url is None:
        log.warning("No worker runs without REDIS_URL: the cache is synced when it is found old")
        return await _serve(settings)
    worker = asyncio.create_task(_for_ever(lambda: run(settings)))
    try:
        await _serve(settings)
    finally:
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            log.exception("the worker ended; it is started again")
        await asyncio.sleep(_PAUSE_SECONDS)


def _settings() -> Settings:
    _logging("INFO")
    try:
        settings = load()
        layout_of(settings)
    except SettingsError as error:
        raise StopUnconfigured(str(error)) from error
    return settings


def _logging(level: str) -> None:
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


def _with_parts(run: Callable[[Parts], Awaitable[T]]) -> T:
    settings = _settings()
    logging.getLogger().setLevel("WARNING")

    async def within() -> T:
        async with open_parts(settings) as parts:
            return await run(parts)

    try:
        return asyncio.run(within())
    except (MasterError, CacheUnavailable, CacheMoved) as error:
        raise Stop(str(error)) from error


def _run(work: Coroutine[object, object, None]) -> None:
    """Run until it ends, or until SIGINT or SIGTERM cancels it; then it has its time to close."""

    async def until_told() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        with suppress(asyncio.CancelledError):
            await task

    try:
        asyncio.run(until_told())
    except SettingsError as error:
        raise StopUnconfigured(str(error)) from error


class _Bar:
    """A progress bar on standard error, as a callable of documents done and in all."""

    def __init__(self, what: str, *, hidden: bool) -> None:
        self._bar = Progress(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=hidden or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(what)

    def __enter__(self) -> Callable[[int, int], None]:
        self._bar.start()
        return lambda done, total: self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _progress(what: str, *, hidden: bool) -> AbstractContextManager[Callable[[int, int], None]]:
    return _Bar(what, hidden=hidden)


def _show(result: object, *, as_json: bool) -> None:
    content = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
    if as_json or not isinstance(content, dict):
        click.echo(json.dumps(content, default=str, ensure_ascii=False))
        return
    for name, value in content.items():
        if isinstance(value, dict) and value:
            click.echo(f"{name}:")
            for inner, told in value.items():
                click.echo(f"  {inner}: {told}")
        else:
            click.echo(f"{name}: {'none' if value == {} else value}")


if __name__ == "__main__":
    main()
