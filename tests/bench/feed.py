"""
How fast the read side follows: catching up through all projections, replaying one, and the lag of single events.

    python -m tests.bench.feed --url postgresql://…/ [--events 60000]

Makes a database of its own and drops it. Each figure comes with its check: every position applied, rows equal to
their fold.
"""

import argparse
import asyncio
import random
import time
from datetime import UTC, date, datetime
from statistics import median
from typing import Any

import uuid_utils
import uvloop

from event_store.log import Append, Check, Expect, NewEvent
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from event_store.role import ConsumerRole
from event_store.wake import HeadWatch
from infra.garbage import collect_seldom
from infra.settings import load_settings
from projectors.app import PAGE_EVENTS_MAX
from projectors.build import Build, Workshop
from projectors.read_side import ReadSide, open_read_side
from projectors.runner import Kinds, LiveProjections
from projectors.verify import verify_projections
from schemas import Event
from schemas.envelope import Metadata
from schemas.supply.stock import StockReceived
from tests.services import create_database, drop_database

NOW = datetime(2026, 3, 1, tzinfo=UTC)
METADATA = Metadata(
    actor="bench", roles=("warehouse",), command="stock.receive", occurred_at=NOW, correlation_id="bench"
).encode()
BATCH = 200


def receipts(count: int, chance: random.Random) -> list[tuple[str, Event]]:
    """Return goods received over a thousand stocks, several lots each."""
    return [
        (
            f"stock/S{chance.randrange(10)}/I{chance.randrange(100)}",
            StockReceived(
                lot=f"L{chance.randrange(6)}", quantity=chance.randrange(1, 50), expires_on=date(2027, 1, 1)
            ),
        )
        for _ in range(count)
    ]


async def append(log: PostgresLog, events: list[tuple[str, Event]], tenant: str = "demo") -> None:
    """Append events, some hundreds in a commit."""
    partition = await log.partition_of(tenant)
    for start in range(0, len(events), BATCH):
        appends = [
            Append(
                tenant,
                stream,
                [Check(stream, Expect.ANY)],
                [NewEvent(stream, str(uuid_utils.uuid7()), event.type, event.schema_version, event.encode())],
                METADATA,
            )
            for stream, event in events[start : start + BATCH]
        ]
        await log.append_batch(partition, appends)


async def measure(url: str, events: int) -> dict[str, Any]:
    """Run all measurements on an empty, migrated database, with the settings of a projector process."""
    collect_seldom()
    chance = random.Random(7)
    settings = load_settings(store_url=url, read_url=url, domains="supply")
    async with open_read_side(settings, name="bench") as side:
        await append(side.log, receipts(events, chance))
        figures: dict[str, Any] = {"catch_up_events_per_second": await catch_up(side, events)}
        figures["lag_ms_p50"] = await lag(side, chance)
        reports = await verify_projections(side)
        figures["equal"] = all(report.equal for report in reports)
        figures["rows"] = {report.name: report.rows for report in reports}
        shop = Workshop(side.log, side.registry, side.generations, side.checkpoints)
        for name in ("stock-levels", "lot-traces"):
            built = await Build(shop, side.kinds[name]).run()
            figures[f"replay_{name}_events_per_second"] = round(built.events / built.seconds)
        return figures


async def catch_up(side: ReadSide, events: int) -> int:
    """Return how many events a second go through all projections."""
    async with projecting(side):
        started = time.monotonic()
        await reached(side, events)
        return round(events / (time.monotonic() - started))


async def lag(side: ReadSide, chance: random.Random) -> float:
    """Return the median time from a commit to its effect in the slowest projection, one at a time."""
    partition = await side.log.partition_of("demo")
    found = []
    async with projecting(side):
        for _ in range(100):
            await append(side.log, receipts(1, chance))
            started = time.monotonic()
            head = await side.log.head(partition)
            assert head is not None
            await reached(side, head.last_position, pause_seconds=0.001)
            found.append((time.monotonic() - started) * 1000)
    return round(median(found), 2)


async def reached(side: ReadSide, position: int, pause_seconds: float = 0.02) -> None:
    """Wait until all projections have a position."""
    partition = await side.log.partition_of("demo")
    async with asyncio.timeout(120):
        while True:
            least = await side.pool.fetchval(
                f"SELECT min(position) FROM {side.settings.namespace}.checkpoints "
                "WHERE kind = 'projection' AND partition = $1 HAVING count(*) >= $2",
                partition,
                len(side.kinds),
            )
            if least is not None and least >= position:
                return
            await asyncio.sleep(pause_seconds)


class projecting:  # noqa: N801 (a block, named as one)
    """A projector in this process for a block."""

    def __init__(self, side: ReadSide, kinds: Kinds | None = None) -> None:
        self._side = side
        self._kinds = side.kinds if kinds is None else kinds
        self._stop = asyncio.Event()

    async def __aenter__(self) -> None:
        side = self._side
        url = side.settings.read_url_or_store
        self._watch = HeadWatch([url], side.settings.namespace)
        await self._watch.__aenter__()
        members = LiveProjections(self._kinds, side.registry, side.generations, side.checkpoints)
        await members.open()
        role = ConsumerRole(
            log=side.log, pool=side.pool, namespace=side.settings.namespace, group="projections",
            members=members, watch=self._watch, page_events_max=PAGE_EVENTS_MAX,
        )  # fmt: skip
        self._task = asyncio.create_task(role.run(self._stop))

    async def __aexit__(self, *_exception: object) -> None:
        self._stop.set()
        await self._task
        await self._watch.__aexit__(None, None, None)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="a PostgreSQL server's maintenance database")
    parser.add_argument("--events", type=int, default=60_000)
    given = parser.parse_args()
    for figure, value in run(given.url, given.events).items():
        print(f"{figure}: {value}")


def run(server_url: str, events: int) -> dict[str, Any]:
    """Measure on a database of its own on a server."""
    url = create_database(server_url)
    try:
        migrate(url, "everfold", range(8))
        return uvloop.run(measure(url, events))
    finally:
        drop_database(server_url, url)


if __name__ == "__main__":
    main()
