"""Runs the migrations on the connection that `store.runs` hands over."""

from alembic import context

from autointerp.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
