"""
What the moves of tenants cost a log in which none has moved: appends, pages and folding with their checks, and without.

    python -m tests.bench.moves URL [--turns 400]

Both ways take turns call by call, in alternating order, so that whatever else the machine does meets both; what is told
is the median of the pairs' own ratios. What is compared does the same work: positions and rows are checked.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import asyncpg
import uvloop
from uuid_utils import uuid7

from event_store.arrivals import has_moves, pieces
from event_store.log import Append, Check, Expect, NewEvent, Outcome, Page
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from infra.domains import load_registry
from infra.garbage import collect_seldom
from infra.sql import load_sql
from projectors.decoding import Decoder
from projectors.folding import Folding
from schemas.envelope import BEGINNING, CommitMark
from tests.bench.append import DATA, METADATA, PARTITION
from tests.bench.log_features import plain
from tests.bench.minimal import TENANT, MinimalBatcher
from tests.integration.projectors.accounts import METADATA as FOLDED_METADATA
from tests.toy import DOMAIN, AccountBalances, Deposited

NAMESPACE = "everfold_bench_moves"
UNLOOKED = "everfold_bench_unmoved"
BATCH, PAGE = 200, 1_000
LOOK = """EXISTS (SELECT FROM {namespace}.tenant_partitions AS t
                    WHERE t.tenant = ANY (_tenants) AND t.partition <> _partition),"""
AIM = 1.05

Way = Callable[[], Awaitable[Any]]


class Cost(NamedTuple):
    """What one path costs with the checks, and without."""

    name: str
    microseconds: float
    without: float
    ratio: float


class UnlookedLog(PostgresLog):
    """A log that asks nobody's past."""

    async def append_batch(
        self, partition: int, appends: Sequence[Append], *, known: CommitMark | None = None
    ) -> Sequence[Outcome]:
        """Append, and nothing else."""
        return await self._append_batch(partition, appends, known)


