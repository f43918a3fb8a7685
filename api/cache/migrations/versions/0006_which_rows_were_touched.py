"""A stamp for each directory, which PostgreSQL renews whenever somebody touches its rows.

What was proven of the rows of a directory stays true for as long as its stamp stays. The triggers
fire for all writers, replication and restored data too (ALWAYS), once for a statement.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_SHARED = (
    "path directory mode revision bytes title title_folded found::text unreadable changed_at "
    "parser seal status"
)
# All but `markdown`, `hot` and `kept_until`: a body that comes or goes changes no list.
_COLUMNS = {
    "sessions": f"{_SHARED} occurred_at occurred_key project project_key priority agent tags",
    "projects": f"{_SHARED} name rank rank_key",
    "priorities": f"{_SHARED} rank rank_key project project_key due_on",
}
# In one order, so that two transactions do not wait for each other.
_STAMP = """
    INSERT INTO touched (directory, stamp)
    SELECT directory, gen_random_uuid() FROM {} GROUP BY directory ORDER BY directory
    ON CONFLICT (directory) DO UPDATE SET stamp = excluded.stamp;
"""
# An update may leave all rows as they were, or move them to another directory.
_DIFFERENT = """(
    SELECT either.directory
    FROM before AS b FULL JOIN after AS a ON a.path = b.path
    CROSS JOIN LATERAL (VALUES (b.directory), (a.directory)) AS either (directory)
    WHERE ROW({}) IS DISTINCT FROM ROW({}) AND either.directory IS NOT NULL
) AS different"""


def upgrade() -> None:
    op.create_table(
        "touched",
        sa.Column("directory", sa.Text(collation="C"), nullable=False),
        sa.Column("stamp", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("directory"),
    )
    _create_function("touch", _STAMP.format("changed"))
    for table, columns in _COLUMNS.items():
        different = _DIFFERENT.format(_of("b", columns), _of("a", columns))
        _create_function(f"touch_{table}", _STAMP.format(different))
        _create_trigger(table, "INSERT", "NEW TABLE AS changed", "touch")
        _create_trigger(table, "DELETE", "OLD TABLE AS changed", "touch")
        _create_trigger(table, "UPDATE", "OLD TABLE AS before NEW TABLE AS after", f"touch_{table}")


def _of(row: str, columns: str) -> str:
    return ", ".join(f"{row}.{column}" for column in columns.split())


def _create_function(name: str, body: str) -> None:
    # Columns come first: PL/pgSQL has a variable of its own that is called `found`.
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT "
        f"AS $$ #variable_conflict use_column\n BEGIN {body} RETURN NULL; END $$"
    )


def _create_trigger(table: str, event: str, transition: str, function: str) -> None:
    name = f"touched_by_{event.lower()}"
    op.execute(
        f"CREATE TRIGGER {name} AFTER {event} ON {table} REFERENCING {transition} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
    )
    op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
