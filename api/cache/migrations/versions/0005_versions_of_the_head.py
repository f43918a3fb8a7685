"""A version of the head for each change of it, and word of that to whoever listens.

PostgreSQL itself does both, so that nobody can forget it: no other head ever has this version, and
all that is known of a head by its version stays true.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("CREATE SEQUENCE head_versions")
    op.add_column("head", sa.Column("version", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        """
        CREATE FUNCTION number_head() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.version := nextval('head_versions');
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION announce_head() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_notify('annoris_head', '');
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER number_head BEFORE INSERT OR UPDATE ON head "
        "FOR EACH ROW EXECUTE FUNCTION number_head()"
    )
    op.execute(
        "CREATE TRIGGER announce_head AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON head "
        "FOR EACH STATEMENT EXECUTE FUNCTION announce_head()"
    )
    op.execute("UPDATE head SET version = 0")  # which numbers it