async def compared(name: str, ours: Way, without: Way, turns: int) -> Cost:
    """Let two ways take turns, and return what each took."""
    taken: dict[Way, list[float]] = {ours: [], without: []}
    for turn in range(turns + turns // 10):
        for way in (ours, without) if turn % 2 else (without, ours):
            began = time.perf_counter()
            await way()
            taken[way].append((time.perf_counter() - began) * 1e6)
    pairs = list(zip(taken[ours], taken[without], strict=True))[turns // 10 :]  # the first warm up
    ratio = median(one / other for one, other in pairs)
    return Cost(name, median(one for one, _ in pairs), median(other for _, other in pairs), ratio)


def unlooked(sql: str) -> str:
    """Return the append function without the look where its tenants live."""
    look = LOOK.format(namespace=UNLOOKED)
    assert sql.count(look) == 1, "the function is written another way now"
    return sql.replace(look, "false,")


def unmoved_page(sql: str) -> str:
    """Return the statement that reads a page with the function of before there were moves."""
    assert sql.count("page_end_v3($1") == 1
    return sql.replace("page_end_v3($1", "page_end_v2($1")


async def appends(admin: "asyncpg.Connection[Any]", url: str, turns: int) -> Sequence[Cost]:
    """Compare the function, and the log's interface."""
    batchers = [MinimalBatcher(admin, namespace, DATA, METADATA) for namespace in (NAMESPACE, UNLOOKED)]
    found = []
    for size in (1, BATCH):
        ours, without = [lambda batcher=one, size=size: batcher.append_many(size) for one in batchers]
        found.append(await compared(f"the function, {size} a commit", ours, without, turns))
    async with (
        PostgresLog({range(1): url}, NAMESPACE) as log,
        UnlookedLog({range(1): url}, NAMESPACE) as other,
    ):
        for size in (1, BATCH):
            ours, without = [
                lambda log=one, size=size: log.append_batch(PARTITION, [plain() for _ in range(size)])
                for one in (log, other)
            ]
            found.append(await compared(f"the log's interface, {size} a commit", ours, without, turns))
    heads = [
        await admin.fetchval(f'SELECT max(last_position) FROM "{namespace}".commits')
        for namespace in (NAMESPACE, UNLOOKED)
    ]
    sent = (turns + turns // 10) * (1 + BATCH)
    assert heads == [3 * sent, sent], heads
    return found


async def pages(admin: "asyncpg.Connection[Any]", turns: int) -> Sequence[Cost]:
    """Compare reading a page, and looking whether there is one."""
    own = {"events": f"events_p{PARTITION}", "commits": f"commits_p{PARTITION}"}
    sql = load_sql("event_store", "sql/queries/read_page.sql", namespace=NAMESPACE, **own)
    await admin.execute(f"ANALYZE {NAMESPACE}.events, {NAMESPACE}.commits")
    head = await admin.fetchrow(
        f"SELECT last_position, hash FROM {NAMESPACE}.commits ORDER BY last_position DESC LIMIT 1"
    )
    assert head is not None
    found = []
    for name, after in ((f"a page of up to {PAGE} events", BEGINNING), ("a look for a page", head)):
        sizes = set[int]()

        def way(statement: Any, after: Any = after, sizes: set[int] = sizes) -> Way:
            async def read() -> None:
                sizes.add(len(await statement.fetch(PARTITION, *after, PAGE, 2**40)))

            return read

        ours, without = way(await admin.prepare(sql)), way(await admin.prepare(unmoved_page(sql)))
        found.append(await compared(name, ours, without, turns))
        assert len(sizes) == 1, sizes
    return found


async def folds(page: Page, turns: int) -> Cost:
    """Compare folding a page's events with looking for arrivals first, as every follower does."""
    registry = load_registry([DOMAIN])
    rows = set()

    def fold(piece: Page) -> None:
        projection = AccountBalances()
        folding = Folding(projection, complete=True)
        folding.fold(folding.plan(Decoder(registry, [projection]).decode(piece).events))
        rows.add(len(folding.rows))

    async def ours() -> None:
        assert not has_moves(page)
        for piece in pieces(page):
            assert piece.arrival is None
            fold(piece)

    async def without() -> None:
        fold(page)

    cost = await compared(f"folding {len(page.events)} events", ours, without, turns)
    assert len(rows) == 1
    return cost


async def deposits(url: str) -> Page:
    """Append some events of the toy domain, and return them as a page."""
    async with PostgresLog({range(1): url}, NAMESPACE) as log:
        after = (await log.heads())[PARTITION]
        for start in range(0, PAGE, BATCH):
            await log.append_batch(
                PARTITION, [deposit(f"accounts/a{n % 50}") for n in range(start, start + BATCH)]
            )
        return await log.read_page(PARTITION, after, events_max=PAGE)


def deposit(stream: str) -> Append:
    """Return an append of one deposit to an account."""
    event = NewEvent(
        stream, str(uuid7()), Deposited.type, Deposited.schema_version, Deposited(cents=1).encode()
    )
    return Append(TENANT, stream, (Check(stream, Expect.ANY),), (event,), FOLDED_METADATA)


async def measure(url: str, turns: int) -> Sequence[Cost]:
    """Compare every path, in logs of its own."""
    admin = await asyncpg.connect(url)
    try:
        await clean(admin)
        for namespace in (NAMESPACE, UNLOOKED):
            await asyncio.to_thread(migrate, url, namespace, range(1))
        function = load_sql("event_store", "sql/functions/append_batch_v2.sql", namespace=UNLOOKED)
        await admin.execute(unlooked(function))
        found = [*await appends(admin, url, turns), *await pages(admin, turns)]
        found.append(await folds(await deposits(url), turns))
    finally:
        await clean(admin)
        await admin.close()
    return found


async def clean(admin: "asyncpg.Connection[Any]") -> None:
    """Leave nothing behind."""
    for namespace in (NAMESPACE, UNLOOKED):
        await admin.execute(f"DROP SCHEMA IF EXISTS {namespace} CASCADE")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--turns", type=int, default=400)
    options = parser.parse_args()
    collect_seldom()
    for cost in uvloop.run(measure(options.url, options.turns)):
        print(
            f"{cost.name:<40}{cost.microseconds:>12,.0f} µs, without {cost.without:>10,.0f} µs"
            f"{cost.ratio:>8.3f}   aim {AIM}"
        )


if __name__ == "__main__":
    main()
