"""What proves a row and a directory from the index alone; where large changes are laid out.

The rows of before cannot tell what they are asked for now. They go, and the next sync builds anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_DOCUMENTS = ("sessions", "projects", "priorities")


def upgrade() -> None:
    for table in (*_DOCUMENTS, "directories", "head", "applied_commits", "health_checks"):
        op.execute(f"DELETE FROM {table}")  # noqa: S608
    for table in _DOCUMENTS:
        op.add_column(
            table, sa.Column("mode", sa.Integer(), nullable=False, server_default="33188")
        )
        op.add_column(table, sa.Column("hot", sa.Boolean(), nullable=False))
        op.add_column(table, sa.Column("parser", sa.Integer(), nullable=False))
        op.add_column(table, sa.Column("seal", sa.Text(collation="C"), nullable=False))
        op.create_index(
            f"ix_{table}_unreadable",
            table,
            ["path"],
            unique=False,
            postgresql_where=sa.text("unreadable IS NOT NULL"),
        )
        op.execute(
            f"CREATE UNLOGGED TABLE staged_{table} "
            f"(LIKE {table} INCLUDING DEFAULTS, PRIMARY KEY (path))"
        )
    op.add_column(
        "directories", sa.Column("others", sa.LargeBinary(), nullable=False, server_default="")
    )
    op.add_column("head", sa.Column("parser", sa.Integer(), nullable=False, server_default="0"))
    for name, kind in (("points", sa.Integer()), ("bytes", sa.BigInteger())):
        op.add_column("sync_log", sa.Column(name, kind, nullable=False, server_default="0"))
        op.alter_column("sync_log", name, server_default=None)
    op.add_column("sync_log", sa.Column("error_class", sa.Text(collation="C"), nullable=True))
    for column in (
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("bodies", sa.Integer(), nullable=False),
        sa.Column("wrong_trees", sa.Integer(), nullable=False),
        sa.Column("drift", sa.JSON(), nullable=False),
    ):
        op.add_column("health_checks", column)
    op.create_table(
        "staging",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("origin", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quota_limit", sa.Integer(), nullable=True),
        sa.Column("quota_remaining", sa.Integer(), nullable=True),
        sa.Column("quota_resets_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("token_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "incidents",
        sa.Column("kind", sa.Text(collation="C"), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("message", sa.Text(collation="C"), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("kind"),
    )
