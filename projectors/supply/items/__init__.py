"""Items: one row each, made from its stream."""

from dataclasses import dataclass, replace

from projectors.projection import Projection, Stream, when
from projectors.supply.documents import Document, Json
from schemas.messages import Money
from schemas.supply.items import ItemChanged, ItemDiscontinued, ItemRegistered


@dataclass(frozen=True, slots=True)
class Item(Document):
    """What can be ordered and kept."""

    item_id: str
    stream: str
    version: int
    status: str
    name: str
    category: str | None
    tracking: Json
    stocked: bool
    list_price: Json | None
    gtin: str | None
    manufacturer: str | None


class Items(Projection[Item]):
    """Every item, and what is said of it."""

    name, version, row, key = "items", 1, Item, ("item_id",)

    @when(ItemRegistered)
    def registered(self, row: Item | None, event: ItemRegistered, stream: Stream) -> Item:
        """Put the item on the list."""
        return Item(
            item_id=stream.ids[0],
            stream=stream.name,
            version=stream.version,
            status="active",
            name=event.name,
            category=event.category,
            tracking={"lot": event.tracking.lot, "expiry": event.tracking.expiry},
            stocked=event.stocked,
            list_price=_money(event.list_price),
            gtin=event.gtin,
            manufacturer=event.manufacturer,
        )

    @when(ItemChanged)
    def changed(self, row: Item, event: ItemChanged, stream: Stream) -> Item:
        """Say anew what is said of it."""
        return replace(
            row,
            version=stream.version,
            name=event.name,
            category=event.category,
            list_price=_money(event.list_price),
        )

    @when(ItemDiscontinued)
    def discontinued(self, row: Item, event: ItemDiscontinued, stream: Stream) -> Item:
        """Mark it as no longer ordered."""
        return replace(row, version=stream.version, status="discontinued")


def _money(money: Money | None) -> Json | None:
    return None if money is None else {"amount": money.amount, "currency": money.currency}
