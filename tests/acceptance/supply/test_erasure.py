"""A person is erased while orders of theirs come in: nothing of them can be read anywhere (F56, S48)."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from infra.system import DEMO_TENANT, RunningSystem
from schemas.messages import ERASED
from tests.acceptance.scan import places_of
from tests.system import caught_up, facts, http_of, tool

pytestmark = pytest.mark.asyncio(loop_scope="session")  # where the system's supervisor runs

ORDERS = 12
REASON = "asked us to"


MOVED_SECONDS_MAX = 10.0
"""How long a process may take a tenant that has just moved to be still on its way; nothing has happened till then."""


class Shop:
    """One client on both sides."""

    def __init__(self, system: RunningSystem, tenant: str = DEMO_TENANT) -> None:
        token = system.token(tenant)
        self.commands = http_of(system.command_url, token)
        self.queries = http_of(system.query_url, token)
        self.mark = secrets.token_hex(3)

    def canary(self, name: str) -> str:
        """Return a text that stands nowhere else."""
        return f"canary-{self.mark}-{name}"

    async def open(self) -> None:
        """Have a site, and an item that is not in stock: orders of it are rejected, which is all the same here."""
        await self._send(f"sites/{self.mark}/register", {"name": "Depot", "time_zone": "UTC"})
        tracking = {"lot": False, "expiry": False}
        await self._send(f"items/{self.mark}/register", {"name": "Mask", "tracking": tracking})

    async def place(self, order: str, customer: str, contact: str, **headers: str) -> bytes:
        """Place an order and return the answer's body."""
        price = {"amount": 100, "currency": "EUR"}
        line = {"line_no": 1, "item_id": self.mark, "quantity": 1, "unit_price": price}
        body = {"customer_id": customer, "site_id": self.mark, "lines": [line], "contact": contact}
        return await self._send(f"orders/{self.mark}-{order}/place", body, **headers)

    async def _send(self, path: str, body: Mapping[str, Any], **headers: str) -> bytes:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with asyncio.timeout(MOVED_SECONDS_MAX):
            while True:
                answer = await self.commands.post(f"/v1/{path}", json=body, headers=named)
                if answer.status_code != 503 or not answer.json()["type"].endswith("tenant-moving"):
                    break
                await asyncio.sleep(0.1)
        assert answer.status_code == 200, answer.text
        return answer.content

    async def contact(self, order: str) -> str | None:
        """Return an order's contact as its document has it."""
        answer = await self.queries.get(f"/v1/orders/{self.mark}-{order}")
        assert answer.status_code == 200, answer.text
        contact: str | None = answer.json()["contact"]
        return contact

    async def read_everything(self, customer: str) -> bytes:
        """Return what can be read of a customer: documents, a list, history, a document as of now."""
        paths = [f"/v1/orders/{self.mark}-{order}" for order in range(ORDERS)]
        paths += [f"/v1/orders?customer_id={customer}&limit=500", f"/v1/history?stream=orders/{self.mark}-0"]
        paths += [f"/v1/orders/{self.mark}-0?as_of=2999-01-01"]
        return b"\n".join([(await self.queries.get(path)).content for path in paths])

    async def close(self) -> None:
        """Let go of the connections."""
        await self.commands.aclose()
        await self.queries.aclose()


@asynccontextmanager
async def shop_of(system: RunningSystem, tenant: str = DEMO_TENANT) -> AsyncIterator[Shop]:
    shop = Shop(system, tenant)
    await shop.open()
    try:
        yield shop
    finally:
        await shop.close()


async def quote(
    system: RunningSystem, text: str, stream: str, tenant: str = DEMO_TENANT, partition: int = 0
) -> None:
    """Have a text stand in the errors of a parked event and of a scheduled command, of consumers that never were."""
    namespace = system.settings.namespace
    connection = await asyncpg.connect(system.settings.read_url_or_store)
    try:
        await connection.execute(
            f"INSERT INTO {namespace}.parked_events (kind, consumer, partition, tenant, table_name, key, position, "
            "stream, event_id, event_type, schema_version, error) "
            "VALUES ('projection', 'none', $3, $4, 'rows', json_build_array($1::text)::text, 1, $1, '', "
            "'OrderPlaced', 1, $2)",
            stream, f"ValueError: {text}", partition, tenant,
        )  # fmt: skip
        await connection.execute(
            f"INSERT INTO {namespace}.scheduled_commands (partition, workflow, tenant, key, due_at, try_at, "
            "last_error, command, fields, idempotency_key, causation_id, correlation_id) "
            "VALUES ($3, 'none', $4, $1, now(), now(), $2, 'orders.place', '', '', '', '')",
            stream, f"Refused: {text}", partition, tenant,
        )  # fmt: skip
    finally:
        await connection.close()


