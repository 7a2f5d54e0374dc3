"""
Daily demand: what was ordered each day, by site and currency, in all and of each item; and each quarter of an hour.

The day is that of `ordered_at` in UTC, also for what is taken off later: so a day's net goes down when an order of
that day is rejected, cancelled, short or returned. The rows of all items together have no item, because an order of
two items is one order and not two. Units and the amount placed stay as they were ordered.

Days of other time zones than UTC begin at some quarter of an hour in UTC, all over the world and through all changes
of the clocks; so quarters add up to the days, weeks and months of any of them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from projectors.projection import Key, Projection, Stream, when
from projectors.supply.per_event import once_per_event
from schemas.supply.orders import (
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    OrderReallocated,
    OrderRejected,
    OrderReturned,
)

ALL_ITEMS = ""
QUARTERS = "quarters"


@dataclass(frozen=True, slots=True)
class Demand:
    """What was ordered of one item, or of all, on one day at one site in one currency."""

    orders: int = 0
    units: int = 0
    placed: int = 0
    net: int = 0

    def encode(self) -> bytes:
        """Return the row as JSON; sums may have more digits than 64 bits hold."""
        return b'{"orders":%d,"units":%d,"placed":%d,"net":%d}' % (
            self.orders,
            self.units,
            self.placed,
            self.net,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the row that `encode` wrote."""
        return cls(**json.loads(data))


class Amounts(NamedTuple):
    """Units and their amount in minor units."""

    units: int
    amount: int


@once_per_event
def _ordered(event: OrderPlaced) -> Mapping[str, Amounts]:
    return _by_item(
        (line.item_id, line.quantity, line.quantity * line.unit_price.amount) for line in event.lines
    )


@once_per_event
def _removed(event: Any) -> Mapping[str, Amounts]:
    return _by_item((part.item_id, part.quantity, part.amount) for part in event.removed)


def _by_item(parts: Iterable[tuple[str, int, int]]) -> Mapping[str, Amounts]:
    """Return the sums for each item, and for all of them; nothing for nothing."""
    sums: dict[str, Amounts] = {}
    for item_id, units, amount in parts:
        for name in (ALL_ITEMS, item_id):
            so_far = sums.get(name, Amounts(0, 0))
            sums[name] = Amounts(so_far.units + units, so_far.amount + amount)
    return sums


def _ordered_keys(event: OrderPlaced, stream: Stream) -> Iterable[Key]:
    day = event.ordered_at.astimezone(UTC).date().isoformat()
    return [(day, event.total.currency, event.site_id, item_id) for item_id in _ordered(event)]


def _removed_keys(event: Any, stream: Stream) -> Iterable[Key]:
    if not event.removed:
        return ()
    day = event.ordered_at.astimezone(UTC).date().isoformat()
    return [(day, event.currency, event.site_id, item_id) for item_id in _removed(event)]


def _quarter(moment: datetime) -> str:
    """Return the beginning of a moment's quarter of an hour in UTC, so that text sorts as times."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H}:{utc.minute // 15 * 15:02}Z"


def _ordered_quarter(event: OrderPlaced, stream: Stream) -> Iterable[Key]:
    return [(_quarter(event.ordered_at), event.total.currency, event.site_id)]


def _removed_quarter(event: Any, stream: Stream) -> Iterable[Key]:
    return [(_quarter(event.ordered_at), event.currency, event.site_id)] if event.removed else ()


class DailyDemand(Projection[Demand]):
    """What was ordered, day by day, and quarter by quarter of an hour."""

    name, version, row = "daily-demand", 2, Demand
    document = None
    tables = {  # noqa: RUF012 -- a declaration
        "rows": (Demand, ("day", "currency", "site_id", "item_id")),
        QUARTERS: (Demand, ("quarter", "currency", "site_id")),
    }

    @when(OrderPlaced, keys=_ordered_keys)
    def ordered(self, row: Demand | None, event: OrderPlaced, stream: Stream, key: Key) -> Demand:
        """Add an order."""
        row = row or Demand()
        units, amount = _ordered(event)[key[3]]
        return Demand(row.orders + 1, row.units + units, row.placed + amount, row.net + amount)

    @when(OrderRejected, OrderCancelled, OrderConfirmed, OrderReallocated, OrderReturned, keys=_removed_keys)
    def removed(self, row: Demand, event: Any, stream: Stream, key: Key) -> Demand:
        """Take off what no longer counts."""
        return Demand(row.orders, row.units, row.placed, row.net - _removed(event)[key[3]].amount)

    @when(OrderPlaced, keys=_ordered_quarter, table=QUARTERS)
    def ordered_then(self, row: Demand | None, event: OrderPlaced, stream: Stream) -> Demand:
        """Add an order."""
        row = row or Demand()
        units, amount = _ordered(event)[ALL_ITEMS]
        return Demand(row.orders + 1, row.units + units, row.placed + amount, row.net + amount)

    @when(
        OrderRejected, OrderCancelled, OrderConfirmed, OrderReallocated, OrderReturned, keys=_removed_quarter,
        table=QUARTERS,
    )  # fmt: skip
    def removed_then(self, row: Demand, event: Any, stream: Stream) -> Demand:
        """Take off what no longer counts."""
        return Demand(row.orders, row.units, row.placed, row.net - _removed(event)[ALL_ITEMS].amount)
