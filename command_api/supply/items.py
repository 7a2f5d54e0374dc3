"""The rules of items."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from command_api.decider import Context, Decider, States, To
from schemas import Event
from schemas.messages import Money
from schemas.supply import rejections
from schemas.supply.items import (
    ChangeItem,
    DiscontinueItem,
    ItemChanged,
    ItemDiscontinued,
    ItemRegistered,
    RegisterItem,
    Tracking,
)


@dataclass(frozen=True, slots=True)
class ItemState:
    """As much of an item as rules need."""

    name: str | None = None
    """None: it is not registered."""
    category: str | None = None
    list_price: Money | None = None
    tracks_lots: bool = True
    tracks_expiry: bool = True
    stocked: bool = True
    discontinued: bool = False

    @property
    def exists(self) -> bool:
        """Whether the item is registered."""
        return self.name is not None


class Items(Decider[ItemState]):
    """Items are registered once, may be changed, and end by being discontinued."""

    collection = "items"
    initial = ItemState()

    def decide(self, command: Any, states: States, context: Context) -> Sequence[Event | To]:
        """Return what follows for the item, or refuse."""
        item: ItemState = states[command.stream]
        if isinstance(command, RegisterItem):
            return [_register(item, command)]
        if not item.exists:
            raise rejections.UnknownItem(command.item_id)
        if isinstance(command, ChangeItem):
            return _change(item, command)
        if isinstance(command, DiscontinueItem):
            return [] if item.discontinued else [ItemDiscontinued()]
        return super().decide(command, states, context)

    def evolve(self, state: ItemState, event: Any) -> ItemState:
        """Add one fact."""
        match event:
            case ItemRegistered(tracking=Tracking(lot=lot, expiry=expiry)):
                return ItemState(event.name, event.category, event.list_price, lot, expiry, event.stocked)
            case ItemChanged():
                return replace(state, name=event.name, category=event.category, list_price=event.list_price)
            case ItemDiscontinued():
                return replace(state, discontinued=True)
        return state


def _register(item: ItemState, command: RegisterItem) -> ItemRegistered:
    if item.exists:
        raise rejections.AlreadyExists(command.stream)
    return ItemRegistered(
        name=command.name,
        category=command.category,
        tracking=command.tracking,
        stocked=command.stocked,
        list_price=command.list_price,
        gtin=command.gtin,
        manufacturer=command.manufacturer,
    )


def _change(item: ItemState, command: ChangeItem) -> list[Event | To]:
    given = command.model_fields_set
    name = command.name or item.name or ""
    category = command.category if "category" in given else item.category
    list_price = command.list_price if "list_price" in given else item.list_price
    if (name, category, list_price) == (item.name, item.category, item.list_price):
        return []
    return [ItemChanged(name=name, category=category, list_price=list_price)]
