"""What Alembic runs to migrate: on the connection that `event_store/migrate.py` gives it, in its transaction."""

from alembic import context

from event_store.migrations.steps import namespace

VERSION_TABLE = "schema_revision"

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    version_table_schema=namespace(),
)
context.run_migrations()
