"""
Where an item went, its lots' dates, and what recalls hold of it. It has no commands.

A recall's hold lasts: closing the recall only allows each site to release its lots, and what a site released is
known to that site's stock.
"""

from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from command_api.decider import Decider
from command_api.supply.buckets import Buckets
from schemas.supply.distribution import HoldSettled, ItemStocked, LotDated, LotsHeld


@dataclass(frozen=True, slots=True)
class Hold:
    """What one recall holds of the item."""

    recall_id: str
    lots: frozenset[str] | None
    """None: all of them."""
    is_open: bool = True

    def covers(self, lot: str | None) -> bool:
        """Whether the recall holds a lot."""
        return self.lots is None or lot in self.lots


@dataclass(frozen=True, slots=True)
class DistributionState:
    """What is known of an item over all sites."""

    sites: frozenset[str] = frozenset()
    dates: Buckets[date] = field(default_factory=Buckets)
    """The expiry dates of lots, where the item tracks both."""
    holds: tuple[Hold, ...] = ()

    def holding(self, lot: str | None) -> tuple[str, ...]:
        """Return the recalls that hold a lot, closed ones too."""
        return tuple(hold.recall_id for hold in self.holds if hold.covers(lot)) if self.holds else ()

    def holding_open(self, lot: str | None) -> tuple[str, ...]:
        """Return the open recalls that hold a lot."""
        return tuple(hold.recall_id for hold in self.holds if hold.is_open and hold.covers(lot))


class Distribution(Decider[DistributionState]):
    """Facts of receipts and recalls, by item."""

    collection = "distribution"
    initial = DistributionState()

    def evolve(self, state: DistributionState, event: Any) -> DistributionState:
        """Add one fact."""
        match event:
            case LotDated(lot=lot, expires_on=expires_on):
                return DistributionState(state.sites, state.dates.put(lot, expires_on), state.holds)
            case ItemStocked(site_id=site_id):
                return replace(state, sites=state.sites | {site_id})
            case LotsHeld(recall_id=recall_id, lots=lots):
                hold = Hold(recall_id, None if lots is None else frozenset(lots))
                return replace(state, holds=(*state.holds, hold))
            case HoldSettled(recall_id=recall_id):
                holds = (replace(h, is_open=False) if h.recall_id == recall_id else h for h in state.holds)
                return replace(state, holds=tuple(holds))
        return state
