"""The `annoris` command."""

import asyncio
import gc
import json
import logging
import math
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, TypeVar

import click
import uvicorn
from pydantic import BaseModel

from api.access import ApiKey, Scope, is_loopback, new_key, read_keys
from api.cache.cache import Cache
from api.cache.database import CacheUnavailable
from api.cache.snapshot import Totals
from api.jobs import HEALTH_CHECK, RETENTION, SYNC
from api.master.errors import MasterError
from api.settings import Settings, SettingsError, load
from api.sync.health import CacheMoved, HealthReport, check_health
from api.sync.log import logged
from api.sync.reconcile import Outcome, Reconciler, SyncReport
from api.sync.retention import forget_old
from api.sync.scan import ScanReport, scan
from api.wiring import Parts, layout_of, open_parts

T = TypeVar("T")
LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
log = logging.getLogger(__name__)
_GRACE_SECONDS = 12  # for requests that run when the process is told to stop: as a write may take
_PAUSE_SECONDS = 5.0  # before a worker that crashed is started again
_TURN_SECONDS = 1.0  # between looks whether another sync has ended
_PATHS_SHOWN = 20  # of each kind of drift
_UNDONE = {
    Outcome.BUSY: "Nothing was done: another sync is under way, and brings the cache along. Wait "
    "for it; annoris status shows when the cache is at the master's commit.",
    Outcome.LAGGING: "Nothing was done: GitHub named an older commit than it did before, as it can "
    "for some seconds after a push. Run it again in a minute; if the branch was set back on "
    "purpose, it is believed then.",
    Outcome.SUPERSEDED: "Nothing was done: a write or another sync was faster and has changed the "
    "cache meanwhile. Run it again.",
}
_OF_A_SYNC = (
    "started_at",
    "seconds",
    "requests",
    "points",
    "added",
    "changed",
    "removed",
    "bytes",
    "error",
)
_OF_A_CHECK = ("checked_at", "commit", "documents", "drift", "drifted", "repaired", "consistency")
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
    _run(_serve(settings), _quick_loop())


@main.command()
def worker() -> None:
    """Run the worker: hourly sync, daily health check, retention, alerts."""
    from workers.worker import run  # noqa: PLC0415  # the API is not to carry arq's worker

    _run(run(_settings()))


@main.command()
def start() -> None:
    """Run what ANNORIS_ROLE says: the API, the worker, or both in one process."""
    settings = _settings()
    _run(_start(settings), _quick_loop())


@main.command()
def migrate() -> None:
    """Bring the database's tables to this version."""
    from api.cache.migrate import migrate as migrate_database  # noqa: PLC0415  # large

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

    async def run(parts: Parts) -> SyncReport:
        with _progress("documents", hidden=as_json) as progress:
            return await _synced(parts.reconciler, progress)

    report = _with_parts(run)
    undone = _UNDONE.get(report.outcome)
    if as_json or undone is None:
        _show(report, as_json=as_json)
    if undone:
        raise Stop(undone)


async def _synced(reconciler: Reconciler, progress: Callable[[int, int], None]) -> SyncReport:
    return await logged(reconciler, SYNC, lambda: reconciler.run(progress=progress))


@main.command()
@as_json
def rebuild(as_json: bool) -> None:
    """Build the cache from nothing. Reads come from GitHub meanwhile.

    Whatever ends it early, nothing is lost: the next sync, or another rebuild, goes on from there.
    """

    async def run(parts: Parts) -> dict[str, object]:
        try:
            with _progress("documents", hidden=as_json) as progress:
                return await _rebuild(parts, progress)
        except (MasterError, CacheUnavailable) as error:
            raise Stop(f"{error} {await _what_is_left(parts)}") from error
        except asyncio.CancelledError:  # by Ctrl-C
            raise Stop(f"Interrupted. {await _what_is_left(parts)}") from None

    _show(_with_parts(run), as_json=as_json)


async def _rebuild(parts: Parts, progress: Callable[[int, int], None]) -> dict[str, object]:
    reconciler, start = parts.reconciler, time.perf_counter()
    with reconciler.master.github.metered() as meter:
        await reconciler.master.head()  # a GitHub that refuses us is not to cost the cache
        is_empty = waits = False
        while True:
            is_empty = is_empty or await _emptied(reconciler.cache)
            # Whoever is faster from now on builds it from nothing as well.
            report = await _synced(reconciler, progress) if is_empty else None
            if report and report.outcome not in _UNDONE:
                break
            if not waits:
                waits = True
                click.echo("Another sync is under way: waiting for its end.", err=True)
            await asyncio.sleep(_TURN_SECONDS)
        async with reconciler.cache.snapshot() as snapshot:
            totals = await snapshot.totals()
        return {
            "commit": report.commit,
            "documents": totals.documents,
            "seconds": round(time.perf_counter() - start, 3),
            "requests": meter.requests,
            "points": meter.points,
            "bytes": meter.bytes,
        }


async def _emptied(cache: Cache) -> bool:
    """Forget the cache's head, unless another sync is under way: it would note its own."""
    async with cache.turn_to_reconcile() as turn:
        if turn is not None:
            await cache.empty()
        return turn is not None


