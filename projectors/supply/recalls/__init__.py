"""
Recalls: what each holds, whom it concerns, and what became of it.

Made from the recall's stream, from what its lots' stock does because of it, and from orders that were shipped
from them. `version` is that of the recall's stream.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, Self

import orjson

from projectors.projection import Key, Projection, Stream, when
from projectors.supply.documents import OPTIONS, Json
from projectors.supply.layers import Layers
from schemas.messages import format_instant
from schemas.supply.orders import OrderRecalled
from schemas.supply.recalls import RecallAcknowledged, RecallClosed, RecallIssued
from schemas.supply.stock import (
    QuarantineReleased,
    StockAdjusted,
    StockDisposed,
    StockQuarantined,
    StockReceived,
    StockReturned,
    StockTransferredIn,
)


class Customer(NamedTuple):
    """What a customer was sent of the recalled lots, and has found."""

    shipped: int = 0
    found: int | None = None
    acknowledged_at: str | None = None


Place = tuple[str, str, str | None]
"""Site, item and lot."""


@dataclass(frozen=True, slots=True)
class Recall:
    """A recall."""

    recall_id: str
    stream: str
    version: int
    status: str
    recall_class: str
    scope: tuple[Json, ...]
    reason: str | None
    issued_at: datetime
    closed_at: datetime | None
    outcome: str | None
    stock: Layers[Place, int]
    """Quarantined units."""
    orders: Layers[str, None]
    """In the order in which they were marked."""
    customers: Layers[str, Customer]

    def encode(self) -> bytes:
        """Return the document."""
        return orjson.dumps(
            {
                "recall_id": self.recall_id,
                "stream": self.stream,
                "version": self.version,
                "status": self.status,
                "class": self.recall_class,
                "scope": self.scope,
                "reason": self.reason,
                "issued_at": self.issued_at,
                "closed_at": self.closed_at,
                "outcome": self.outcome,
                "stock": [
                    {"site_id": site_id, "item_id": item_id, "lot": lot, "quarantined": units}
                    for (site_id, item_id, lot), units in self.stock.whole().items()
                ],
                "orders": list(self.orders),
                "customers": [
                    {"customer_id": customer_id, **customer._asdict()}
                    for customer_id, customer in self.customers.whole().items()
                ],
            },
            option=OPTIONS,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the row that `encode` wrote."""
        members: dict[str, Any] = orjson.loads(data)
        closed_at = members["closed_at"]
        members |= {
            "recall_class": members.pop("class"),
            "scope": tuple(members["scope"]),
            "issued_at": datetime.fromisoformat(members["issued_at"]),
            "closed_at": closed_at and datetime.fromisoformat(closed_at),
            "stock": Layers(
                {
                    (part["site_id"], part["item_id"], part["lot"]): part["quarantined"]
                    for part in members["stock"]
                }
            ),
            "orders": Layers(dict.fromkeys(members["orders"])),
            "customers": Layers({part.pop("customer_id"): Customer(**part) for part in members["customers"]}),
        }
        return cls(**members)

    def with_customer(self, customer_id: str, **changes: Any) -> Layers[str, Customer]:
        """Return the customers, one of them changed."""
        customer = self.customers.get(customer_id, Customer())
        return self.customers.put(customer_id, customer._replace(**changes))


def _held_by(event: Any, stream: Stream) -> Iterable[Key]:
    return [(recall_id,) for recall_id in event.held_by]


def _quarantined_by(event: StockQuarantined, stream: Stream) -> Iterable[Key]:
    recalls = event.held_by if event.recall_id is None else (*event.held_by, event.recall_id)
    return [(recall_id,) for recall_id in recalls]


def _cleared(event: QuarantineReleased, stream: Stream) -> Iterable[Key]:
    return [(recall_id,) for recall_id in event.cleared]


class Recalls(Projection[Recall]):
    """Every recall."""

    name, version, row, key = "recalls", 1, Recall, ("recall_id",)

    @when(RecallIssued)
    def issued(self, row: Recall | None, event: RecallIssued, stream: Stream) -> Recall:
        """Begin the recall's row."""
        return Recall(
            recall_id=stream.ids[0],
            stream=stream.name,
            version=stream.version,
            status="open",
            recall_class=event.recall_class,
            scope=tuple(
                {"item_id": part.item_id, "lots": None if part.lots is None else list(part.lots)}
                for part in event.scope
            ),
            reason=event.reason,
            issued_at=stream.occurred_at,
            closed_at=None,
            outcome=None,
            stock=Layers({}),
            orders=Layers({}),
            customers=Layers({}),
        )

    @when(RecallAcknowledged)
    def acknowledged(self, row: Recall, event: RecallAcknowledged, stream: Stream) -> Recall:
        """Note what a customer has found."""
        customers = row.with_customer(
            event.customer_id,
            found=event.quantity_found,
            acknowledged_at=format_instant(stream.occurred_at),
        )
        return replace(row, version=stream.version, customers=customers)

    @when(RecallClosed)
    def closed(self, row: Recall, event: RecallClosed, stream: Stream) -> Recall:
        """Note the end."""
        return replace(
            row,
            version=stream.version,
            status="closed",
            closed_at=stream.occurred_at,
            outcome=event.outcome,
        )

    @when(OrderRecalled, keys=lambda event, stream: [(event.recall_id,)])
    def shipped_from(self, row: Recall | None, event: OrderRecalled, stream: Stream) -> Recall | None:
        """Add an order that was shipped from the recalled lots, and its customer; of no recall, nothing."""
        if row is None:
            return None
        units = sum(part.quantity for part in event.lines)
        before = row.customers.get(event.customer_id, Customer()).shipped
        return replace(
            row,
            orders=row.orders.put(stream.ids[0], None),
            customers=row.with_customer(event.customer_id, shipped=before + units),
        )

    @when(StockQuarantined, keys=_quarantined_by)
    def quarantined(self, row: Recall, event: StockQuarantined, stream: Stream) -> Recall:
        """Take over how much of a lot is in quarantine at a site."""
        return replace(row, stock=row.stock.put(_place(event, stream), event.quarantined))

    @when(StockReceived, StockTransferredIn, StockReturned, keys=_held_by)
    def came_in(self, row: Recall, event: Any, stream: Stream) -> Recall:
        """Take over how much is in quarantine after more came in of a lot that the recall holds."""
        return replace(row, stock=row.stock.put(_place(event, stream), event.quarantined_now))

    @when(StockAdjusted, keys=_held_by)
    def counted(self, row: Recall, event: StockAdjusted, stream: Stream) -> Recall:
        """Follow a count."""
        return _moved(row, event, stream, event.quarantined)

    @when(StockDisposed, keys=_held_by)
    def destroyed(self, row: Recall, event: StockDisposed, stream: Stream) -> Recall:
        """Take off what was destroyed."""
        return _moved(row, event, stream, -event.quarantined)

    @when(QuarantineReleased, keys=_cleared)
    def released(self, row: Recall, event: QuarantineReleased, stream: Stream) -> Recall:
        """Note that a site no longer keeps the lot in quarantine."""
        return replace(row, stock=row.stock.put(_place(event, stream), 0))


def _place(event: Any, stream: Stream) -> Place:
    site_id, item_id = stream.ids
    return site_id, item_id, event.lot


def _moved(row: Recall, event: Any, stream: Stream, units: int) -> Recall:
    place = _place(event, stream)
    return replace(row, stock=row.stock.put(place, row.stock.get(place, 0) + units))
