"""Opens the log that the settings name: its servers, and the archive of its old events."""

from event_store.object_store import object_store_of
from event_store.postgres import PostgresLog
from event_store.servers import OF_ACCOUNT, LogRoles
from infra.settings import Settings


def open_log(settings: Settings, roles: LogRoles = OF_ACCOUNT) -> PostgresLog:
    """
    Return the log, to be used as a context manager; it connects when it is first used.

    Raises:
        BadDefinition: The archive's address cannot be used.
    """
    return PostgresLog(
        settings.store_urls, settings.namespace, archive=object_store_of(settings), roles=roles
    )
