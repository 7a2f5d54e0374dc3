"""
Whether followers keep up: five projections live at ten thousand events a second, and the relay with confirms.

    python -m tests.bench.following live  --url postgresql://…/ [--seconds 15] [--rate 10000]
    python -m tests.bench.following relay --url postgresql://…/ --broker amqp://… [--events 200000]

Live: goods received and orders placed, each of which three or two of the five projections fold, are appended at a
steady rate through the log's interface by a process of its own, while a projector follows; told is how far it was
behind meanwhile, as the time that it would take to append as much. Relay: what lies in the log is published to one
group, confirmed, with the checkpoint moved after each page; every event must then be in the queues, once and in order.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date

import uuid_utils
import uvloop

from event_store import topology
from event_store.checkpoints import Checkpoints
from event_store.feed_messages import decode_message
from event_store.log import Append, Check, Expect, NewEvent
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from event_store.relay import GroupRelay, Publisher
from event_store.wake import HeadWatch
from infra.garbage import collect_seldom
from infra.settings import load_settings
from projectors.read_side import ReadSide, open_read_side
from projectors.verify import verify_projections
from schemas import Event
from schemas.messages import Money
from schemas.supply.orders import OrderPlaced, PlacedLine
from schemas.supply.stock import StockReceived
from tests.bench.feed import METADATA, NOW, projecting
from tests.bench.replay import fill
from tests.services import create_database, drop_database

LIVE = ("stock-levels", "lot-traces", "orders", "order-funnel", "daily-demand")
TENANTS = 4
BATCHES_A_SECOND = 50
LOOK_SECONDS = 0.1
SETTLE_SECONDS_MAX = 60.0
RELAY_SECONDS_MAX = 120.0
QUIET_SECONDS = 5.0
RELAYED_GROUP = "projections"


@dataclass
class Kept:
    """How five projections did."""

    appended: int = 0
    seconds: float = 0.0
    behind_events: list[int] = field(default_factory=list)
    """Of the projection that was behind most, at each look."""
    caught_up_seconds: float = 0.0
    """How long after the last append the last projection had it."""
    equal: bool = False

    @property
    def rate(self) -> float:
        """How many events a second were appended."""
        return self.appended / self.seconds

    def behind_seconds(self, share: float) -> float:
        """Return how many seconds' worth of events the slowest was behind, at the most, in such a share of looks."""
        ordered = sorted(self.behind_events)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / self.rate


# -- five projections live ------------------------------------------------------------------------------------


def happened(count: int, chance: random.Random, *, only_stock: bool = False) -> list[tuple[str, Event]]:
    """Return goods received over two thousand stocks, and as many orders placed, unless only stock is wanted."""
    found: list[tuple[str, Event]] = []
    for number in range(count):
        site, item = f"S{chance.randrange(20)}", f"I{chance.randrange(100)}"
        quantity = chance.randrange(1, 50)
        if number % 2 or only_stock:
            received = StockReceived(
                lot=f"L{chance.randrange(3)}", quantity=quantity, expires_on=date(2027, 1, 1)
            )
            found.append((f"stock/{site}/{item}", received))
            continue
        price = Money(amount=250, currency="EUR")
        placed = OrderPlaced(
            customer_id=f"C{chance.randrange(500)}", site_id=site, fulfilment="complete", ordered_at=NOW,
            lines=(PlacedLine(line_no=1, item_id=item, quantity=quantity, unit_price=price, stocked=True),),
            total=Money(amount=250 * quantity, currency="EUR"),
        )  # fmt: skip
        found.append((f"orders/{uuid_utils.uuid7()}", placed))
    return found


