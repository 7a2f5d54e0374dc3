"""
Makes up a story: command after command, most of them fitting what has happened so far, some of them wild.

Only the seed decides. Small numbers of sites, items and lots make the commands meet each other.
"""

from datetime import date, timedelta
from random import Random
from typing import Any

from command_api.supply.order_state import OrderState
from command_api.supply.stock_state import StockState
from infra.testing.log import NOON, Log, Moment
from schemas import Command, Rejection
from schemas.errors import NotFound
from schemas.messages import Money
from schemas.supply.approvals import EscalateApproval, RemindOfApproval
from schemas.supply.items import DiscontinueItem, RegisterItem, Tracking
from schemas.supply.orders import (
    ApproveOrder,
    CancelOrder,
    ConfirmOrder,
    DeclineOrder,
    DeliverOrder,
    LapseApproval,
    LineToPlace,
    MarkOrderRecalled,
    PlaceOrder,
    ReallocateOrder,
    RejectOrder,
    RequestApproval,
    ReturnOrder,
    ShipOrder,
    TimeOutOrder,
)
from schemas.supply.quantities import LineLot, LineQuantity
from schemas.supply.recalls import AcknowledgeRecall, CloseRecall, IssueRecall, RecalledItem
from schemas.supply.stock import (
    AdjustStock,
    DisposeStock,
    ExpireLot,
    QuarantineRecalledStock,
    QuarantineStock,
    ReceiveStock,
    ReleaseQuarantine,
    ReserveStock,
    TransferStock,
    UnreserveStock,
)
from tests.unit.supply.words import OTHER_SITE, SITE, SUPPLY

SITES = ("S1", "S2")
TRACKINGS = {
    "BOTH": Tracking(lot=True, expiry=True),
    "LOT": Tracking(lot=True, expiry=False),
    "DATE": Tracking(lot=False, expiry=True),
    "NONE": Tracking(lot=False, expiry=False),
}
DATES = {"A": date(2026, 1, 20), "B": date(2026, 1, 30), "C": date(2026, 2, 20), "D": date(2027, 1, 1)}
PRICE = Money(amount=7, currency="EUR")
STEP_HOURS_MAX = 9
OPENING_RECEIPTS = 12


def a_world() -> Log:
    """Return a log with sites and items."""
    log = Log(decider() for decider in SUPPLY)
    for command in (SITE, OTHER_SITE):
        log.carry_out(command, Moment())
    for item_id, tracking in TRACKINGS.items():
        log.carry_out(RegisterItem(item_id=item_id, name=item_id, tracking=tracking), Moment())
    log.carry_out(RegisterItem(item_id="FREIGHT", name="Freight", stocked=False), Moment())
    return log


