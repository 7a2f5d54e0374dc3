"""
Sends a plan through the HTTP API: sites, items, stock, then orders window by window, shipped, delivered, returned.

Each command's idempotency key is made from the file, the mapping and the command's place, so a window that was
interrupted is simply sent again. The state file says which windows are done and which lines the server refused.
"""

import asyncio
import csv
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from client.http import Client, Command, Result
from client.supply.lines import OrderLine, Reject, text_of
from client.supply.plan import Plan, PlannedOrder, PlannedReturn
from schemas.errors import ServiceError
from schemas.messages import format_instant

WINDOW_STEPS_MAX = 400
SETTLE_SECONDS_MAX = 300.0
SETTLE_POLL_SECONDS = 0.1
ORDERS_PER_PAGE = 500

Progress = Callable[[str, int, int], None]
"""Told what is being sent, how many lines are done, and how many there are."""


@dataclass(eq=False)
class OrdersNotSettled(ServiceError):
    """Orders were placed but neither confirmed nor rejected within the time: is the workflow role running?"""

    orders: int
    waited_seconds: float


@dataclass(slots=True)
class State:
    """How far an import has come, as its state file keeps it."""

    path: Path
    windows_done: int = 0
    commands: int = 0
    seconds: float = 0.0
    refused: dict[int, list[str]] = field(default_factory=dict)
    """By line number: the reason and its detail."""

    @classmethod
    def load(cls, path: Path) -> "State":
        """Return the state that a file keeps; a new one where there is no file."""
        if not path.exists():
            return cls(path)
        kept = orjson.loads(path.read_bytes())
        refused = {int(number): reason for number, reason in kept["refused"].items()}
        return cls(path, kept["windows_done"], kept["commands"], kept["seconds"], refused)

    def save(self) -> None:
        """Replace the file in one step, so that an interruption leaves the old or the new state."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".new")
        refused = {str(number): reason for number, reason in self.refused.items()}
        beside.write_bytes(
            orjson.dumps(
                {
                    "windows_done": self.windows_done,
                    "commands": self.commands,
                    "seconds": self.seconds,
                    "refused": refused,
                }
            )
        )
        beside.replace(self.path)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a file's lines."""

    lines: int
    used: int
    rejected: int
    reasons: dict[str, int]
    commands: int
    seconds: float
    rejects: Sequence[Reject]

    def encode(self) -> str:
        """Return the summary as one line of JSON."""
        return orjson.dumps(
            {
                "lines": self.lines,
                "used": self.used,
                "rejected": self.rejected,
                "reasons": self.reasons,
                "commands": self.commands,
                "seconds": round(self.seconds, 3),
            }
        ).decode()


def import_id(file: bytes, mapping: str, target: str) -> str:
    """Return the name of one import: the same file, mapping and target resume, others begin anew."""
    return sha256(b"\0".join((sha256(file).digest(), mapping.encode(), target.encode()))).hexdigest()[:16]


