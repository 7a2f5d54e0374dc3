"""Who has a customer's reference now. It has no commands: orders claim and release references."""

from dataclasses import dataclass
from typing import Any

from command_api.decider import Decider
from schemas.supply.references import ReferenceClaimed, ReferenceReleased


@dataclass(frozen=True, slots=True)
class ReferenceState:
    """The open order that has the reference."""

    order_id: str | None = None


class References(Decider[ReferenceState]):
    """A reference belongs to one open order of its customer at a time."""

    collection = "references"
    initial = ReferenceState()

    def evolve(self, state: ReferenceState, event: Any) -> ReferenceState:
        """Add one fact."""
        match event:
            case ReferenceClaimed(order_id=order_id):
                return ReferenceState(order_id)
            case ReferenceReleased():
                return ReferenceState()
        return state
