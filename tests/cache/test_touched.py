"""PostgreSQL itself notes whose rows were touched, whoever did it and by whatever means."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from api.cache.cache import Cache
from api.cache.rows import TABLES, all_columns
from api.cache.snapshot import CacheMoved, Touches, Untouched
from api.cache.statements import TOUCHES
from api.cache.tables import SessionRow
from api.documents import Collection, Priority, Project, Session
from api.documents.listing import Indexed, Listing, Order, Where, Window
from tests.cache.documents import rebuild

KEPT_OR_DROPPED = {"markdown", "hot", "kept_until"}
OTHER = {
    "TEXT": "'other'",
    "ARRAY": "ARRAY['other']",
    "INTEGER": "7",
    "BIGINT": "7",
    "BOOLEAN": "false",
    "DATETIME": "'2020-01-01Z'",
    "DATE": "'2020-01-01'",
    "JSON": """'{"other": 1}'""",
}


def session(path: str) -> Indexed:
    document = Session(path=path, revision="0" * 40, bytes=1, title="T")
    return Indexed(collection=Collection.SESSIONS, document=document, hot=True, markdown="x")


def items() -> list[Indexed]:
    """For each collection a document in a directory of its own, and a session in another one."""
    project = Project(path="projects/x.md", revision="0" * 40, bytes=1, title="T", name="N")
    priority = Priority(path="priorities/x.md", revision="0" * 40, bytes=1, title="T")
    return [
        session("sessions/x.md"),
        session("elsewhere/y.md"),
        Indexed(collection=Collection.PROJECTS, document=project),
        Indexed(collection=Collection.PRIORITIES, document=priority),
    ]


@pytest.fixture
async def filled(cache: Cache) -> Cache:
    assert await cache.apply(rebuild(items()), expected=None)
    return cache


@pytest.fixture
async def outsider(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody with psql."""
    connection = await asyncpg.connect(database_url, timeout=5, command_timeout=10)
    yield connection
    await connection.close()


async def stamps(cache: Cache) -> dict[str, UUID]:
    async with cache.snapshot() as snapshot:
        return await snapshot.stamps()


async def touches(cache: Cache) -> Touches | None:
    async with cache.snapshot() as snapshot:
        return await snapshot.touches(cache.origin)


async def seen_by(outsider: asyncpg.Connection) -> tuple[asyncpg.Record, dict[str, UUID]]:
    """What is known of touches, and all stamps."""
    found = await outsider.fetch("SELECT directory, stamp FROM touched")
    return await outsider.fetchrow(TOUCHES), {row["directory"]: row["stamp"] for row in found}


async def touched_by(outsider: asyncpg.Connection, statement: str) -> set[str]:
    """The directories that get another stamp by a statement, which is then undone."""
    undone = outsider.transaction()
    await undone.start()
    known, before = await seen_by(outsider)
    assert await outsider.execute(statement) not in {"UPDATE 0", "DELETE 0", "INSERT 0 0"}
    known_then, after = await seen_by(outsider)
    await undone.rollback()
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert (known_then != known) is bool(changed)
    return changed


DIRECTORIES = {"sessions", "elsewhere", "projects", "priorities"}
REST = ", ".join(
    column.name for column in all_columns(SessionRow) if column.name not in {"path", "directory"}
)
COPY = (
    f"INSERT INTO sessions (path, directory, {REST}) SELECT 'new/x.md', 'new', {REST} "  # noqa: S608
    "FROM sessions WHERE directory = 'sessions'"
)
MERGE = """
MERGE INTO sessions AS s
USING (VALUES ('sessions/x.md'), ('no.md')) AS v (path) ON s.path = v.path
WHEN MATCHED THEN UPDATE SET title = 'other' WHEN NOT MATCHED THEN DO NOTHING
"""
MOVE = """
UPDATE sessions SET path = 'moved/' || path, directory = 'moved/' || directory
WHERE directory = 'elsewhere'
"""
TWO_TABLES = """
WITH gone AS (DELETE FROM sessions WHERE directory = 'elsewhere') UPDATE projects SET rank = 1
"""


