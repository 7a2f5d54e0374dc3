"""Of the reference domain: the tables are the fold of the log (I09), and its own laws hold at every prefix (I16)."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.checker.evidence import Event, Evidence

Lot = str | None
FIGURES = (
    "on_hand", "reserved", "quarantined", "expired", "received", "adjusted", "returned", "transferred", "shipped",
    "disposed",
)  # fmt: skip
MAY_BE_NEGATIVE = ("adjusted", "transferred")


@dataclass
class Stock:
    """What one site has of one item."""

    version: int = 0
    lots: dict[Lot, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def take(self, event: Event) -> set[Lot]:
        """Add an event, and return the lots that it is about."""
        self.version = event.version
        facts = event.facts
        if event.type in ("StockReserved", "StockShipped", "StockUnreserved"):
            parts = (
                facts["lots"] if "lots" in facts else [lot for line in facts["lines"] for lot in line["lots"]]
            )
            for part in parts:
                self._move_reserved(event.type, self.lots[part.get("lot")], part["quantity"])
            return {part.get("lot") for part in parts}
        lot: Lot = facts.get("lot")
        self._move(event.type, facts, self.lots[lot])
        return {lot}

    @staticmethod
    def _move_reserved(type_: str, lot: Counter[str], quantity: int) -> None:
        lot["reserved"] += quantity if type_ == "StockReserved" else -quantity
        if type_ == "StockShipped":
            lot["on_hand"] -= quantity
            lot["shipped"] += quantity

    @staticmethod
    def _move(type_: str, facts: Mapping[str, Any], lot: Counter[str]) -> None:
        parts = {name: facts.get(name, 0) for name in ("available", "reserved", "quarantined", "expired")}
        quantity = facts.get("quantity", 0)
        match type_:
            case "StockReceived" | "StockTransferredIn":
                lot["on_hand"] += quantity
                lot["received" if type_ == "StockReceived" else "transferred"] += quantity
                if facts.get("into", "available") != "available":
                    lot[facts["into"]] += quantity
            case "StockTransferredOut":
                lot["on_hand"] -= quantity
                lot["transferred"] -= quantity
            case "StockReturned":
                lot["on_hand"] += quantity
                lot["quarantined"] += quantity
                lot["returned"] += quantity
            case "StockAdjusted":
                lot["on_hand"] += parts["available"] + parts["quarantined"] + parts["expired"]
                lot["quarantined"] += parts["quarantined"]
                lot["expired"] += parts["expired"]
                lot["adjusted"] += facts["delta"]
            case "StockDisposed":
                lot["on_hand"] -= parts["available"] + parts["quarantined"] + parts["expired"]
                lot["quarantined"] -= parts["quarantined"]
                lot["expired"] -= parts["expired"]
                lot["disposed"] += quantity
            case "StockQuarantined":
                lot["quarantined"] = facts["quarantined"]
                lot["reserved"] -= parts["reserved"]
                lot["expired"] -= parts["expired"]
            case "QuarantineReleased":
                lot["quarantined"] -= quantity
                if facts["into"] != "available":
                    lot[facts["into"]] += quantity
            case "LotExpired":
                lot["reserved"] -= parts["reserved"]
                lot["expired"] += parts["available"] + parts["reserved"]
            case _:
                raise ValueError(f"an event of stock that the checker does not know: {type_}")

    def problem(self, lot: Lot) -> str | None:
        """Return which law one lot breaks."""
        has = self.lots[lot]
        for name in FIGURES:
            if has[name] < 0 and name not in MAY_BE_NEGATIVE:
                return f"{name} is {has[name]}"
        came_in = has["received"] + has["adjusted"] + has["returned"] + has["transferred"]
        if came_in != has["on_hand"] + has["shipped"] + has["disposed"]:
            return f"received, adjusted, returned and transferred are {came_in}, and the rest is not: {dict(has)}"
        if has["on_hand"] < has["reserved"] + has["quarantined"] + has["expired"]:
            return f"available is negative: {dict(has)}"
        return None


def fold_stock(evidence: Evidence) -> Mapping[tuple[str, str], Stock]:
    """Return all stock by tenant and stream."""
    stock: dict[tuple[str, str], Stock] = defaultdict(Stock)
    for event in evidence.events:
        if event.stream.startswith("stock/"):
            stock[event.tenant, event.stream].take(event)
    return stock


def fold_orders(evidence: Evidence) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """Return of every order its version, its status, and its lines' figures."""
    orders: dict[tuple[str, str], dict[str, Any]] = {}
    for event in evidence.events:
        if not event.stream.startswith("orders/"):
            continue
        place, facts = (event.tenant, event.stream), event.facts
        if event.type == "OrderPlaced":
            lines = {
                line["line_no"]: {
                    "quantity": line["quantity"],
                    "reserved": 0,
                    "shipped": 0,
                    "returned": 0,
                    "short": 0,
                }
                for line in facts["lines"]
            }
            orders[place] = {"status": "placed", "lines": lines, "recalls": []}
        _take_of_order(orders[place], event.type, facts)
        orders[place]["version"] = event.version
    return orders


