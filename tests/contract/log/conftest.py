"""
The implementations of the log, and one whose full ranges are in an archive; every test of this folder runs on each.

Those on PostgreSQL are used as processes use them, with the least-privileged roles.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from event_store.memory import MemoryLog
from event_store.postgres import PostgresLog
from event_store.servers import LogRoles
from tests.archives import ArchivingLog
from tests.services import PARTITIONS

ROLES = LogRoles("everfold_appender", "everfold_feed", "everfold_keeper")


@pytest.fixture(params=["memory", "postgres", "archived"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryLog | PostgresLog]:
    """An empty log."""
    match request.param:
        case "memory":
            yield MemoryLog(PARTITIONS)
        case "postgres":
            url: Any = request.getfixturevalue("store_url")
            async with PostgresLog({range(PARTITIONS): url}, roles=ROLES) as log:
                yield log
        case _:
            url = request.getfixturevalue("small_ranges_url")
            async with ArchivingLog({range(PARTITIONS): url}, tmp_path, ROLES) as archiving:
                yield archiving
