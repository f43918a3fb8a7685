"""A copy of the record of keyed writes, which a process that starts need not read at the master."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "keyed_history",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("origin", sa.Text(collation="C"), nullable=False),
        sa.Column("generation", sa.Text(collation="C"), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "keyed_writes",
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("content", sa.Text(collation="C"), nullable=False),
        sa.Column("write_id", sa.Text(collation="C"), nullable=False),
        sa.Column("chosen", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
        sa.Column("commit", sa.Text(collation="C"), nullable=False),
        sa.Column("parent", sa.Text(collation="C"), nullable=False),
        sa.Column("tree", sa.Text(collation="C"), nullable=True),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