def _take_of_order(order: dict[str, Any], type_: str, facts: Mapping[str, Any]) -> None:
    lines = order["lines"]
    match type_:
        case "OrderPlaced":
            return
        case "OrderConfirmed":
            short = {part["line_no"]: part["quantity"] for part in facts.get("short", ())}
            for line_no, line in lines.items():
                line["short"] = short.get(line_no, 0)
                line["reserved"] = line["quantity"] - line["short"]
            order["status"] = "confirmed"
        case "OrderReallocated":
            for part in facts["lines"]:
                lines[part["line_no"]] |= {"reserved": part["reserved"], "short": part["short"]}
        case "OrderShipped" | "OrderReturned":
            for part in facts["lines"]:
                lines[part["line_no"]]["shipped" if type_ == "OrderShipped" else "returned"] += part[
                    "quantity"
                ]
        case "OrderCancelled":
            for line in lines.values():
                line["reserved"] = 0
        case "OrderRecalled":
            if facts["recall_id"] not in order["recalls"]:
                order["recalls"].append(facts["recall_id"])
    named = {
        "OrderRejected": "rejected", "OrderCancelled": "cancelled", "OrderApprovalRequested": "awaiting-approval",
        "OrderApproved": "placed",
    }  # fmt: skip
    order["status"] = named.get(type_) or facts.get("status") or order["status"]


def tables_are_the_fold(evidence: Evidence) -> Iterator[str]:
    """I09: live rows, a fresh replay's rows, and this program's own fold of the log are the same, three ways."""
    for name, rows in evidence.live.items():
        rebuilt = evidence.rebuilt.get(name)
        if rows != rebuilt:
            differ = set(rows) ^ set(rebuilt or ())
            yield f"{name}: {len(differ)} rows are not those of a fresh replay: {sorted(differ)[:1]}"
    yield from _stock_rows(evidence)
    yield from _order_rows(evidence)


def _documents(evidence: Evidence, table: str) -> Iterator[tuple[str, Any]]:
    """Yield every row's tenant and document."""
    for whole, document in evidence.live.get(table, ()):
        yield whole[1:].partition(",")[0], json.loads(document)


def _stock_rows(evidence: Evidence) -> Iterator[str]:
    expected = dict(fold_stock(evidence))
    for tenant, row in _documents(evidence, "stock-levels/rows"):
        stock = expected.pop((tenant, row["stream"]), None)
        if stock is None:
            yield f"{row['stream']} of {tenant} has a row and no events"
            continue
        lots = {lot["lot"]: {name: lot[name] for name in FIGURES} for lot in row["lots"]}
        mine = {lot: {name: has[name] for name in FIGURES} for lot, has in stock.lots.items()}
        if (row["version"], lots) != (stock.version, mine):
            yield f"{row['stream']} of {tenant} at version {row['version']}: {lots}; folded: {stock.version} {mine}"
    for place in expected:
        yield f"{place} has events and no row"


def _order_rows(evidence: Evidence) -> Iterator[str]:
    expected = dict(fold_orders(evidence))
    for tenant, row in _documents(evidence, "orders/rows"):
        order = expected.pop((tenant, row["stream"]), None)
        if order is None:
            yield f"{row['stream']} of {tenant} has a row and no events"
            continue
        figures = ("quantity", "reserved", "shipped", "returned", "short")
        lines = {line["line_no"]: {name: line[name] for name in figures} for line in row["lines"]}
        found = (row["version"], row["status"], lines, row["recalls"])
        if found != (order["version"], order["status"], order["lines"], order["recalls"]):
            yield f"{row['stream']} of {tenant} is {found}; folded: {order}"
    for place in expected:
        yield f"{place} has events and no row"


def the_laws_hold(evidence: Evidence) -> Iterator[str]:
    """I16: at every prefix of the log nothing is negative or out of nothing, and what a recall holds goes nowhere."""
    stock: dict[tuple[str, str], Stock] = defaultdict(Stock)
    held: dict[tuple[str, str], list[tuple[str, frozenset[str] | None]]] = defaultdict(list)
    shipped: dict[tuple[str, str, Lot], set[str]] = defaultdict(set)
    marked: dict[tuple[str, str], set[str]] = defaultdict(set)
    due: dict[tuple[str, str], set[str]] = {}
    for event in evidence.events:
        if event.type == "RecallIssued":
            due[event.tenant, event.stream.split("/")[1]] = _issue(event, held, shipped)
        elif event.type == "OrderRecalled":
            marked[event.tenant, event.facts["recall_id"]].add(event.stream.split("/")[1])
        elif event.stream.startswith("stock/"):
            one = stock[event.tenant, event.stream]
            for lot in one.take(event):
                if problem := one.problem(lot):
                    yield f"{event.stream} of {event.tenant}, lot {lot}, after position {event.position}: {problem}"
                yield from _moved(event, lot, held, shipped)
    for recall, orders in due.items():
        if orders != marked[recall]:
            yield f"recall {recall}: shipped to {sorted(orders)[:5]}, marked are {sorted(marked[recall])[:5]}"


def _issue(
    event: Event,
    held: dict[tuple[str, str], list[tuple[str, frozenset[str] | None]]],
    shipped: Mapping[tuple[str, str, Lot], set[str]],
) -> set[str]:
    """Note what a recall holds, and return the orders that had been shipped of it: by looking at all of them."""
    orders: set[str] = set()
    for part in event.facts["scope"]:
        lots = None if part.get("lots") is None else frozenset(part["lots"])
        held[event.tenant, part["item_id"]].append((event.stream, lots))
        for (tenant, item, lot), to in shipped.items():
            if (tenant, item) == (event.tenant, part["item_id"]) and (lots is None or lot in lots):
                orders |= to
    return orders


def _moved(
    event: Event,
    lot: Lot,
    held: Mapping[tuple[str, str], list[tuple[str, frozenset[str] | None]]],
    shipped: dict[tuple[str, str, Lot], set[str]],
) -> Iterator[str]:
    if event.type not in ("StockReserved", "StockShipped"):
        return
    item = event.stream.split("/")[2]
    for recall, lots in held.get((event.tenant, item), ()):
        if lots is None or lot in lots:
            yield f"{event.type} at {event.position} took lot {lot} of {item}, which {recall} holds"
    if event.type == "StockShipped":
        shipped[event.tenant, item, lot].add(event.facts["order_id"])
