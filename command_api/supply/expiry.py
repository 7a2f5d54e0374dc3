"""
Expiry: at the end of a lot's last day at a site, what is left of it there may no longer be used.

Every arrival of a dated lot sets the timer of that lot at that site; all set the same time, so it is one timer. A
lot that comes in after its day, as in an import of old receipts, is due at once.
"""

from command_api.supply.refill import refill
from command_api.workflow import Reaction, Schedule, Trigger, Workflow, on
from schemas.supply.orders import ReallocateOrder
from schemas.supply.stock import ExpireLot, LotExpired, StockReceived, StockReturned, StockTransferredIn


class Expiry(Workflow):
    """Expires lots when their day is over, and fills the orders anew that had reserved of them."""

    name = "expiry"
    commands = (ExpireLot, ReallocateOrder)

    @on(StockReceived, StockTransferredIn, StockReturned)
    def arrived(self, trigger: Trigger) -> Reaction:
        """Set the lot's timer."""
        arrival: StockReceived | StockTransferredIn | StockReturned = trigger.event
        if arrival.usable_until is None:
            return
        site_id, item_id = trigger.ids
        yield [
            Schedule(
                key=f"{site_id}/{item_id}/{arrival.lot or ''}",
                at=arrival.usable_until,
                command=ExpireLot(site_id=site_id, item_id=item_id, lot=arrival.lot),
            )
        ]

    @on(LotExpired)
    def expired(self, trigger: Trigger) -> Reaction:
        """Fill the orders anew that lost units."""
        event: LotExpired = trigger.event
        if event.released:
            yield from refill(event.released)