async def _what_is_left(parts: Parts) -> str:
    """What the cache is now that a rebuild has ended early, wherever that was."""
    try:
        async with parts.reconciler.cache.snapshot() as snapshot:
            head = snapshot.head
    except CacheUnavailable:
        return "Reads come from GitHub while PostgreSQL is down. Run it again when it is back."
    if head is None:
        return (
            "The cache is empty and reads come from GitHub. Run it again, or leave it to the "
            "next sync: either goes on from here."
        )
    return f"The cache is in use, as of the commit {head.commit}."


@main.command("health-check")
@click.option("--repair", is_flag=True, help="Put right what has drifted.")
@as_json
def health_check(repair: bool, as_json: bool) -> None:
    """Prove the whole cache against the master. Exit code 1 if something has drifted."""

    async def run(parts: Parts) -> HealthReport:
        reconciler = parts.reconciler
        with _progress("documents", hidden=as_json) as progress:
            return await logged(
                reconciler,
                HEALTH_CHECK,
                lambda: check_health(reconciler, repair=repair, progress=progress),
            )

    report = _with_parts(run)
    if as_json:
        told = {field.name: getattr(report, field.name) for field in fields(report)}
        figures = {
            "drifted": len(report.drift),
            "kinds": report.kinds,
            "consistency": report.consistency,
            "nines": report.nines,
        }
        _show(told | figures, as_json=True)
    else:
        click.echo("\n".join(_lines_of(report)))
    if report.wrong_trees and not repair and not report.drift:
        raise Stop("To put the directories right, run: annoris health-check --repair")
    if report.repaired < len(report.drift):
        raise Stop(
            f"{len(report.drift)} of {report.documents} documents had drifted. "
            "To repair them from GitHub, run: annoris health-check --repair"
        )


def _lines_of(report: HealthReport) -> Iterator[str]:
    """A health check for people."""
    yield (
        f"checked: {report.documents} documents at the commit {report.commit} "
        f"(seconds: {report.seconds:.1f}, requests: {report.requests})"
    )
    yield f"bodies: {report.bodies}, each hashed"
    yield f"drifted: {len(report.drift) or 'none'}"
    for kind, count in sorted(report.kinds.items()):
        yield f"  {kind}: {count}"
        paths = sorted(path for path, found in report.drift.items() if found == kind)
        yield from (f"    {_printable(path)}" for path in paths[:_PATHS_SHOWN])
        if count > _PATHS_SHOWN:
            yield f"    and {count - _PATHS_SHOWN} more; --json has them all"
    if report.wrong_trees:
        yield f"directories noted wrong: {report.wrong_trees}"
    yield f"repaired: {report.repaired}"
    # Never more than is true: both are rounded down.
    right = max(0, report.documents - len(report.drift))
    percent = right * 10**8 // report.documents / 10**6 if report.documents else 100
    nines = math.floor(10 * report.nines) / 10
    yield (
        f"consistency: {percent:.6f}".rstrip("0").rstrip(".")
        + f" % ({nines:g} nines, n = {report.documents})"
    )


def _printable(path: str) -> str:
    """A path that does nothing to a terminal."""
    return path if path.isprintable() else repr(path)


@main.command("scan")
@as_json
def scan_master(as_json: bool) -> None:
    """Look for passwords and tokens in the documents at GitHub. Exit code 1 if there are any.

    Says where they are and of what kind, and never shows one.
    """

    async def run(parts: Parts) -> ScanReport:
        with _progress("documents", hidden=as_json) as progress:
            return await scan(parts.reconciler, progress)

    report = _with_parts(run)
    if as_json:
        _show(report, as_json=True)
    else:
        for leak in report.found:
            click.echo(f"{_printable(leak.path)}:{leak.line}: {leak.kind}")
        for path in report.unread:
            click.echo(f"{_printable(path)}: not looked through, it cannot be read")
        click.echo(f"scanned: {report.documents} documents at the commit {report.commit}")
    if report.found:
        count = len({leak.path for leak in report.found})
        raise Stop(
            f"{count} of {report.documents} documents seem to hold secrets. Revoke each where it "
            "was made: who may read the repository has it, and the history keeps it."
        )


@main.command()
@as_json
def retention(as_json: bool) -> None:
    """Let bodies of sessions older than RETENTION_DAYS leave the cache, and old log entries."""

    async def run(parts: Parts) -> object:
        gone = await logged(parts.reconciler, RETENTION, lambda: forget_old(parts.reconciler))
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
                known = snapshot.head
                totals = await snapshot.totals() if known else Totals(0, 0, 0)
                report["cache"] = {
                    "commit": known.commit if known else None,
                    "seen_at": known.seen_at if known else None,
                    **asdict(totals),
                }
                report["worker"] = _row(await snapshot.last_worker(), "name", "seen_at")
                report["last_sync"] = _row(await snapshot.last_logged(SYNC), *_OF_A_SYNC)
                check = await snapshot.last_health_check()
                report["last_health_check"] = _row(check, *_OF_A_CHECK)
        except CacheUnavailable as error:
            report["cache"] = {"error": str(error)}
        return report

    _show(_with_parts(run), as_json=as_json)


