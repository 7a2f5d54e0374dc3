"""The short form of `python -m tests.chaos.stale_reads`: no answer is older than asked, or not what the log had."""

import asyncio
import random
from pathlib import Path

from event_store.migrate import migrate
from tests.chaos.token_reads import token_reads
from tests.integration.query_api.readside import NAMESPACE

READS = 400


async def test_no_read_with_a_position_is_stale_over_a_lagging_replica_flushes_and_swaps(  # I11, I12, I20, F20, F44
    replicated_database: tuple[str, str], redis_url: str, tmp_path: Path
) -> None:
    primary_url, replica_url = replicated_database
    await asyncio.to_thread(migrate, primary_url, NAMESPACE, range(8))
    seed = random.randrange(10**6)

    found = await token_reads(primary_url, replica_url, redis_url, tmp_path, reads=READS, seed=seed)

    assert not found.wrong, (seed, found)
    assert found.answers > READS / 2, (seed, found)
