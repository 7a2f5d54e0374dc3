"""
Stock levels: what each site has of each item, by lot; and every lot at every site as a row of its own.

A lot stays in the document when nothing of it is left, because its figures say where it went. Lots stand in the
order in which they first came in.

Rows are not frozen, though nothing changes them, because freezing doubles the cost of making one, and every stock
event makes some.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Self

import orjson

from projectors.projection import Key, Projection, Stream, when
from projectors.supply.documents import OPTIONS, Document
from projectors.supply.layers import Layers
from projectors.supply.stock_changes import STOCK_EVENTS, LotChange, change_of, changes_of


@dataclass(slots=True)
class Lot(Document):
    """What one site has, and has had, of one lot."""

    lot: str | None
    expires_on: str | None = None
    on_hand: int = 0
    reserved: int = 0
    quarantined: int = 0
    expired: int = 0
    received: int = 0
    adjusted: int = 0
    returned: int = 0
    transferred: int = 0
    shipped: int = 0
    disposed: int = 0

    def plus(self, change: LotChange) -> "Lot":
        """Return the lot after a change."""
        return Lot(
            self.lot,
            self.expires_on or (change.expires_on.isoformat() if change.expires_on else None),
            self.on_hand + change.on_hand,
            self.reserved + change.reserved,
            self.quarantined + change.quarantined,
            self.expired + change.expired,
            self.received + change.received,
            self.adjusted + change.adjusted,
            self.returned + change.returned,
            self.transferred + change.transferred,
            self.shipped + change.shipped,
            self.disposed + change.disposed,
        )


@dataclass(slots=True)
class StockLevel:
    """What one site has of one item."""

    site_id: str
    item_id: str
    stream: str
    version: int
    updated_at: datetime
    on_hand: int
    reserved: int
    quarantined: int
    expired: int
    lots: Layers[str | None, Lot]

    @property
    def available(self) -> int:
        """How many units may be reserved."""
        return self.on_hand - self.reserved - self.quarantined - self.expired

    def encode(self) -> bytes:
        """Return the document."""
        return orjson.dumps(
            {
                "site_id": self.site_id,
                "item_id": self.item_id,
                "stream": self.stream,
                "version": self.version,
                "updated_at": self.updated_at,
                "on_hand": self.on_hand,
                "reserved": self.reserved,
                "quarantined": self.quarantined,
                "expired": self.expired,
                "available": self.available,
                "lots": list(self.lots.whole().values()),
            },
            option=OPTIONS,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the row that `encode` wrote."""
        members: dict[str, Any] = orjson.loads(data)
        del members["available"]
        members["updated_at"] = datetime.fromisoformat(members["updated_at"])
        members["lots"] = Layers({lot["lot"]: Lot(**lot) for lot in members["lots"]})
        return cls(**members)


@dataclass(slots=True)
class LotAtSite:
    """One lot at one site, as the list of lots shows it."""

    site_id: str
    item_id: str
    lot: str | None
    expires_on: date | None
    on_hand: int
    reserved: int
    quarantined: int
    expired: int

    def encode(self) -> bytes:
        """Return the document."""
        return orjson.dumps(
            {
                "site_id": self.site_id,
                "item_id": self.item_id,
                "lot": self.lot,
                "expires_on": self.expires_on,
                "on_hand": self.on_hand,
                "reserved": self.reserved,
                "quarantined": self.quarantined,
                "expired": self.expired,
                "available": self.on_hand - self.reserved - self.quarantined - self.expired,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the row that `encode` wrote."""
        members: dict[str, Any] = orjson.loads(data)
        del members["available"]
        if members["expires_on"] is not None:
            members["expires_on"] = date.fromisoformat(members["expires_on"])
        return cls(**members)


def _lot_keys(event: Any, stream: Stream) -> Iterable[Key]:
    site_id, item_id = stream.ids
    return [(site_id, item_id, change.lot or "") for change in changes_of(event)]


class StockLevels(Projection[StockLevel]):
    """What every site has of every item, and of every lot."""

    name, version, row, key = "stock-levels", 1, StockLevel, ("site_id", "item_id")
    tables = {  # noqa: RUF012  # a declaration, like the names beside it
        "rows": (StockLevel, ("site_id", "item_id")),
        "lots": (LotAtSite, ("site_id", "item_id", "lot")),
    }

    @when(*STOCK_EVENTS)
    def moved(self, row: StockLevel | None, event: Any, stream: Stream) -> StockLevel:
        """Add an event's changes to the level and to its lots."""
        if row is None:
            site_id, item_id = stream.ids
            row = StockLevel(site_id, item_id, stream.name, 0, stream.recorded_at, 0, 0, 0, 0, Layers({}))
        lots = row.lots
        on_hand, reserved, quarantined, expired = row.on_hand, row.reserved, row.quarantined, row.expired
        for change in changes_of(event):
            lots = lots.put(change.lot, (lots.get(change.lot) or Lot(change.lot)).plus(change))
            on_hand += change.on_hand
            reserved += change.reserved
            quarantined += change.quarantined
            expired += change.expired
        return StockLevel(
            row.site_id,
            row.item_id,
            row.stream,
            stream.version,
            stream.recorded_at,
            on_hand,
            reserved,
            quarantined,
            expired,
            lots,
        )

    @when(*STOCK_EVENTS, keys=_lot_keys, table="lots")
    def moved_lot(self, row: LotAtSite | None, event: Any, stream: Stream, key: Key) -> LotAtSite:
        """Add an event's change to one lot."""
        site_id, item_id, label = key
        lot = label or None
        if row is None:
            row = LotAtSite(site_id, item_id, lot, None, 0, 0, 0, 0)
        change = change_of(event, lot)
        return LotAtSite(
            site_id,
            item_id,
            lot,
            row.expires_on or change.expires_on,
            row.on_hand + change.on_hand,
            row.reserved + change.reserved,
            row.quarantined + change.quarantined,
            row.expired + change.expired,
        )