async def test_every_directory_with_rows_has_a_stamp(filled: Cache) -> None:
    assert (await stamps(filled)).keys() == DIRECTORIES


@pytest.mark.usefixtures("filled")
async def test_a_change_of_any_column_but_the_bodys_is_noted(
    outsider: asyncpg.Connection,
) -> None:
    for collection, table in TABLES.items():
        own = collection.value
        for column in all_columns(table):
            other = OTHER[str(column.type).partition(" COLLATE")[0]]
            expected = set() if column.name in KEPT_OR_DROPPED else {own}
            expected |= {"other"} if column.name == "directory" else set()
            change = f"UPDATE {own} SET {column.name} = {other} WHERE directory = '{own}'"  # noqa: S608
            assert await touched_by(outsider, change) == expected, change


@pytest.mark.usefixtures("filled")
async def test_whatever_the_statement_those_directories_are_noted_that_it_changes(
    outsider: asyncpg.Connection,
) -> None:
    for statement, expected in {
        COPY: {"new"},
        COPY + " ON CONFLICT (path) DO UPDATE SET title = 'other'": {"new"},
        "DELETE FROM sessions WHERE directory = 'sessions'": {"sessions"},
        "DELETE FROM sessions": {"sessions", "elsewhere"},
        "UPDATE sessions SET title = 'other'": {"sessions", "elsewhere"},
        "UPDATE sessions SET title = title, markdown = 'other'": set(),
        "UPDATE sessions SET title = left('TT', position('e' IN path))": {"sessions"},
        MERGE: {"sessions"},
        MOVE: {"elsewhere", "moved/elsewhere"},
        TWO_TABLES: {"projects", "elsewhere"},
    }.items():
        assert await touched_by(outsider, statement) == expected, statement


async def test_rows_that_are_copied_in_are_noted(
    filled: Cache, outsider: asyncpg.Connection
) -> None:
    before = await stamps(filled)
    rows = await outsider.fetch("DELETE FROM projects RETURNING *")
    await outsider.copy_records_to_table("projects", records=rows)
    after = await stamps(filled)
    assert {path for path in before if before[path] != after[path]} == {"projects"}


async def test_a_body_that_is_kept_or_forgotten_touches_nothing(filled: Cache) -> None:
    before = await touches(filled)
    far = datetime(2100, 1, 1, tzinfo=UTC)
    assert await filled.forget_cold(cutoff=far, now=far) == 2
    await filled.keep({"sessions/x.md": ("0" * 40, "x")}, until=far)
    assert await touches(filled) == before


async def test_totals_are_true_whoever_changes_what_and_documents_are_counted_once(
    filled: Cache, outsider: asyncpg.Connection
) -> None:
    far = datetime(2100, 1, 1, tzinfo=UTC)

    async def totals() -> tuple[int, int, int]:
        async with filled.snapshot() as snapshot:
            found = await filled.totals(snapshot)
            assert found == await snapshot.totals()
        return found.documents, found.hot, found.unreadable

    assert await totals() == (4, 2, 0)
    await filled.keep({"sessions/x.md": ("0" * 40, "x")}, until=far)
    known = filled._counted
    assert await filled.forget_cold(cutoff=far, now=far) == 1
    assert await totals() == (4, 1, 0)
    assert filled._counted is known, "nobody has touched a document"
    await outsider.execute("DELETE FROM projects")
    assert await totals() == (3, 1, 0)
    await outsider.execute("UPDATE sessions SET unreadable = 'too large' WHERE markdown IS NULL")
    assert await totals() == (3, 1, 1)
    assert await filled.apply(rebuild(items()[:1]), expected="c" * 40)
    assert await totals() == (1, 1, 0)


async def test_what_is_written_again_as_it_was_touches_nothing(filled: Cache) -> None:
    before = await touches(filled)
    change = replace(rebuild(items()), anew=False)
    assert await filled.apply(change, expected="c" * 40)
    assert await touches(filled) == before


