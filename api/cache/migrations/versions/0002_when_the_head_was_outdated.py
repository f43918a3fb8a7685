"""When the head was outdated: a commit that the cache has not taken over yet makes it stale."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("head", sa.Column("outdated_at", sa.DateTime(timezone=True), nullable=True))