class Importer:
    """One run of an import."""

    def __init__(
        self,
        client: Client,
        plan: Plan,
        state: State,
        *,
        name: str,
        progress: Progress,
        rate: float | None = None,
    ) -> None:
        self._client, self._plan, self._state, self._progress = client, plan, state, progress
        self._name, self._rate = name, rate
        self._done_lines = 0

    async def run(self) -> Report:
        """
        Send what is not sent yet, and return what became of every line.

        Raises:
            OrdersNotSettled: The workflows do not answer.
            ServiceError: The server is away or refuses the token; run again to resume.
        """
        began = time.monotonic() - self._state.seconds
        for number, window in enumerate(self._windows()):
            label, lines, steps = window
            self._progress(label, self._done_lines, self._plan.lines)
            if number >= self._state.windows_done:
                await self._send_window(steps)
                self._state.windows_done = number + 1
                self._state.seconds = time.monotonic() - began
                self._state.save()
            self._done_lines += lines
        self._progress("done", self._plan.lines, self._plan.lines)
        return report(self._plan, self._state)

    def _windows(self) -> Iterator[tuple[str, int, "Sequence[Command] | Sequence[Step]"]]:
        yield "sites and items", 0, list(self._catalogue())
        yield "stock", 0, list(self._receipts())
        steps: list[Step] = []
        lines = 0
        for step in self._plan.steps:
            steps.append(step)
            lines += len(step.lines) if isinstance(step, PlannedOrder) else 1
            if len(steps) == WINDOW_STEPS_MAX:
                yield "orders", lines, steps
                steps, lines = [], 0
        if steps:
            yield "orders", lines, steps
        yield "rejected", len(self._plan.rejects), []

    async def _send_window(self, steps: "Sequence[Command] | Sequence[Step]") -> None:
        commands = [step for step in steps if isinstance(step, Command)]
        if commands:
            await self._send_catalogue(commands)
            return
        orders = [step for step in steps if isinstance(step, PlannedOrder)]
        placed = await self._place(orders)
        await self._settle(placed)
        await self._ship(placed)
        await self._deliver(placed)
        await self._correct([step for step in steps if not isinstance(step, PlannedOrder | Command)])

    # -- what is sent -----------------------------------------------------------------------------

    def _catalogue(self) -> Iterator[Command]:
        for site_id, name in self._plan.sites.items():
            yield self._command(
                "sites.register", {"site_id": site_id}, {"name": name, "time_zone": "UTC"}, "register"
            )
        for item_id, line in self._plan.items.items():
            data = {
                "name": line.name,
                "tracking": {"lot": False, "expiry": False},
                "stocked": not line.is_charge,
            }
            yield self._command("items.register", {"item_id": item_id}, data, "register")

    def _receipts(self) -> Iterator[Command]:
        for (site_id, item_id), quantity in self._plan.stock.items():
            ids = {"site_id": site_id, "item_id": item_id}
            yield self._command("stock.receive", ids, {"quantity": quantity}, "receive", self._plan.began_at)

    async def _send_catalogue(self, commands: Sequence[Command]) -> None:
        for command, result in zip(commands, await self._send(commands), strict=True):
            if not result.accepted and result.problem != "already-exists":
                raise _Refused(
                    command.name, "/".join(command.id.values()), result.problem or "", str(result.facts)
                )

    async def _place(self, orders: Sequence[PlannedOrder]) -> list[PlannedOrder]:
        results = await self._send([self._place_command(order) for order in orders])
        placed = []
        for order, result in zip(orders, results, strict=True):
            if result.accepted:
                placed.append(order)
            else:
                self._refuse(order, result.problem or "refused", str(result.facts.get("detail", "")))
        return placed

    def _place_command(self, order: PlannedOrder) -> Command:
        requested = min((line.requested_on for line in order.lines if line.requested_on), default=None)
        data: dict[str, Any] = {
            "customer_id": order.customer_id,
            "site_id": order.site_id,
            "lines": [
                {
                    "line_no": number,
                    "item_id": line.item_id,
                    "quantity": line.quantity,
                    "unit_price": {"amount": line.price, "currency": line.currency},
                }
                for number, line in enumerate(order.lines, start=1)
            ],
        }
        if order.receiver:
            data["deliver_to"] = order.receiver
        if order.ordered_at:
            data["ordered_at"] = format_instant(order.ordered_at)
        if requested:
            data["requested_on"] = requested.date().isoformat()
        return self._command("orders.place", {"order_id": order.order_id}, data, "place", order.ordered_at)

    async def _settle(self, orders: Sequence[PlannedOrder]) -> None:
        """Wait until the workflows have confirmed or rejected the orders."""
        waiting = {order.order_id for order in orders}
        began = time.monotonic()
        while waiting:
            waiting &= await self._placed_among(waiting, orders)
            if waiting and time.monotonic() - began > SETTLE_SECONDS_MAX:
                raise OrdersNotSettled(len(waiting), SETTLE_SECONDS_MAX)
            if waiting:
                await asyncio.sleep(SETTLE_POLL_SECONDS)

    async def _placed_among(self, waiting: set[str], orders: Sequence[PlannedOrder]) -> set[str]:
        dates = [order.ordered_at for order in orders if order.ordered_at]
        parameters: dict[str, Any] = {"status": "placed", "limit": ORDERS_PER_PAGE}
        if len(dates) == len(orders):
            parameters["ordered_from"] = format_instant(min(dates))
            parameters["ordered_to"] = format_instant(max(dates) + timedelta(seconds=1))
        found: set[str] = set()
        while True:
            page = await self._client.get("/v1/orders", parameters)
            found.update(order["order_id"] for order in page["items"])
            if not page["next"] or waiting <= found:
                return found
            parameters["cursor"] = page["next"]

    async def _ship(self, orders: Sequence[PlannedOrder]) -> None:
        commands, owners = [], []
        for order in orders:
            shipments = order.shipments()
            for shipment_id, numbers in shipments.items():
                data: dict[str, Any] = {"shipment_id": shipment_id}
                if len(shipments) > 1:
                    data["lines"] = [
                        {"line_no": number, "quantity": order.lines[number - 1].quantity}
                        for number in numbers
                    ]
                when = _latest(order, numbers, "shipped_at") or _latest(order, numbers, "delivered_at")
                commands.append(
                    self._order_command("ship", order.order_id, data, shipment_id, when or order.ordered_at)
                )
                owners.append((order, numbers))
        for (order, numbers), result in zip(owners, await self._send(commands), strict=True):
            if not result.accepted:
                self._refuse(
                    order, f"not-shipped-{result.problem}", str(result.facts.get("detail", "")), numbers
                )

    async def _deliver(self, orders: Sequence[PlannedOrder]) -> None:
        commands = []
        for order in orders:
            for shipment_id, numbers in order.shipments().items():
                if not self._is_refused(order, numbers) and (when := _latest(order, numbers, "delivered_at")):
                    commands.append(
                        self._order_command(
                            "deliver", order.order_id, {"shipment_id": shipment_id}, shipment_id, when
                        )
                    )
        for command, result in zip(commands, await self._send(commands), strict=True):
            if not result.accepted:
                raise _Refused(command.name, command.id["order_id"], result.problem or "", str(result.facts))

    async def _correct(self, steps: "Sequence[list[PlannedReturn] | OrderLine]") -> None:
        commands, numbers = [], []
        for step in steps:
            for command in (
                self._return_commands(step) if isinstance(step, list) else [self._adjust_command(step)]
            ):
                commands.append(command)
                numbers.append(step[0].source.number if isinstance(step, list) else step.number)
        for number, result in zip(numbers, await self._send(commands), strict=True):
            if not result.accepted:
                self._state.refused[number] = [
                    result.problem or "refused",
                    str(result.facts.get("detail", "")),
                ]

    def _return_commands(self, parts: Sequence[PlannedReturn]) -> Iterator[Command]:
        for part in parts:
            return_id = f"{part.source.order_id[:40]}-{part.source.number}-{part.part}"
            line = {"line_no": part.line_no, "lot": None, "quantity": part.quantity}
            data = {"return_id": return_id, "lines": [line]}
            yield self._order_command("return", part.order_id, data, return_id, part.source.ordered_at)

    def _adjust_command(self, line: OrderLine) -> Command:
        ids = {"site_id": line.site_id, "item_id": line.item_id}
        data = {"lot": None, "delta": -line.quantity, "reason": text_of(line.name) or "correction"}
        return self._command("stock.adjust", ids, data, f"adjust:{line.number}", line.ordered_at)

    # -- how it is sent ---------------------------------------------------------------------------

    async def _send(self, commands: Sequence[Command]) -> list[Result]:
        if not commands:
            return []
        began = time.monotonic()
        results = await self._client.send(commands)
        self._state.commands += len(commands)
        if self._rate:
            await asyncio.sleep(max(0.0, len(commands) / self._rate - (time.monotonic() - began)))
        return results

    def _order_command(
        self, verb: str, order_id: str, data: dict[str, Any], step: str, occurred_at: datetime | None
    ) -> Command:
        return self._command(f"orders.{verb}", {"order_id": order_id}, data, f"{verb}:{step}", occurred_at)

    def _command(
        self,
        name: str,
        ids: dict[str, str],
        data: dict[str, Any],
        step: str,
        occurred_at: datetime | None = None,
    ) -> Command:
        if occurred_at is not None:
            data = data | {"occurred_at": format_instant(occurred_at)}
        return Command(name, ids, data, f"import:{self._name}:{'/'.join(ids.values())}:{step}")

    def _refuse(
        self, order: PlannedOrder, reason: str, detail: str, numbers: Sequence[int] | None = None
    ) -> None:
        for number in numbers or range(1, len(order.lines) + 1):
            self._state.refused[order.lines[number - 1].number] = [reason, detail]

    def _is_refused(self, order: PlannedOrder, numbers: Sequence[int]) -> bool:
        return order.lines[numbers[0] - 1].number in self._state.refused


Step = PlannedOrder | list[PlannedReturn] | OrderLine


@dataclass(eq=False)
class _Refused(ServiceError, slug="import-refused"):
    """The server refused what the import cannot go on without."""

    command: str
    id: str
    problem: str
    answer: str


def _latest(order: PlannedOrder, numbers: Sequence[int], name: str) -> datetime | None:
    dates: list[datetime] = [date for number in numbers if (date := getattr(order.lines[number - 1], name))]
    return max(dates, default=None)


def report(plan: Plan, state: State) -> Report:
    """Return what became of every line: used, or rejected by the mapping or by the server."""
    refused = [Reject(number, reason[0], detail=reason[1]) for number, reason in state.refused.items()]
    rejects = sorted([*plan.rejects, *refused], key=lambda reject: reject.number)
    reasons = dict(Counter(reject.reason for reject in rejects).most_common())
    used = plan.lines - len(rejects)
    return Report(plan.lines, used, len(rejects), reasons, state.commands, state.seconds, rejects)


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Write one line for each line of the file that could not be used."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["line", "reason", "order", "detail"])
        for reject in rejects:
            writer.writerow([reject.number, reject.reason, reject.order_id, reject.detail])
