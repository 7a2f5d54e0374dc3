"""
Lot traces: where each lot came from, where it is, and where it went.

A lot may have any number of movements, so each is a row of its own and is read a page at a time, in the order of
the log. What a recall holds is kept by item, because it may hold lots that never were in stock or are still to
come; the view `traces` brings it and the lot's own row together. Units without a lot have no trace.

A recall's hold outlasts its closing: then each site releases its lots by itself. So a lot is on hold while an open
recall covers it, or a closed one that not every site of the lot has released it from.

Rows are not frozen, though nothing changes them, because freezing doubles the cost of making one, and every stock
event makes some.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

import orjson

from projectors.projection import Key, Projection, Stream, when
from projectors.supply.documents import OPTIONS, Document
from projectors.supply.stock_changes import STOCK_EVENTS, LotChange, change_of, changes_of
from schemas import Event
from schemas.supply.distribution import HoldSettled, LotsHeld
from schemas.supply.stock import (
    QuarantineReleased,
    StockAdjusted,
    StockDisposed,
    StockReceived,
    StockReturned,
    StockShipped,
    StockTransferredIn,
    StockTransferredOut,
)

MOVEMENTS: dict[type[Event], str] = {
    StockReceived: "received",
    StockAdjusted: "adjusted",
    StockTransferredIn: "transferred",
    StockTransferredOut: "transferred",
    StockShipped: "shipped",
    StockReturned: "returned",
    StockDisposed: "disposed",
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ABOUT = ("order_id", "customer_id", "shipment_id", "supplier_id", "document")
SAID = {event: [name for name in ABOUT if name in event.model_fields] for event in MOVEMENTS}
"""What of a movement's surroundings each event says."""


class AtSite(NamedTuple):
    """What one site has of a lot."""

    on_hand: int = 0
    reserved: int = 0
    quarantined: int = 0
    expired: int = 0


@dataclass(slots=True)
class Lot:
    """A lot over all sites."""

    item_id: str
    lot: str
    expires_on: str | None = None
    received: int = 0
    on_hand: int = 0
    shipped: int = 0
    returned: int = 0
    disposed: int = 0
    sites: Mapping[str, AtSite] = field(default_factory=dict)
    released: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The sites that a closed recall no longer holds it at."""

    def encode(self) -> bytes:
        """Return the document, and which sites have released the lot: the view takes that out."""
        return orjson.dumps(
            {
                "item_id": self.item_id,
                "lot": self.lot,
                "expires_on": self.expires_on,
                "totals": {
                    "received": self.received,
                    "on_hand": self.on_hand,
                    "shipped": self.shipped,
                    "returned": self.returned,
                    "disposed": self.disposed,
                },
                "stock": [{"site_id": site_id, **there._asdict()} for site_id, there in self.sites.items()],
                "released": self.released,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the row that `encode` wrote."""
        members: dict[str, Any] = orjson.loads(data)
        return cls(
            members["item_id"],
            members["lot"],
            members["expires_on"],
            **members["totals"],
            sites={there.pop("site_id"): AtSite(**there) for there in members["stock"]},
            released={recall_id: tuple(sites) for recall_id, sites in members["released"].items()},
        )

    def plus(self, site_id: str, change: LotChange) -> "Lot":
        """Return the lot after a change at one site."""
        there = self.sites.get(site_id, AtSite())
        changed = AtSite(
            there.on_hand + change.on_hand,
            there.reserved + change.reserved,
            there.quarantined + change.quarantined,
            there.expired + change.expired,
        )
        return Lot(
            self.item_id,
            self.lot,
            self.expires_on or (change.expires_on.isoformat() if change.expires_on else None),
            self.received + change.received,
            self.on_hand + change.on_hand,
            self.shipped + change.shipped,
            self.returned + change.returned,
            self.disposed + change.disposed,
            {**self.sites, site_id: changed},
            self.released,
        )

    def freed(self, site_id: str, recalls: Iterable[str]) -> "Lot":
        """Return the lot after a site has released it from closed recalls."""
        released = dict(self.released)
        for recall_id in recalls:
            released[recall_id] = tuple(dict.fromkeys((*released.get(recall_id, ()), site_id)))
        return replace(self, released=released)


