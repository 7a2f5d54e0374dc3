"""
Looks for a wrong answer: cancelled calls, cache races, reads with a position over a late replica, flushes and swaps.

    python -m tests.chaos.stale_reads [--races 50000] [--reads 10000] [--cancels 100000] [--seed S]

Starts its own PostgreSQL, replica and Valkey; exit status 1 and the seed where an answer was wrong. The tests run the
same for a few seconds.
"""

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

from event_store.migrate import migrate
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.replica import replica_of
from infra.embedded.server import running
from infra.embedded.valkey import ValkeyServer
from infra.redis import RedisCache
from infra.telemetry import start_telemetry
from tests.chaos.cache_races import race
from tests.chaos.cancelled_calls import cancelled_on_postgres, cancelled_on_redis
from tests.chaos.token_reads import token_reads
from tests.services import NAMESPACE, PARTITIONS, create_database

WRONG_SHOWN = 5


async def races(redis_url: str, rounds: int, seed: int) -> None:
    """Run the races; raises where the cache lies."""
    async with RedisCache(redis_url, timeout_seconds=5) as redis:
        served = await race(redis, rounds=rounds, seed=seed)
    print(f"cache races: {rounds:,} steps, {served:,} documents served, 0 stale")


async def cancels(primary_url: str, redis_url: str, count: int, seed: int) -> None:
    """Cancel calls; raises where one gets another's answer."""
    on_redis = await cancelled_on_redis(redis_url, count=count * 9 // 10, seed=seed)
    on_postgres = await cancelled_on_postgres(primary_url, count=count // 10, seed=seed)
    print(f"cancelled calls: {count:,}, {on_redis + on_postgres:,} answered all the same, none by another's")


async def reads(primary: PostgresServer, replica_port: int, redis_url: str, count: int, seed: int) -> int:
    """Run the reads, print what was found, and return how many answers were wrong."""
    primary_url = create_database(primary.url)
    await asyncio.to_thread(migrate, primary_url, NAMESPACE, range(PARTITIONS))
    replica_url = primary_url.replace(f":{primary.port}/", f":{replica_port}/")
    with ephemeral_folder() as folder:
        found = await token_reads(primary_url, replica_url, redis_url, folder, reads=count, seed=seed)
    share = found.hits / max(1, found.answers)
    print(f"token reads: {found.answers:,} answers, {share:.0%} from the cache, {len(found.wrong)} wrong")
    print(f"  statuses {dict(found.statuses)}; {dict(found.steps)}")
    for wrong in found.wrong[:WRONG_SHOWN]:
        print(f"  {wrong}")
    return len(found.wrong)


def main() -> int:
    """Race, read, and say whether every answer was right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=50_000)
    parser.add_argument("--reads", type=int, default=10_000)
    parser.add_argument("--cancels", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    start_telemetry(role="chaos", level="ERROR")
    print(f"seed {given.seed}")
    began = time.monotonic()
    with ephemeral_folder() as folder:
        primary = PostgresServer(server_folder(folder, "postgres"), free_port(), fast=True)
        with (
            running(primary),
            replica_of(primary, server_folder(folder, "replica")) as replica,
            running(ValkeyServer(Path(folder) / "valkey", free_port())) as valkey,
        ):
            assert isinstance(replica.server, PostgresServer)
            asyncio.run(cancels(primary.url, valkey.url, given.cancels, given.seed))
            asyncio.run(races(valkey.url, given.races, given.seed))
            wrong = asyncio.run(reads(primary, replica.server.port, valkey.url, given.reads, given.seed))
    print(f"{time.monotonic() - began:.0f} s")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