class Story:
    """A log, and what may come next."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.log = a_world()
        self.at = NOON
        self.counts = {"orders": 0, "recalls": 0, "shipments": 0, "returns": 0}
        self.refusals: list[tuple[str, str]] = []
        for _ in range(OPENING_RECEIPTS):
            self.carry_out(self.receive())

    def step(self) -> Command | None:
        """Let something happen; return the last command that was tried."""
        self.at += timedelta(hours=self.random.randint(0, STEP_HOURS_MAX))
        tell = self.random.choice(CHAPTERS)
        command: Command | None = tell(self)
        if command is not None:
            self.carry_out(command)
        return command

    def carry_out(self, command: Command) -> None:
        """Carry out a command; a refusal is as good."""
        at = self.at - timedelta(hours=self.random.choice((0, 0, 0, 30)))
        try:
            self.log.carry_out(command, Moment(now=self.at, occurred_at=at))
        except (Rejection, NotFound) as refusal:
            self.refusals.append((command.command_name, refusal.slug))

    # -- what is there to choose from

    def number(self, kind: str) -> str:
        self.counts[kind] += 1
        return f"{kind[0].upper()}{self.counts[kind]}"

    def stream(self) -> dict[str, Any]:
        return {"site_id": self.random.choice(SITES), "item_id": self.random.choice(sorted(TRACKINGS))}

    def lot(self) -> dict[str, Any]:
        """Name a stock stream and mostly a lot that is there."""
        target = self.stream()
        state: StockState = self.log.state(f"stock/{target['site_id']}/{target['item_id']}")
        labels = [
            label for label, lot in state.in_order_of_receipt() if lot.on_hand or self.random.random() < 0.2
        ]
        if labels and self.random.random() < 0.95:
            return target | {"lot": self.random.choice(labels)}
        return target | {"lot": self.random.choice(("A", "X", None))}

    def quantity(self, most: int = 12) -> int:
        return self.random.randint(1, max(1, most))

    def order(self, *statuses: str) -> str:
        """Name an order, mostly one in one of these statuses."""
        fitting = [
            stream.split("/")[1]
            for stream, state in self.log.states.items()
            if isinstance(state, OrderState) and (state.status in statuses or not statuses)
        ]
        if fitting and self.random.random() < 0.9:
            return self.random.choice(fitting)
        return f"O{self.random.randint(1, self.counts['orders'] + 1)}"

    def recall(self) -> str:
        return f"R{self.random.randint(1, self.counts['recalls'] + 1)}"

    def state(self, order_id: str) -> OrderState:
        state: OrderState = self.log.state(f"orders/{order_id}")
        return state

    # -- the chapters

    def receive(self) -> Command:
        target, lot = self.stream(), self.random.choice(sorted(DATES))
        tracking = TRACKINGS[target["item_id"]]
        day = DATES[lot] if self.random.random() < 0.97 else date(2030, 1, 1)
        return ReceiveStock(
            **target,
            quantity=self.quantity(),
            lot=lot if tracking.lot else None,
            expires_on=day if tracking.expiry else None,
        )

    def place(self) -> Command:
        items = (*sorted(TRACKINGS), "FREIGHT")
        lines = tuple(
            LineToPlace(
                line_no=no, item_id=self.random.choice(items), quantity=self.quantity(10), unit_price=PRICE
            )
            for no in range(1, self.random.randint(2, 4))
        )
        return PlaceOrder(
            order_id=self.number("orders"),
            customer_id="C1",
            site_id=self.random.choice(SITES),
            lines=lines,
            fulfilment=self.random.choice(("complete", "partial", "partial")),
            customer_reference=self.random.choice((None, None, "REF1", "REF2")),
        )

    def fill(self) -> Command | None:
        """Reserve and confirm as the workflow does; now and then with an allocation that is not so."""
        order_id = self.order("placed")
        order = self.state(order_id)
        allocations = []
        for line_no, line in order.lines.items():
            stream = f"stock/{order.site_id}/{line.item_id}"
            if line.stocked and order.status == "placed":
                self.carry_out(
                    ReserveStock(
                        site_id=order.site_id,
                        item_id=line.item_id,
                        order_id=order_id,
                        line_no=line_no,
                        quantity=line.quantity,
                        partial=self.random.random() < 0.8,
                        top_up=self.random.random() < 0.5,
                    )
                )
                held = self.log.state(stream).reserved_for(order_id, line_no)
                allocations += [
                    LineLot(line_no=line_no, lot=lot, quantity=units) for lot, units in held.items()
                ]
        if allocations and self.random.random() < 0.1:
            allocations.pop()
        return ConfirmOrder(order_id=order_id, allocations=tuple(allocations))

    def ship(self) -> Command:
        order_id = self.order("confirmed", "partially-shipped")
        lines = self.state(order_id).lines
        shipment_id = self.number("shipments") if self.random.random() < 0.9 else "S1"
        if self.random.random() < 0.5 or not lines:
            return ShipOrder(order_id=order_id, shipment_id=shipment_id)
        numbers = self.random.sample(sorted(lines), self.random.randint(1, len(lines)))
        parts = tuple(LineQuantity(line_no=no, quantity=self.quantity(lines[no].quantity)) for no in numbers)
        return ShipOrder(order_id=order_id, shipment_id=shipment_id, lines=parts)

    def deliver(self) -> Command:
        order_id = self.order("partially-shipped", "shipped")
        return DeliverOrder(
            order_id=order_id, shipment_id=self.random.choice([*self.state(order_id).shipments, "S1"])
        )

    def shipped_lots(self, order_id: str) -> tuple[LineLot, ...]:
        shipped = self.state(order_id).shipped
        places = self.random.sample(list(shipped), min(len(shipped), self.random.randint(1, 2)))
        return tuple(
            LineLot(line_no=no, lot=lot, quantity=self.quantity(shipped[no, lot] + 1)) for no, lot in places
        ) or (LineLot(line_no=1, lot="A", quantity=1),)

    def send_back(self) -> Command:
        order_id = self.order("partially-shipped", "shipped", "delivered")
        return_id = self.number("returns") if self.random.random() < 0.9 else "R1"
        return ReturnOrder(order_id=order_id, return_id=return_id, lines=self.shipped_lots(order_id))

    def mark(self) -> Command:
        order_id = self.order("partially-shipped", "shipped", "delivered")
        return MarkOrderRecalled(
            order_id=order_id, recall_id=self.recall(), lines=self.shipped_lots(order_id)
        )

    def settle(self) -> Command:
        kind = self.random.choice((CancelOrder, TimeOutOrder, RequestApproval, RequestApproval))
        return kind(order_id=self.order("placed"))

    def approve(self) -> Command:
        kind = self.random.choice((ApproveOrder, DeclineOrder))
        return kind(order_id=self.order("awaiting-approval"))

    def nag(self) -> Command:
        """Let time work on an order that waits."""
        order_id, decide_by = self.order("awaiting-approval"), self.at + timedelta(days=1)
        if self.random.random() < 0.2:
            return LapseApproval(order_id=order_id)
        kind = self.random.choice((RemindOfApproval, EscalateApproval))
        return kind(order_id=order_id, decide_by=decide_by)

    def turn_down(self) -> Command:
        return RejectOrder(order_id=self.order("placed"), rule="insufficient-stock")

    def cancel(self) -> Command:
        return CancelOrder(order_id=self.order("confirmed"))

    def reallocate(self) -> Command:
        return ReallocateOrder(order_id=self.order("confirmed", "partially-shipped"))

    def unreserve(self) -> Command:
        return UnreserveStock(**self.stream(), order_id=self.order("cancelled", "rejected"))

    def reserve(self) -> Command:
        order_id, line_no = self.order("placed", "confirmed"), self.random.randint(1, 2)
        return ReserveStock(
            **self.stream(),
            order_id=order_id,
            line_no=line_no,
            quantity=self.quantity(30),
            top_up=self.random.random() < 0.5,
        )

    def adjust(self) -> Command:
        return AdjustStock(**self.lot(), delta=self.random.randint(-12, 6))

    def dispose(self) -> Command:
        return DisposeStock(**self.lot(), quantity=self.quantity(8))

    def transfer(self) -> Command:
        target = self.lot()
        other = "S2" if target["site_id"] == "S1" else "S1"
        return TransferStock(**target, to_site_id=other, quantity=self.quantity(6))

    def quarantine(self) -> Command:
        recall_id = self.recall() if self.random.random() < 0.3 else None
        return QuarantineStock(**self.lot(), cause="torn box", recall_id=recall_id)

    def release(self) -> Command:
        return ReleaseQuarantine(**self.lot())

    def expire(self) -> Command:
        return ExpireLot(**self.lot())

    def issue(self) -> Command:
        target = self.lot()
        lots = (target["lot"],) if target["lot"] and self.random.random() < 0.8 else None
        scope = (RecalledItem(item_id=target["item_id"], lots=lots),)
        return IssueRecall(recall_id=self.number("recalls"), recall_class="II", scope=scope)

    def quarantine_recalled(self) -> Command:
        return QuarantineRecalledStock(**self.stream(), recall_id=self.recall())

    def close(self) -> Command:
        return CloseRecall(recall_id=self.recall(), outcome="done")

    def acknowledge(self) -> Command:
        return AcknowledgeRecall(recall_id=self.recall(), customer_id="C1", quantity_found=self.quantity())

    def discontinue(self) -> Command | None:
        return DiscontinueItem(item_id="NONE") if self.random.random() < 0.02 else None


CHAPTERS = (
    *(Story.receive,) * 5,
    *(Story.place,) * 5,
    *(Story.fill,) * 8,
    *(Story.ship,) * 6,
    *(Story.deliver,) * 3,
    *(Story.send_back,) * 4,
    *(Story.reallocate,) * 4,
    *(Story.transfer,) * 2,
    *(Story.release,) * 3,
    *(Story.expire,) * 3,
    *(Story.close,) * 2,
    Story.mark,
    Story.settle,
    Story.approve,
    Story.nag,
    Story.turn_down,
    Story.cancel,
    Story.unreserve,
    Story.reserve,
    Story.adjust,
    Story.dispose,
    Story.quarantine,
    Story.issue,
    Story.quarantine_recalled,
    Story.acknowledge,
    Story.discontinue,
)