async def holds(system: RunningSystem) -> None:
    """Check that the chain is whole and that every row is what the log folds to."""
    await caught_up(system)
    status, report = await facts(system, "verify")
    assert (status, report["ok"]) == (0, True), report


@pytest.mark.timeout(300)
async def test_nothing_of_an_erased_person_can_be_read_anywhere(system: RunningSystem) -> None:
    async with shop_of(system) as shop:
        first, racing, other = shop.canary("first"), shop.canary("racing"), shop.canary("other")
        for number in range(ORDERS):
            await shop.place(str(number), f"{shop.mark}-E", first)
        await shop.place("kept", f"{shop.mark}-F", other)
        asked = {"Idempotency_Key": shop.mark, "Prefer": "return=representation"}
        answer = await shop.place("keyed", f"{shop.mark}-E", first, **asked)
        assert first.encode() in answer
        assert await shop.place("keyed", f"{shop.mark}-E", first, **asked) == answer
        await caught_up(system)
        assert first.encode() in await shop.read_everything(f"{shop.mark}-E")
        before = await places_of(system.settings, first)
        assert any(place.endswith(".rows") for place in before), before
        assert any(place.startswith("redis ") for place in before), before
        assert not any(".events" in place or ".idempotency" in place for place in before), before

        done = asyncio.Event()

        async def keep_ordering() -> int:
            number = 0
            while not done.is_set():
                await shop.place(f"racing-{number}", f"{shop.mark}-E", racing)
                number += 1
                await asyncio.sleep(0.01)
            return number

        ordering = asyncio.create_task(keep_ordering())
        try:
            status, out, err = await tool(
                system, "erase", f"{shop.mark}-E", "--tenant", "demo", "--reason", REASON, "--json"
            )
        finally:
            done.set()
        raced = await ordering
        assert status == 0, out + err
        assert first not in out + err
        (erasure,) = json.loads(out.splitlines()[-1])["erasures"]
        assert erasure["ended_at"] is not None
        assert erasure["steps"]["read_tables"]["events"] >= ORDERS + 1
        await holds(system)
        assert await places_of(system.settings, first) == set()
        assert {await shop.contact(str(number)) for number in range(ORDERS)} == {ERASED}
        assert await shop.contact("kept") == other
        assert raced > 0
        assert {await shop.contact(f"racing-{number}") for number in range(raced)} <= {ERASED, racing}
        assert await shop.contact(f"racing-{raced - 1}") == racing  # a new key, for what came after

        status, out, err = await tool(
            system, "erase", f"{shop.mark}-E", "--tenant", "demo", "--reason", REASON
        )
        assert status == 0, out + err
        assert await places_of(system.settings, racing) == set()
        assert first.encode() not in await shop.read_everything(f"{shop.mark}-E")
        assert ERASED.encode() in await shop.place("keyed", f"{shop.mark}-E", first, **asked)
        await holds(system)
        assert any(place.endswith(".rows") for place in await places_of(system.settings, other))


@pytest.mark.timeout(300)
async def test_an_erasure_that_is_killed_at_every_step_goes_on_where_it_was(
    system: RunningSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_of(system) as shop:
        canary = shop.canary("killed")
        for number in range(ORDERS):
            await shop.place(str(number), f"{shop.mark}-E", canary)
        await caught_up(system)
        await shop.read_everything(f"{shop.mark}-E")
        await quote(system, canary, f"orders/{shop.mark}-0")
        assert {".parked_events", ".scheduled_commands"} <= await places_of(system.settings, canary)
        command = ["erase", f"{shop.mark}-E", "--tenant", "demo", "--reason", REASON]
        strikes = ["before_destroy", "after_destroy", "after_step", "after_generation", *["after_step"] * 6]
        for strike in strikes:
            monkeypatch.setenv("EVERFOLD_FAILPOINTS", f"erasure.{strike}=kill")
            status, out, err = await tool(system, *command)
            assert status not in (0, 1, 2, 3), (strike, out + err)
            if strike != "before_destroy":
                command = ["erase", "--unfinished"]
        monkeypatch.delenv("EVERFOLD_FAILPOINTS")
        status, done = await facts(system, *command)
        assert status == 0
        assert [one["ended_at"] is None for one in done["erasures"]] == [False]
        assert await places_of(system.settings, canary) == set()
        await holds(system)
        status, nothing = await facts(system, "erase", "--unfinished")
        assert (status, nothing) == (0, {"erasures": []})


async def test_what_cannot_be_erased_is_said(system: RunningSystem) -> None:
    status, _, err = await tool(system, "erase", "nobody", "--tenant", "demo", "--reason", REASON)
    assert status == 1
    assert "nobody" not in err
    status, _, err = await tool(system, "erase", "somebody", "--tenant", "demo")
    assert status == 2
    assert "--reason" in err
