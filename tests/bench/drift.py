"""
How soon the drift detector finds one changed row among a million.

    python -m tests.bench.drift --url postgresql://…/ [--rows 1000000] [--sweep-seconds 60]

`stock-levels` is built over as many events as makes so many rows in its two tables; one of them, taken by chance, is
changed in the database, and the detector runs as in a projector that holds every partition, told to compare all rows
once in `--sweep-seconds`. The bound within which it must find the row is that and what one slice takes. It must find
that row and no other, mend it, and the table must be as it was.
"""

import argparse
import asyncio
import random
import time
from dataclasses import dataclass, replace

import orjson
import uvloop

from event_store.migrate import migrate
from infra.garbage import collect_seldom
from infra.settings import load_settings
from projectors.build import Build, Workshop
from projectors.drift import DriftDetector
from projectors.read_side import ReadSide, open_read_side
from tests.bench.replay import PROJECTION, fill
from tests.services import create_database, drop_database

SLICE_ROWS = 100_000
"""Each slice folds its partition's whole log: so few of them that a sweep of a minute is possible."""
DUTY = 1.0
ROWS_AN_EVENT = 2
FIND_SECONDS_MAX = 240.0


@dataclass
class Found:
    """What became of the changed row."""

    rows: int
    sweep_seconds: float
    seconds: float = 0.0
    slice_seconds: float = 0.0
    """What the slowest slice took."""
    differences: int = 0
    mended: bool = False

    @property
    def bound_seconds(self) -> float:
        """Within what time the row must be found."""
        return self.sweep_seconds + self.slice_seconds

    @property
    def holds(self) -> bool:
        """Whether it was found in time, and mended, and nothing else was."""
        return self.seconds <= self.bound_seconds and self.differences == 1 and self.mended


async def measure(url: str, rows: int, sweep_seconds: float) -> Found:
    """Build, change a row, and wait until it is what it was."""
    collect_seldom()
    settings = load_settings(store_url=url, read_url=url, domains="supply")
    async with open_read_side(settings, name="bench") as side:
        events = rows // ROWS_AN_EVENT
        await fill(side.log, events, stocks=events, once_each=True)
        shop = Workshop(side.opened, side.registry, side.generations, side.checkpoints)
        await Build(shop, side.kinds[PROJECTION]).run()
        live = (await side.generations.live())[PROJECTION]
        schema = side.generations.schema_of(PROJECTION, live.generation)
        tables = [f'"{schema}"."{table}"' for table in side.kinds[PROJECTION].tables]
        for table in tables:
            await side.pool.execute(f"VACUUM ANALYZE {table}")
        there = [await side.pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables]
        found = Found(sum(there), sweep_seconds)
        place = await _change_one(side, tables[0], random.SystemRandom().randrange(there[0]))
        await _detect(replace(side, kinds={PROJECTION: side.kinds[PROJECTION]}), found)
        found.mended = place.document == await _document(side, tables[0], place)
    return found


async def _detect(side: ReadSide, found: Found) -> None:
    detector = DriftDetector(
        side, lambda: side.log.partitions, sweep_seconds=found.sweep_seconds, slice_rows=SLICE_ROWS, duty=DUTY
    )
    namespace = side.settings.namespace
    stop, began = asyncio.Event(), time.monotonic()
    task = asyncio.create_task(detector.run(stop))
    try:
        async with asyncio.timeout(FIND_SECONDS_MAX):
            while not await side.pool.fetchval(f"SELECT count(*) FROM {namespace}.drift_findings"):
                await asyncio.sleep(0.05)
        found.seconds = time.monotonic() - began
        async with asyncio.timeout(FIND_SECONDS_MAX):  # the slice is noted at its end
            while not await side.pool.fetchval(f"SELECT sum(differed) FROM {namespace}.drift_checks"):
                await asyncio.sleep(0.05)
    finally:
        stop.set()
        await task
    found.differences = await side.pool.fetchval(f"SELECT count(*) FROM {namespace}.drift_findings")
    found.slice_seconds = await side.pool.fetchval(f"SELECT max(seconds) FROM {namespace}.drift_checks")


@dataclass(frozen=True)
class Changed:
    """A row, and what it was."""

    tenant: str
    site_id: str
    item_id: str
    document: bytes


async def _change_one(side: ReadSide, table: str, number: int) -> Changed:
    """Add a unit to what a row's document says is on hand, behind everybody's back."""
    row = await side.pool.fetchrow(
        f"SELECT tenant, site_id, item_id, doc FROM {table} ORDER BY tenant, site_id, item_id OFFSET $1 LIMIT 1",
        number,
    )
    assert row is not None
    changed = Changed(*row)
    members = orjson.loads(changed.document)
    members["on_hand"] += 1
    status = await side.pool.execute(
        f"UPDATE {table} SET doc = $4 WHERE (tenant, site_id, item_id) = ($1, $2, $3)",
        changed.tenant, changed.site_id, changed.item_id, orjson.dumps(members),
    )  # fmt: skip
    assert status == "UPDATE 1"
    return changed


async def _document(side: ReadSide, table: str, place: Changed) -> bytes | None:
    document: bytes | None = await side.pool.fetchval(
        f"SELECT doc FROM {table} WHERE (tenant, site_id, item_id) = ($1, $2, $3)",
        place.tenant, place.site_id, place.item_id,
    )  # fmt: skip
    return document


def run(server_url: str, rows: int, sweep_seconds: float) -> Found:
    """Measure in a database of its own on a server."""
    url = create_database(server_url)
    try:
        migrate(url, "everfold", range(8))
        return uvloop.run(measure(url, rows, sweep_seconds))
    finally:
        drop_database(server_url, url)


def main() -> int:
    """Print what was found, and say by the exit status whether it was found in time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="a PostgreSQL server's maintenance database")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sweep-seconds", type=float, default=60.0)
    given = parser.parse_args()
    found = run(given.url, given.rows, given.sweep_seconds)
    print(
        f"one changed row of {found.rows:,} was found after {found.seconds:.1f} s; the bound is "
        f"{found.sweep_seconds:g} s for a sweep and {found.slice_seconds:.1f} s for a slice: "
        f"{found.bound_seconds:.1f} s; rows that differed: {found.differences}, "
        f"{'mended' if found.mended else 'NOT MENDED'}"
    )
    return 0 if found.holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
