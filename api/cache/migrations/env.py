"""Alembic's entry. The connection is handed in by `api.cache.migrate`."""

from alembic import context

from api.cache.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
    compare_type=True,
)
context.run_migrations()
