"""The tables of the cache.

There is no way down: the cache is disposable, and rebuilt from the master in one sync.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "applied_commits",
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("commit", sa.Text(collation="C"), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index(op.f("ix_applied_commits_commit"), "applied_commits", ["commit"], unique=False)
    op.create_table(
        "directories",
        sa.Column("path", sa.Text(collation="C"), nullable=False),
        sa.Column("tree", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("path"),
    )
    op.create_table(
        "head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("origin", sa.Text(collation="C"), nullable=False),
        sa.Column("commit", sa.Text(collation="C"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "health_checks",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("commit", sa.Text(collation="C"), nullable=False),
        sa.Column("documents", sa.Integer(), nullable=False),
        sa.Column("drifted", sa.Integer(), nullable=False),
        sa.Column("repaired", sa.Integer(), nullable=False),
        sa.Column("consistency", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_health_checks_checked_at"), "health_checks", ["checked_at"], unique=False
    )
    op.create_table(
        "priorities",
        sa.Column("path", sa.Text(collation="C"), nullable=False),
        sa.Column("directory", sa.Text(collation="C"), nullable=False),
        sa.Column("revision", sa.Text(collation="C"), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(collation="C"), nullable=False),
        sa.Column("title_folded", sa.Text(collation="C"), nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.Column("unreadable", sa.Text(collation="C"), nullable=True),
        sa.Column("markdown", sa.Text(collation="C"), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kept_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rank", sa.BigInteger(), nullable=True),
        sa.Column("rank_key", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(collation="C"), nullable=True),
        sa.Column("project", sa.Text(collation="C"), nullable=True),
        sa.Column("project_key", sa.Text(collation="C"), nullable=True),
        sa.Column("due_on", sa.Date(), nullable=True),
        sa.PrimaryKeyConstraint("path"),
    )
    op.create_index("ix_priorities_directory", "priorities", ["directory"], unique=False)
    op.create_index("ix_priorities_rank_key", "priorities", ["rank_key", "path"], unique=False)
    op.create_index("ix_priorities_revision", "priorities", ["revision"], unique=False)
    op.create_table(
        "projects",
        sa.Column("path", sa.Text(collation="C"), nullable=False),
        sa.Column("directory", sa.Text(collation="C"), nullable=False),
        sa.Column("revision", sa.Text(collation="C"), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(collation="C"), nullable=False),
        sa.Column("title_folded", sa.Text(collation="C"), nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.Column("unreadable", sa.Text(collation="C"), nullable=True),
        sa.Column("markdown", sa.Text(collation="C"), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kept_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("status", sa.Text(collation="C"), nullable=True),
        sa.Column("rank", sa.BigInteger(), nullable=True),
        sa.Column("rank_key", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("path"),
    )
    op.create_index("ix_projects_directory", "projects", ["directory"], unique=False)
    op.create_index("ix_projects_rank_key", "projects", ["rank_key", "path"], unique=False)
    op.create_index("ix_projects_revision", "projects", ["revision"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("path", sa.Text(collation="C"), nullable=False),
        sa.Column("directory", sa.Text(collation="C"), nullable=False),
        sa.Column("revision", sa.Text(collation="C"), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(collation="C"), nullable=False),
        sa.Column("title_folded", sa.Text(collation="C"), nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.Column("unreadable", sa.Text(collation="C"), nullable=True),
        sa.Column("markdown", sa.Text(collation="C"), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kept_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("occurred_key", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(collation="C"), nullable=True),
        sa.Column("project", sa.Text(collation="C"), nullable=True),
        sa.Column("project_key", sa.Text(collation="C"), nullable=True),
        sa.Column("priority", sa.Text(collation="C"), nullable=True),
        sa.Column("agent", sa.Text(collation="C"), nullable=True),
        sa.Column("tags", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
        sa.PrimaryKeyConstraint("path"),
    )
    op.create_index("ix_sessions_agent", "sessions", ["agent", "occurred_key"], unique=False)
    op.create_index("ix_sessions_directory", "sessions", ["directory"], unique=False)
    op.create_index(
        "ix_sessions_hot",
        "sessions",
        ["changed_at"],
        unique=False,
        postgresql_where=sa.text("markdown IS NOT NULL"),
    )
    op.create_index("ix_sessions_occurred_key", "sessions", ["occurred_key", "path"], unique=False)
    op.create_index("ix_sessions_priority", "sessions", ["priority", "occurred_key"], unique=False)
    op.create_index(
        "ix_sessions_project_key", "sessions", ["project_key", "occurred_key"], unique=False
    )
    op.create_index("ix_sessions_revision", "sessions", ["revision"], unique=False)
    op.create_index("ix_sessions_status", "sessions", ["status", "occurred_key"], unique=False)
    op.create_index("ix_sessions_tags", "sessions", ["tags"], unique=False, postgresql_using="gin")
    op.create_table(
        "sync_log",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(collation="C"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("commit", sa.Text(collation="C"), nullable=True),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("added", sa.Integer(), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.Column("removed", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(collation="C"), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_sync_log_started_at"), "sync_log", ["started_at"], unique=False)
