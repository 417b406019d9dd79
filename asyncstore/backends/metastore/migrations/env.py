"""Run by Alembic: applies the migrations on the connection it is given, inside that connection's transaction."""

from __future__ import annotations

from alembic import context

from asyncstore.backends.metastore.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    transactional_ddl=False,  # the caller has begun a transaction, and ends it
)
context.run_migrations()