DISABLED = "ALTER TABLE sessions DISABLE TRIGGER USER; DELETE FROM sessions;"
ALWAYS = "ALTER TABLE sessions ENABLE ALWAYS TRIGGER touched_by_"


@pytest.mark.usefixtures("filled")
async def test_there_is_no_way_past_the_triggers_that_is_not_noticed(
    outsider: asyncpg.Connection,
) -> None:
    for behind_our_back in (
        "SET LOCAL session_replication_role = replica; DELETE FROM sessions",
        "TRUNCATE sessions",
        "TRUNCATE touched",
        "ALTER TABLE sessions ALTER title TYPE text COLLATE \"C\" USING 'other'",
        DISABLED,
        f"{DISABLED} ALTER TABLE sessions ENABLE TRIGGER USER",
        f"{DISABLED} {ALWAYS}insert; {ALWAYS}update; {ALWAYS}delete",
        "DROP TRIGGER touched_by_delete ON projects; DELETE FROM projects",
        "ALTER TABLE sessions RENAME TO old; CREATE TABLE sessions (LIKE old INCLUDING ALL)",
    ):
        undone = outsider.transaction()
        await undone.start()
        before = await outsider.fetchrow(TOUCHES)
        assert before["tables"] is not None
        await outsider.execute(behind_our_back)
        assert await outsider.fetchrow(TOUCHES) != before, behind_our_back
        await undone.rollback()


async def test_without_all_triggers_nothing_is_known(
    filled: Cache, outsider: asyncpg.Connection
) -> None:
    await outsider.execute("ALTER TABLE priorities DISABLE TRIGGER touched_by_insert")
    assert await touches(filled) is None


async def test_a_table_that_is_truncated_under_a_snapshot_is_not_taken_for_an_empty_one(
    filled: Cache, outsider: asyncpg.Connection
) -> None:
    """PostgreSQL shows it empty to snapshots that were taken before."""
    before = await touches(filled)
    async with filled.snapshot() as snapshot:  # which has read the head, and no row
        await outsider.execute("TRUNCATE sessions")
        assert await snapshot.everything(Collection.SESSIONS) == []
        assert await snapshot.touches(filled.origin) != before


async def test_many_rows_are_noted_in_a_few_stamps(filled: Cache) -> None:
    many = [session(f"{i % 3}/{i:04}.md") for i in range(2_000)]
    assert await filled.apply(rebuild(many), expected="c" * 40)
    assert (await stamps(filled)).keys() == DIRECTORIES | {"0", "1", "2"}


# What others see


@pytest.mark.usefixtures("filled")
async def test_who_sees_a_change_sees_its_stamp_and_who_does_not_sees_the_old_one(
    outsider: asyncpg.Connection, database_url: str
) -> None:
    """Each stamp goes with one state of the rows, whoever reads at whatever moment."""
    other = await asyncpg.connect(database_url)
    question = """
        SELECT stamp, (SELECT string_agg(title, ',') FROM sessions WHERE directory = 'sessions')
        FROM touched WHERE directory = 'sessions'
    """
    seen: dict[UUID, set[str]] = {}
    done = False

    async def write(connection: asyncpg.Connection, who: str) -> None:
        for i in range(60):
            async with connection.transaction():
                await connection.execute(
                    "UPDATE sessions SET title = $1 WHERE directory = 'sessions'", f"{who}{i}"
                )
                await connection.execute(
                    "UPDATE sessions SET title = $1 WHERE directory = 'sessions'", f"{who}{i}x"
                )
                await asyncio.sleep(0)

    async def read() -> None:
        reader = await asyncpg.connect(database_url)
        while not done:
            stamp, title = await reader.fetchrow(question)
            seen.setdefault(stamp, set()).add(title)
        await reader.close()

    readers = [asyncio.create_task(read()) for _ in range(2)]
    await asyncio.gather(write(outsider, "a"), write(other, "b"))
    done = True
    await asyncio.gather(*readers)
    await other.close()
    assert len(seen) > 5
    assert all(len(titles) == 1 for titles in seen.values())