def _row(row: BaseModel | None, *names: str) -> dict[str, object] | None:
    return row.model_dump(include=set(names)) if row else None


@main.group()
def keys() -> None:
    """API keys. What these commands print is to be set as API_KEYS; they set nothing themselves."""


@keys.command("new")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    default=("read", "write"),
    show_default=True,
    help="What it is good for; may be given several times. admin includes the others.",
)
@click.option(
    "--until", type=click.DateTime(["%Y-%m-%d"]), help="The last day (UTC) on which it is valid."
)
def new(name: str, scopes: Sequence[str], until: datetime | None) -> None:
    """Make a key for NAME: an agent or a person. Its name stands in the commits that it makes."""
    known = _known_keys()
    if any(key.name == name for key in known):
        raise Stop(f"There is a key of the name {name}: revoke it first, or choose another name.")
    try:
        secret, key = new_key(name, map(Scope, scopes), until.date() if until else None)
    except ValueError as error:
        raise Stop(f"No key was made: {error}.") from error
    click.echo(f"The key of {name}. It is shown this once and stored nowhere:\n\n    {secret}\n")
    _show_keys([*known, key])


@keys.command("list")
def list_keys() -> None:
    """List the keys of API_KEYS."""
    for key in _known_keys():
        scopes = " ".join(scope for scope in Scope if scope in key.scopes)
        click.echo(f"{key.name}: {scopes}" + (f", until {key.last_day}" if key.last_day else ""))


@keys.command("revoke")
@click.argument("name")
def revoke(name: str) -> None:
    """Show API_KEYS without the key of NAME."""
    known = _known_keys()
    left = [key for key in known if key.name != name]
    if len(left) == len(known):
        raise Stop(f"API_KEYS has no key of the name {name}.")
    _show_keys(left)


def _known_keys() -> Sequence[ApiKey]:
    try:
        return read_keys(os.environ.get("API_KEYS", ""))
    except ValueError as error:
        raise StopUnconfigured(f"Correct API_KEYS: {error}.") from error


def _show_keys(keys: Sequence[ApiKey]) -> None:
    if keys:
        click.echo("Set API_KEYS to this, and start the gateway again:\n")
        click.echo(",".join(map(str, keys)))
    else:
        click.echo(
            "No key is left: remove API_KEYS. The gateway then starts on a loopback HOST only."
        )


@main.command()
def schema() -> None:
    """Print the GraphQL schema."""
    from api.graphql.schema import schema as graphql_schema  # noqa: PLC0415  # slow to import

    click.echo(graphql_schema.as_str())


async def _serve(settings: Settings) -> None:
    # A worker is not to carry the web framework.
    from api.app import create_app  # noqa: PLC0415
    from api.http.protocol import BoundedProtocol  # noqa: PLC0415

    if not settings.api_keys and not is_loopback(settings.host):
        raise StopUnconfigured(
            f"Cannot start: HOST is {settings.host} and there are no API keys, so that anybody "
            f"could write to {settings.github_repository}. Make a key with `annoris keys new "
            "NAME` and set API_KEYS, or set HOST=127.0.0.1."
        )
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    # What was imported stays for good. To look through it for garbage again and again would keep
    # everybody waiting for a tenth of a second each time.
    gc.collect()
    gc.freeze()
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
    from workers.people import People  # noqa: PLC0415
    from workers.worker import run  # noqa: PLC0415

    if settings.annoris_role == "worker":
        return await run(settings)
    if settings.redis_url is None:
        log.warning("No worker runs without REDIS_URL: the cache is synced when it is found old")
        return await _serve(settings)
    People(settings.alert_urls)  # what is wrong with them is said now, and not for ever
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
    logging.getLogger("arq").setLevel("WARNING")  # it tells of every tick; our jobs tell of theirs


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


def _quick_loop() -> LoopFactory | None:
    """uvloop's, where there is one for the platform."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return uvloop.new_event_loop


def _run(work: Coroutine[object, object, None], loop_factory: LoopFactory | None = None) -> None:
    """Run until it ends, or until SIGINT or SIGTERM cancels it; then it has its time to close."""

    async def until_told() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        with suppress(asyncio.CancelledError):
            await task

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(until_told())
    except SettingsError as error:
        raise StopUnconfigured(str(error)) from error


def _progress(what: str, *, hidden: bool) -> AbstractContextManager[Callable[[int, int], None]]:
    from api.progress import Bar  # noqa: PLC0415  # for who looks on; a server has no terminal

    return Bar(what, hidden=hidden)


def _show(result: object, *, as_json: bool) -> None:
    content = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
    if as_json or not isinstance(content, dict):
        click.echo(json.dumps(content, default=str, ensure_ascii=False))
        return
    for name, value in content.items():
        if isinstance(value, dict) and value:
            click.echo(f"{name}:")
            for inner, told in value.items():
                click.echo(f"  {inner}: {_told(told)}")
        else:
            click.echo(f"{name}: {_told(value)}")


def _told(value: object) -> object:
    return "none" if value is None or value == {} else value


if __name__ == "__main__":
    main()
