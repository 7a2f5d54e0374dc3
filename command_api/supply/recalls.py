"""
The rules of recalls. Issuing one holds its lots in the same append, so it takes effect at its own position.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from command_api.decider import Context, Decider, States, To
from schemas import Event
from schemas.errors import NotFound
from schemas.supply import rejections
from schemas.supply.distribution import HoldSettled, LotsHeld
from schemas.supply.recalls import (
    AcknowledgeRecall,
    CloseRecall,
    HeldItem,
    IssueRecall,
    RecallAcknowledged,
    RecallClosed,
    RecallIssued,
)


@dataclass(frozen=True, slots=True)
class RecallState:
    """As much of a recall as rules need."""

    items: tuple[str, ...] = ()
    """Empty: it has not been issued."""
    is_closed: bool = False
    found: dict[str, int] = field(default_factory=dict)
    """What customers have found."""


class Recalls(Decider[RecallState]):
    """A recall is issued, acknowledged by customers, and closed."""

    collection = "recalls"
    initial = RecallState()

    def streams(self, command: Any) -> Sequence[str]:
        """Name each item of the scope, and where it went."""
        if not isinstance(command, IssueRecall):
            return ()
        ids = [part.item_id for part in command.scope]
        return [f"{collection}/{item_id}" for item_id in ids for collection in ("items", "distribution")]

    def further_streams(self, command: Any, states: States) -> Sequence[str]:
        """Name where the recall's items went, when it is about to be closed."""
        if not isinstance(command, CloseRecall):
            return ()
        return [f"distribution/{item_id}" for item_id in states[command.stream].items]

    def decide(self, command: Any, states: States, context: Context) -> Sequence[Event | To]:
        """Return what follows for the recall, or refuse."""
        recall: RecallState = states[command.stream]
        if isinstance(command, IssueRecall):
            return _issue(recall, command, states, context)
        if not recall.items:
            raise NotFound(command.stream)
        match command:
            case AcknowledgeRecall():
                return _acknowledge(recall, command)
            case CloseRecall():
                return _close(recall, command)
        return super().decide(command, states, context)

    def evolve(self, state: RecallState, event: Any) -> RecallState:
        """Add one fact."""
        match event:
            case RecallIssued():
                return RecallState(tuple(part.item_id for part in event.scope))
            case RecallAcknowledged():
                return replace(state, found={**state.found, event.customer_id: event.quantity_found})
            case RecallClosed():
                return replace(state, is_closed=True)
        return state


def _issue(recall: RecallState, command: IssueRecall, states: States, context: Context) -> list[Event | To]:
    if recall.items:
        raise rejections.AlreadyExists(command.stream)
    for part in command.scope:
        if not states[f"items/{part.item_id}"].exists:
            raise rejections.UnknownItem(part.item_id)
    scope = tuple(
        HeldItem(
            item_id=part.item_id,
            lots=part.lots,
            sites=tuple(sorted(states[f"distribution/{part.item_id}"].sites)),
        )
        for part in command.scope
    )
    issued = RecallIssued(recall_class=command.recall_class, scope=scope, reason=context.reason)
    holds = (
        To(f"distribution/{part.item_id}", LotsHeld(recall_id=command.recall_id, lots=part.lots))
        for part in command.scope
    )
    return [issued, *holds]


def _acknowledge(recall: RecallState, command: AcknowledgeRecall) -> list[Event | To]:
    if recall.found.get(command.customer_id) == command.quantity_found:
        return []
    if recall.is_closed:
        raise rejections.RecallClosed(command.recall_id)
    return [RecallAcknowledged(customer_id=command.customer_id, quantity_found=command.quantity_found)]


def _close(recall: RecallState, command: CloseRecall) -> list[Event | To]:
    if recall.is_closed:
        return []
    settled = HoldSettled(recall_id=command.recall_id)
    return [
        RecallClosed(outcome=command.outcome),
        *(To(f"distribution/{item_id}", settled) for item_id in recall.items),
    ]
