"""Recalls: lots that must not be used, who had them, and what became of them."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from schemas.messages import Command, Count, Event, Id, Message, Text
from schemas.supply.quantities import Lot

RECALL_ITEMS_MAX = 100
RECALL_LOTS_MAX = 1_000

RecallClass = Literal["I", "II", "III"]
Lots = Annotated[tuple[Lot, ...], Field(min_length=1, max_length=RECALL_LOTS_MAX)]


class RecalledItem(Message):
    """An item and the lots of it that are recalled; null: all."""

    item_id: Id
    lots: Lots | None = None


class HeldItem(Message):
    """An item of a recall's scope, with the sites that had it in stock when the recall was issued."""

    item_id: Id
    lots: tuple[Lot, ...] | None = None
    sites: tuple[Id, ...] = ()


class IssueRecall(Command, route="recalls/{recall_id}/issue", permission="quality"):
    """Recall lots: from this position on nothing of them is reserved or shipped anywhere."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    recall_id: Id
    recall_class: RecallClass = Field(alias="class")
    scope: Annotated[tuple[RecalledItem, ...], Field(min_length=1, max_length=RECALL_ITEMS_MAX)]

    @model_validator(mode="after")
    def _names_each_item_once(self) -> Self:
        if len({part.item_id for part in self.scope}) < len(self.scope):
            raise ValueError("scope must name each item once")
        return self


class AcknowledgeRecall(Command, route="recalls/{recall_id}/acknowledge", permission="quality"):
    """Note what a customer found of the recalled lots; again to correct it."""

    recall_id: Id
    customer_id: Id
    quantity_found: Count


class CloseRecall(Command, route="recalls/{recall_id}/close", permission="quality"):
    """End a recall. Nothing is released by itself."""

    recall_id: Id
    outcome: Text


class RecallIssued(Event):
    """Lots are recalled."""

    recall_class: RecallClass
    scope: tuple[HeldItem, ...]
    reason: Text | None = None


class RecallAcknowledged(Event):
    """A customer has answered."""

    customer_id: Id
    quantity_found: Count


class RecallClosed(Event):
    """The recall is over."""

    outcome: Text