@dataclass(slots=True)
class Movement(Document):
    """Units of a lot came, went, or were counted anew. What left a site by count or transfer is negative."""

    kind: str
    site_id: str
    quantity: int
    occurred_at: datetime
    order_id: str | None = None
    customer_id: str | None = None
    shipment_id: str | None = None
    supplier_id: str | None = None
    document: str | None = None

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the row that `encode` wrote."""
        members: dict[str, Any] = orjson.loads(data)
        members["occurred_at"] = datetime.fromisoformat(members["occurred_at"])
        return cls(**members)


@dataclass(frozen=True, slots=True)
class Hold:
    """What one recall holds of an item."""

    recall_id: str
    lots: tuple[str, ...] | None
    """None: all of them."""
    is_open: bool

    def encode(self) -> bytes:
        """Return the row as JSON."""
        return orjson.dumps(self, option=OPTIONS)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the row that `encode` wrote."""
        members: dict[str, Any] = orjson.loads(data)
        lots = members["lots"]
        return cls(members["recall_id"], None if lots is None else tuple(lots), members["is_open"])


def _lot_keys(event: Any, stream: Stream) -> Iterable[Key]:
    item_id = stream.ids[1]
    return [(item_id, change.lot) for change in changes_of(event) if change.lot is not None]


def _movement_keys(event: Any, stream: Stream) -> Iterable[Key]:
    at = f"{(stream.recorded_at - EPOCH) // timedelta(microseconds=1):016x}{stream.position:016x}"
    return [(*key, at) for key in _lot_keys(event, stream)]


def _hold_keys(event: LotsHeld | HoldSettled, stream: Stream) -> Iterable[Key]:
    return [(stream.ids[0], event.recall_id)]


class LotTraces(Projection[Lot]):
    """Every lot's way."""

    name, version, row, key = "lot-traces", 2, Lot, ("item_id", "lot")
    tables = {  # noqa: RUF012  # a declaration, like the names beside it
        "rows": (Lot, ("item_id", "lot")),
        "movements": (Movement, ("item_id", "lot", "at")),
        "holds": (Hold, ("item_id", "recall_id")),
    }
    document = None

    @when(*STOCK_EVENTS, keys=_lot_keys)
    def changed(self, row: Lot | None, event: Any, stream: Stream, key: Key) -> Lot:
        """Add an event's change to the lot."""
        item_id, label = key
        site_id = stream.ids[0]
        change = change_of(event, label)
        lot = (row or Lot(item_id, label)).plus(site_id, change)
        if isinstance(event, QuarantineReleased) and event.cleared:
            return lot.freed(site_id, event.cleared)
        return lot

    @when(*MOVEMENTS, keys=_movement_keys, table="movements", makes_row=True)
    def moved(self, row: Movement | None, event: Any, stream: Stream, key: Key) -> Movement:
        """Write down a movement."""
        kind = MOVEMENTS[type(event)]
        units = getattr(change_of(event, key[1]), kind)
        about = {name: getattr(event, name) for name in SAID[type(event)]}
        return Movement(kind, stream.ids[0], units, stream.occurred_at, **about)

    @when(LotsHeld, keys=_hold_keys, table="holds")
    def held(self, row: Hold | None, event: LotsHeld, stream: Stream) -> Hold:
        """Note what a recall holds."""
        return Hold(event.recall_id, event.lots, is_open=True)

    @when(HoldSettled, keys=_hold_keys, table="holds")
    def settled(self, row: Hold, event: HoldSettled, stream: Stream) -> Hold:
        """Note that sites may release the lots."""
        return replace(row, is_open=False)