async def test_a_change_that_is_committed_late_is_noticed_though_a_later_one_was_before(
    filled: Cache, outsider: asyncpg.Connection, database_url: str
) -> None:
    late = await asyncpg.connect(database_url)
    async with late.transaction():
        await late.execute("UPDATE sessions SET title = 'late' WHERE directory = 'elsewhere'")
        await outsider.execute("UPDATE sessions SET title = 'early' WHERE directory = 'sessions'")
        before, seen = await touches(filled), await stamps(filled)
    after = await stamps(filled)
    await late.close()
    assert {path for path in seen if seen[path] != after[path]} == {"elsewhere"}
    assert await touches(filled) != before


async def test_two_who_touch_the_same_directories_in_any_order_do_not_block_each_other(
    filled: Cache, outsider: asyncpg.Connection, database_url: str
) -> None:
    assert await filled.apply(rebuild([session("sessions/x.md")]), expected="c" * 40)
    other = await asyncpg.connect(database_url, command_timeout=10)
    insert = (
        f"INSERT INTO sessions (path, directory, {REST}) "  # noqa: S608
        f"SELECT gen_random_uuid()::text, d::text, {REST} "
        "FROM (SELECT * FROM sessions WHERE path = 'sessions/x.md') s, "
        "generate_series({}, {}, {}) d"
    )
    for _ in range(20):
        await asyncio.gather(
            outsider.execute(insert.format(1, 50, 1)), other.execute(insert.format(50, 1, -1))
        )
    await other.close()


# What is asked of rows that nobody may have touched


def untouched(cache: Cache, known: Touches | None) -> Untouched:
    assert known is not None
    return Untouched(cache.database, cache.origin, known)


LISTING = Listing(collection=Collection.SESSIONS, where=Where(), order=Order.PATH_ASC)


async def test_untouched_rows_answer_as_a_snapshot_does(filled: Cache) -> None:
    index = untouched(filled, await touches(filled))
    nothing = Listing(
        collection=Collection.SESSIONS, where=Where(status="none"), order=Order.PATH_ASC
    )
    asked = [(LISTING, Window()), (nothing, Window()), (LISTING, Window(size=1, from_end=True))]
    before = filled.database.statements
    pages, counts = await index.pages(asked), await index.counts([LISTING, nothing])
    assert filled.database.statements - before == 2
    async with filled.snapshot() as snapshot:
        assert pages == await snapshot.pages(asked)
        assert counts == await snapshot.counts([LISTING, nothing]) == [2, 0]
        assert await index.listed(["sessions/x.md", "no.md"]) == {
            "sessions/x.md": ("0" * 40, 1, 0o100644)
        }


async def test_lists_can_be_as_if_nothing_were_at_some_paths(filled: Cache) -> None:
    index = untouched(filled, await touches(filled)).without(["sessions/x.md", "\0", "no.md"])
    [page] = await index.pages([(LISTING, Window())])
    assert [item.document.path for item in page.items] == ["elsewhere/y.md"]
    assert await index.counts([LISTING]) == [1]


async def test_rows_that_were_touched_do_not_answer(
    filled: Cache, outsider: asyncpg.Connection
) -> None:
    index = untouched(filled, await touches(filled))
    await index.check()
    await outsider.execute("DELETE FROM sessions")
    for question in (index.check(), index.pages([(LISTING, Window())]), index.counts([LISTING])):
        with pytest.raises(CacheMoved):
            await question


async def test_rows_of_another_origin_do_not_answer(
    filled: Cache, outsider: asyncpg.Connection
) -> None:
    index = untouched(filled, await touches(filled))
    await outsider.execute("UPDATE head SET origin = 'theirs'")
    assert await touches(filled) is None
    with pytest.raises(CacheMoved):
        await index.check()
