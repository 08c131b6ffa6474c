"""Run by Alembic for each migration, on the connection that `Database` passes."""

from alembic import context

from serving.service.state.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
