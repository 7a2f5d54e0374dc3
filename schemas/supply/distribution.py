"""
Where an item went and what recalls hold of it: `distribution/{item_id}`.

No commands: these are facts of other collections' decisions. Receipts, reservations and shipments read the stream
and expect it unchanged. So a recall takes effect at its own position everywhere, and a lot has the same expiry
date everywhere.
"""

from schemas.messages import Day, Event, Id
from schemas.supply.quantities import Lot


class ItemStocked(Event):
    """The item first came into a site."""

    site_id: Id


class LotDated(Event):
    """A lot first came in anywhere, and with it its expiry date. Only of items that track both."""

    lot: Lot
    expires_on: Day


class LotsHeld(Event):
    """A recall holds lots of the item: the named ones, or all there are and will be."""

    recall_id: Id
    lots: tuple[Lot, ...] | None = None


class HoldSettled(Event):
    """The recall is closed: what it holds stays held until it is released site by site."""

    recall_id: Id
