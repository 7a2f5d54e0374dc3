"""
What a process needs that reads or writes personal fields, put together from its settings.

Domains without personal fields need nothing: no key is made, and the log is used as it is.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from event_store.key_ring import KeyRing
from event_store.log import EventLog
from event_store.postgres import PostgresLog
from event_store.sealed_log import SealedLog
from event_store.sealing import Sealer
from event_store.subject_keys import SubjectKeys
from infra.master_key_file import FileMasterKeys, development_file
from infra.master_key_vault import VaultMasterKeys
from infra.master_keys import MasterKeys
from infra.settings import Settings
from schemas.errors import BadDefinition
from schemas.registry import Registry


def has_personal(registry: Registry) -> bool:
    """Say whether any event or command has personal fields."""
    return bool(registry.personal or registry.personal_commands)


def master_keys_of(settings: Settings) -> MasterKeys:
    """
    Return the configured provider of master keys.

    Raises:
        BadDefinition: None is configured in production, or what is configured cannot be used.
    """
    if settings.master_key_vault is not None:
        return VaultMasterKeys(settings.master_key_vault, os.environ)
    if settings.master_key_file is not None:
        return FileMasterKeys(settings.master_key_file)
    if settings.mode == "production":
        raise BadDefinition(
            "EVERFOLD_MASTER_KEY_FILE",
            "or EVERFOLD_MASTER_KEY_VAULT must be set in production: a loaded domain has personal fields",
        )
    return FileMasterKeys(development_file(settings.data_dir))


@asynccontextmanager
async def open_sealer(
    settings: Settings, registry: Registry, event_log: PostgresLog
) -> AsyncIterator[Sealer | None]:
    """
    Keep what seals and opens personal fields for a block; None where the domains have none.

    Raises:
        BadDefinition: See `master_keys_of`.
    """
    if not has_personal(registry):
        yield None
        return
    masters = master_keys_of(settings)
    try:
        yield Sealer(KeyRing(SubjectKeys(event_log.servers), masters))
    finally:
        await masters.close()


def sealed(event_log: EventLog, sealer: Sealer | None, registry: Registry) -> EventLog:
    """Return the log as those see it who need values."""
    return event_log if sealer is None else SealedLog(event_log, sealer, registry)