async def append_steadily(
    url: str, rate: int, seconds: float, *, namespace: str = "everfold", only_stock: bool = False
) -> None:
    """Append so many events a second, in fifty commits a second, and print how many there were in how long."""
    collect_seldom()
    chance, size = random.Random(11), rate // BATCHES_A_SECOND
    batches = int(seconds * BATCHES_A_SECOND)
    events = happened(size * batches, chance, only_stock=only_stock)
    async with PostgresLog(load_settings(store_url=url).store_urls, namespace) as log:
        began = time.monotonic()
        for number in range(batches):
            tenant = f"t{number % TENANTS}"
            appends = [
                Append(
                    tenant, stream, [Check(stream, Expect.ANY)],
                    [NewEvent(stream, str(uuid_utils.uuid7()), event.type, event.schema_version, event.encode())],
                    METADATA,
                )
                for stream, event in events[number * size : (number + 1) * size]
            ]  # fmt: skip
            await asyncio.sleep(max(0.0, began + number / BATCHES_A_SECOND - time.monotonic()))
            await log.append_batch(await log.partition_of(tenant), appends)
        print(size * batches, time.monotonic() - began)


async def live(url: str, rate: int, seconds: float) -> Kept:
    """Follow while another process appends, then see that the rows are right."""
    collect_seldom()
    settings = load_settings(store_url=url, read_url=url, domains="supply")
    kept = Kept()
    async with open_read_side(settings, name="bench") as side:
        for number in range(TENANTS):
            await side.log.place_tenant(f"t{number}", number)
        async with projecting(side, {name: side.kinds[name] for name in LIVE}):
            appender = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.bench.following", "append", "--url", url,
                "--rate", str(rate), "--seconds", str(seconds), stdout=subprocess.PIPE,
            )  # fmt: skip
            answering = asyncio.create_task(appender.communicate())
            while not answering.done():
                await asyncio.wait([answering], timeout=LOOK_SECONDS)
                head, least = await behind(side)
                if head:
                    kept.behind_events.append(head - least)
            ended = time.monotonic()
            out, _ = await answering
            appended, took = out.split()
            kept.appended, kept.seconds = int(appended), float(took)
            async with asyncio.timeout(SETTLE_SECONDS_MAX):
                while (await behind(side)) != (kept.appended, kept.appended):
                    await asyncio.sleep(0.01)
            kept.caught_up_seconds = time.monotonic() - ended
        reports = await verify_projections(side, list(LIVE))
        kept.equal = all(report.equal for report in reports) and len(reports) == len(LIVE)
    return kept


async def behind(side: ReadSide) -> tuple[int, int]:
    """Return how many events there are, and how many of them the slowest projection has."""
    heads = sum(mark.position for mark in (await side.log.heads()).values())
    rows = await side.pool.fetch(
        f"SELECT consumer, sum(position) AS position FROM {side.settings.namespace}.checkpoints "
        "WHERE kind = 'projection' GROUP BY consumer"
    )
    least = min((int(row["position"]) for row in rows), default=0) if len(rows) == len(LIVE) else 0
    return heads, least


# -- the relay ------------------------------------------------------------------------------------------------


@dataclass
class Relayed:
    """What the relay did."""

    events: int
    seconds: float = 0.0
    found: int = 0
    """How many events were in the queues, each partition's in order and without a gap."""


async def relay(url: str, broker_url: str, events: int) -> Relayed:
    """Publish a log to one group, and read it back from the queues."""
    collect_seldom()
    settings = load_settings(store_url=url, read_url=url, domains="supply", broker_url=broker_url)
    namespace, relayed = settings.namespace, Relayed(events)
    async with open_read_side(settings, name="bench") as side:
        await fill(side.log, events)
        checkpoints = Checkpoints(side.pool, namespace)
        bench = f"{namespace}_bench_{uuid_utils.uuid7().hex[-8:]}"
        publisher = Publisher(broker_url, bench)
        async with HeadWatch([url], namespace) as watch:
            relays = [
                GroupRelay(publisher, side.log, checkpoints, watch, RELAYED_GROUP, partition)
                for partition in side.log.partitions
            ]
            try:
                for one in relays:  # queues are made once, not while it counts
                    await one.channel()
                began = time.perf_counter()
                tasks = [asyncio.create_task(one.run()) for one in relays]
                async with asyncio.timeout(RELAY_SECONDS_MAX):
                    while sum(one.checkpoint.mark.position for one in relays) < events:
                        await asyncio.sleep(0.005)
                relayed.seconds = time.perf_counter() - began
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                relayed.found = await _in_queues(
                    publisher, {one.partition: one.checkpoint.mark.position for one in relays}
                )
            finally:
                await _delete_queues(publisher, side.log.partitions)
                await publisher.close()
    return relayed


