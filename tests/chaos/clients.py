"""
Clients of the reference domain that never give up, and the ledger of what they asked and were told.

Each has a seeded course: goods come in by lot, orders are placed, shipped, returned and cancelled, lots are counted,
destroyed, quarantined and, now and then, recalled. A command that is not answered is sent again with its key.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson

from client.http import ServerAway
from tests.chaos.checker.evidence import Call
from tests.load import load_client

SITES, ITEMS, LOTS = 2, 4, 5
THINK_SECONDS_MAX = 0.25
GIVE_UP_SECONDS = 90.0

Asked = tuple[str, Mapping[str, Any]]


@dataclass
class Course:
    """What one client asks, one command after the other."""

    mark: str
    chance: random.Random
    number: int = 0
    orders: list[str] = field(default_factory=list)

    def next(self) -> Asked:
        """Return the next command's path and body."""
        self.number += 1
        kinds: Sequence[tuple[float, Any]] = (
            (0.30, self._receive), (0.28, self._place), (0.18, self._ship), (0.04, self._deliver), (0.04, self._cancel),
            (0.05, self._adjust), (0.03, self._dispose), (0.03, self._quarantine), (0.03, self._release),
            (0.015, self._recall), (0.005, self._return),
        )  # fmt: skip
        asked: Asked = self.chance.choices([make for _, make in kinds], [weight for weight, _ in kinds])[0]()
        return asked

    def _stock(self) -> str:
        return f"/v1/stock/site-{self.chance.randrange(SITES)}/item-{self.chance.randrange(ITEMS)}"

    def _lot(self) -> str:
        return f"lot-{self.chance.randrange(LOTS)}"

    def _receive(self) -> Asked:
        return f"{self._stock()}/receive", {"quantity": self.chance.randint(5, 60), "lot": self._lot()}

    def _adjust(self) -> Asked:
        return f"{self._stock()}/adjust", {"lot": self._lot(), "delta": self.chance.choice((-2, -1, 1, 2))}

    def _dispose(self) -> Asked:
        return f"{self._stock()}/dispose", {"lot": self._lot(), "quantity": self.chance.randint(1, 5)}

    def _quarantine(self) -> Asked:
        return f"{self._stock()}/quarantine", {"lot": self._lot(), "cause": "looks odd"}

    def _release(self) -> Asked:
        return f"{self._stock()}/release-quarantine", {"lot": self._lot()}

    def _recall(self) -> Asked:
        """Of lots that only some clients' goods have, so that trade goes on."""
        scope = [{"item_id": f"item-{self.chance.randrange(ITEMS)}", "lots": [f"lot-{LOTS - 1}"]}]
        return f"/v1/recalls/{self.mark}-r{self.number}/issue", {"class": "II", "scope": scope}

    def _place(self) -> Asked:
        order_id = f"{self.mark}-o{self.number}"
        self.orders.append(order_id)
        items = self.chance.sample(range(ITEMS), self.chance.randint(1, 3))
        body: dict[str, Any] = {
            "customer_id": f"customer-{self.chance.randrange(6)}",
            "site_id": f"site-{self.chance.randrange(SITES)}",
            "fulfilment": self.chance.choice(("complete", "partial")),
            "lines": [
                {
                    "line_no": number,
                    "item_id": f"item-{item}",
                    "quantity": self.chance.randint(1, 9),
                    "unit_price": {"amount": 100, "currency": "EUR"},
                }
                for number, item in enumerate(items, 1)
            ],
        }
        if self.chance.random() < 0.3:
            body["customer_reference"] = f"ref-{self.chance.randrange(500)}"
        return f"/v1/orders/{order_id}/place", body

    def _ship(self) -> Asked:
        if not self.orders:
            return self._receive()
        order_id = self.chance.choice(self.orders[-12:])
        return f"/v1/orders/{order_id}/ship", {"shipment_id": f"{order_id}-s{self.number}"}

    def _deliver(self) -> Asked:
        if not self.orders:
            return self._receive()
        return f"/v1/orders/{self.chance.choice(self.orders)}/deliver", {"shipment_id": "none"}

    def _cancel(self) -> Asked:
        if not self.orders:
            return self._receive()
        return f"/v1/orders/{self.chance.choice(self.orders[-6:])}/cancel", {}

    def _return(self) -> Asked:
        if not self.orders:
            return self._receive()
        lines = [{"line_no": 1, "lot": self._lot(), "quantity": 1}]
        order_id = self.chance.choice(self.orders)
        return f"/v1/orders/{order_id}/return", {"return_id": f"{order_id}-b{self.number}", "lines": lines}


class Clients:
    """All clients of a run, and their ledger."""

    def __init__(self, url: str, tokens: Mapping[str, str], ledger: Path, *, clients: int) -> None:
        """`tokens` by tenant; there are so many `clients` of each at most."""
        self._ledger = ledger
        self._clients = {
            tenant: load_client(url, token, clients=clients, give_up_after_seconds=GIVE_UP_SECONDS)
            for tenant, token in tokens.items()
        }
        self.calls = self.attempts = 0

    async def close(self) -> None:
        """Let go of all connections."""
        for client in self._clients.values():
            await client.close()

    async def register(self, mark: str) -> None:
        """Make what commands are about; what is there from an earlier round is refused, and all the same there."""
        for tenant in self._clients:
            for site in range(SITES):
                body = {"name": "Depot", "time_zone": "UTC"}
                await self._carry_out(tenant, f"{mark}-site-{site}", f"/v1/sites/site-{site}/register", body)
            for item in range(ITEMS):
                tracking = {"name": "Gloves", "tracking": {"lot": True, "expiry": False}}
                await self._carry_out(
                    tenant, f"{mark}-item-{item}", f"/v1/items/item-{item}/register", tracking
                )

    async def trade(self, mark: str, count: int, seed: int, stop: asyncio.Event) -> None:
        """Have so many clients ask until `stop`."""
        tenants = list(self._clients)
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                chance = random.Random(f"{seed}/{mark}/{number}")
                course = Course(f"{mark}-{number}", chance)
                tasks.create_task(self._client(tenants[number % len(tenants)], course, stop))

    async def _client(self, tenant: str, course: Course, stop: asyncio.Event) -> None:
        while not stop.is_set():
            path, body = course.next()
            await self._carry_out(tenant, f"{course.mark}/{course.number}", path, body)
            await asyncio.sleep(course.chance.uniform(0, THINK_SECONDS_MAX))

    async def _carry_out(self, tenant: str, key: str, path: str, body: Mapping[str, Any]) -> None:
        invoked = time.monotonic()
        outcome, problem, events = "unknown", "", []
        try:
            result = await self._clients[tenant].post(path, body, key=key)
        except ServerAway as away:
            self.attempts += away.attempts
        else:
            self.attempts += result.attempts
            if result.accepted:
                outcome, events = "ok", result.facts["events"]
            elif result.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                outcome, problem = "rejected", result.problem or ""
        self.calls += 1
        call = Call(key, tenant, path, body, invoked, time.monotonic(), outcome, events, problem)
        with self._ledger.open("ab") as file:
            file.write(orjson.dumps(call._asdict()) + b"\n")
