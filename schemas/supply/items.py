"""Items: what is ordered and kept. An item's tracking says what every receipt of it must name."""

from typing import Annotated

from pydantic import Strict, StringConstraints

from schemas.messages import Command, Event, Flag, Id, Message, Money, Text

Gtin = Annotated[str, Strict(), StringConstraints(pattern=r"^([0-9]{8}|[0-9]{12,14})$")]
"""A Global Trade Item Number: 8, 12, 13 or 14 digits."""


class Tracking(Message):
    """What is known of each unit of an item: its lot, its expiry date."""

    lot: Flag = True
    expiry: Flag = True


class RegisterItem(Command, route="items/{item_id}/register", permission="clerk"):
    """Make an item known."""

    item_id: Id
    name: Text
    category: Text | None = None
    tracking: Tracking = Tracking()
    stocked: Flag = True
    list_price: Money | None = None
    gtin: Gtin | None = None
    manufacturer: Text | None = None


class ChangeItem(Command, route="items/{item_id}/change", permission="clerk"):
    """Change what is said of an item. What is left out stays; null takes a category or list price away."""

    item_id: Id
    name: Text | None = None
    category: Text | None = None
    list_price: Money | None = None


class DiscontinueItem(Command, route="items/{item_id}/discontinue", permission="clerk"):
    """Take no new orders for an item. What is in stock, and may still come, stays."""

    item_id: Id


class ItemRegistered(Event):
    """An item is known."""

    name: Text
    category: Text | None = None
    tracking: Tracking
    stocked: Flag
    list_price: Money | None = None
    gtin: Gtin | None = None
    manufacturer: Text | None = None


class ItemChanged(Event):
    """What is said of an item is this now, all three of it."""

    name: Text
    category: Text | None = None
    list_price: Money | None = None


class ItemDiscontinued(Event):
    """No new orders are taken for the item."""