async def _in_queues(publisher: Publisher, heads: Mapping[int, int]) -> int:
    """Return how many events the queues hold, in order and without a gap, up to each partition's last."""
    connection, count = await publisher.connection(), 0
    for partition, head in heads.items():
        position = 0
        async with connection.channel() as channel:
            queue = await topology.feed_queue(channel, publisher.namespace, RELAYED_GROUP, partition)
            with suppress(TimeoutError):
                async with queue.iterator(no_ack=True, timeout=QUIET_SECONDS) as messages:
                    while position < head:
                        page = decode_message((await anext(messages)).body).page
                        if page.after.position == position:  # what does not follow is not counted
                            position = page.end.position
        count += position
    return count


async def _delete_queues(publisher: Publisher, partitions: Sequence[int]) -> None:
    connection = await publisher.connection()
    async with connection.channel() as channel:
        for partition in partitions:
            await channel.queue_delete(topology.queue_name(publisher.namespace, RELAYED_GROUP, partition))
        await channel.queue_delete(topology.dead_name(publisher.namespace))
        await channel.exchange_delete(topology.dead_name(publisher.namespace))


# -- as programs ----------------------------------------------------------------------------------------------


def run_live(server_url: str, rate: int, seconds: float) -> Kept:
    """Follow in a database of its own on a server."""
    url = create_database(server_url)
    try:
        migrate(url, "everfold", range(8))
        return uvloop.run(live(url, rate, seconds))
    finally:
        drop_database(server_url, url)


def run_relay(server_url: str, broker_url: str, events: int) -> Relayed:
    """Relay from a database of its own on a server."""
    url = create_database(server_url)
    try:
        migrate(url, "everfold", range(8))
        return uvloop.run(relay(url, broker_url, events))
    finally:
        drop_database(server_url, url)


def main() -> int:
    """Measure, print, and say by the exit status whether all that was appended was followed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("live", "relay", "append"))
    parser.add_argument("--url", required=True, help="a PostgreSQL server's maintenance database")
    parser.add_argument("--broker", default="amqp://guest:guest@127.0.0.1:5672/")
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--namespace", default="everfold", help="of append")
    parser.add_argument("--only-stock", action="store_true", help="of append: no orders")
    given = parser.parse_args()
    if given.what == "append":
        with suppress(KeyboardInterrupt):
            uvloop.run(
                append_steadily(
                    given.url,
                    given.rate,
                    given.seconds,
                    namespace=given.namespace,
                    only_stock=given.only_stock,
                )
            )
        return 0
    if given.what == "relay":
        relayed = run_relay(given.url, given.broker, given.events)
        rate = relayed.events / relayed.seconds
        print(
            f"relay {rate:,.0f} events/s with confirms; {relayed.found:,} of {relayed.events:,} in the queues"
        )
        return 0 if relayed.found == relayed.events else 1
    kept = run_live(given.url, given.rate, given.seconds)
    print(
        f"{kept.rate:,.0f} events/s appended for {kept.seconds:.1f} s; the slowest of {len(LIVE)} projections was "
        f"behind by {kept.behind_seconds(0.5):.2f} s (median), {kept.behind_seconds(0.99):.2f} s (p99), and had the "
        f"last {kept.caught_up_seconds:.2f} s after; rows {'equal' if kept.equal else 'DO NOT EQUAL'} their fold"
    )
    return 0 if kept.equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
