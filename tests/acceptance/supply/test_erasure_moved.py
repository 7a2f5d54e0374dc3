"""A person is erased whose tenant has been moved: nothing of them can be read, wherever it stands. # F55 F56"""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from event_store.log import Snapshot
from event_store.placement import home_of
from event_store.postgres import PostgresLog
from infra.system import RunningSystem
from schemas.messages import ERASED
from tests.acceptance.scan import places_of
from tests.acceptance.supply.test_erasure import REASON, Shop, holds, quote, shop_of
from tests.acceptance.supply.test_two_servers import HERE, PARTITIONS, pair, settings_of, tenant_in
from tests.queues import tidy_system
from tests.system import caught_up, facts, settings_for, tool

__all__ = ["pair"]

THERE, ELSEWHERE = 6, 5
ORDERS = 3
"""Of each person, in each partition."""
STRIKES = (
    "before_destroy", "after_destroy", "after_step", "after_generation", *["after_step"] * 6
)  # fmt: skip
MOVED_AGAIN_AFTER = 4
"""Strikes: the rows of one generation have been made anew, and the others' not."""


@pytest.fixture(params=["one-server", "two-servers"])
async def around(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningSystem]:
    """A running system with all partitions on one server, and with the tenant's on two."""
    folder = tmp_path / "system"
    settings = (
        settings_for(folder, broker_url=request.getfixturevalue("broker_url"), partitions=PARTITIONS)
        if request.param == "one-server"
        else settings_of(request.getfixturevalue("pair"), folder)
    )
    async with tidy_system(settings) as system:
        yield system


class Persons:
    """Two persons who order before a move and after it, and one who is kept."""

    def __init__(self, system: RunningSystem, shop: Shop, tenant: str) -> None:
        self.system, self.shop, self.tenant = system, shop, tenant
        self.kept = shop.canary("kept")

    def canary(self, person: str, when: str) -> str:
        """Return a person's contact at a time."""
        return self.shop.canary(f"{person}-{when}")

    async def order(self, when: str) -> None:
        """Have everybody order, and read what can be read, so that it is in Redis too."""
        for person in "EK":
            for number in range(ORDERS):
                await self.shop.place(
                    f"{person}-{when}-{number}", f"{self.shop.mark}-{person}", self.canary(person, when)
                )
        await self.shop.place(f"kept-{when}", f"{self.shop.mark}-F", self.kept)
        await caught_up(self.system)
        for person in "EK":
            for contact in await self.contacts(person, when):
                assert contact == self.canary(person, when)
            await self.shop.queries.get(f"/v1/orders?customer_id={self.shop.mark}-{person}&limit=500")

    async def contacts(self, person: str, when: str) -> Sequence[str | None]:
        """Return what a person's orders say."""
        return [await self.shop.contact(f"{person}-{when}-{number}") for number in range(ORDERS)]

    async def leave_copies(self, person: str, when: str, partition: int) -> None:
        """Have a saved state in a partition, a dead letter and a scheduled command's error quote a person."""
        canary, settings = self.canary(person, when), self.system.settings
        stream = f"orders/{self.shop.mark}-{person}-{when}-0"
        await quote(self.system, canary, stream, self.tenant, partition)
        async with PostgresLog(settings.store_urls, settings.namespace) as log:
            state = Snapshot(
                self.tenant, stream, b"s" * 16, 1, 1, (await log.heads())[partition], canary.encode()
            )
            assert await log.save_states(partition, [state]) == 1

    async def readable(self, person: str, whens: Sequence[str]) -> set[str]:
        """Return where anything of a person can be read."""
        found: set[str] = set()
        for when in whens:
            canary = self.canary(person, when)
            found |= await places_of(self.system.settings, canary)
            if canary.encode() in await self._answers(person, whens):
                found.add("answers")
        return found

    async def _answers(self, person: str, whens: Sequence[str]) -> bytes:
        """Return what queries say of a person: a list, documents as of now, history."""
        mark = self.shop.mark
        paths = [f"/v1/orders?customer_id={mark}-{person}&limit=500"]
        for name in (f"{mark}-{person}-{when}-{number}" for when in whens for number in range(ORDERS)):
            paths += [
                f"/v1/orders/{name}",
                f"/v1/orders/{name}?as_of=2999-01-01",
                f"/v1/history?stream=orders/{name}",
            ]
        answers = [await self.shop.queries.get(path) for path in paths]
        assert {answer.status_code for answer in answers} == {200}
        return b"\n".join(answer.content for answer in answers)


async def move(system: RunningSystem, tenant: str, to: int) -> None:
    status, _, said = await tool(system, "tenants", "move", tenant, "--to", str(to))
    assert status == 0, said


def outcome(erasures: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return of one erasure what it must have found, however often it was killed."""
    (one,) = erasures["erasures"]
    assert one["ended_at"] is not None
    steps = one["steps"]
    return {
        "steps": list(steps),
        "events": steps["read_tables"]["events"],
        "streams": steps["read_tables"]["streams"],
        "rows": {row["projection"]: row["rows"] for row in steps["read_tables"]["generations"]},
        "dead_letters": steps["errors"]["dead_letters"],
        "states": steps["snapshots"],
    }


@pytest.mark.timeout(600)
async def test_nothing_of_a_person_can_be_read_where_their_tenant_lives_and_has_lived(
    around: RunningSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one go, and killed after each step with another move on the way: both end the same."""
    tenant = tenant_in(HERE)
    home = home_of(tenant, range(PARTITIONS))
    async with shop_of(around, tenant) as shop:
        persons = Persons(around, shop, tenant)
        await persons.order("before")
        await move(around, tenant, THERE)
        await persons.order("after")
        whens = ("before", "after")
        for person in "EK":
            for when, partition in zip(whens, (home, THERE), strict=True):
                await persons.leave_copies(person, when, partition)
                places = await places_of(around.settings, persons.canary(person, when))
                assert {".parked_events", ".scheduled_commands", ".snapshots"} <= places
                assert any(place.endswith(".rows") for place in places), places
                assert any(place.startswith("redis d") for place in places), places
            assert "answers" in await persons.readable(person, whens)

        erase = ("--tenant", tenant, "--reason", REASON)
        status, at_once = await facts(around, "erase", f"{shop.mark}-E", *erase)
        assert status == 0
        assert await persons.readable("E", whens) == set()
        for when in whens:
            assert set(await persons.contacts("E", when)) == {ERASED}
            assert set(await persons.contacts("K", when)) == {persons.canary("K", when)}
        await holds(around)

        command: Sequence[str] = ("erase", f"{shop.mark}-K", *erase)
        for number, strike in enumerate(STRIKES):
            monkeypatch.setenv("EVERFOLD_FAILPOINTS", f"erasure.{strike}=kill")
            status, out, err = await tool(around, *command)
            assert status not in (0, 1, 2, 3), (strike, out + err)
            monkeypatch.delenv("EVERFOLD_FAILPOINTS")
            if strike != "before_destroy":
                command = ("erase", "--unfinished")
            if number == MOVED_AGAIN_AFTER:
                await move(around, tenant, ELSEWHERE)
        status, killed = await facts(around, *command)
        assert status == 0
        assert outcome(killed) == outcome(at_once)
        assert outcome(killed)["events"] == 2 * ORDERS
        assert await persons.readable("K", whens) == set()
        for when in whens:
            assert set(await persons.contacts("K", when)) == {ERASED}
            assert await shop.contact(f"kept-{when}") == persons.kept
        await holds(around)

        await shop.place("new", f"{shop.mark}-K", persons.canary("K", "new"))
        await caught_up(around)
        assert await shop.contact("new") == persons.canary("K", "new")
        status, _, said = await tool(around, "replay", "--all", "--verify")
        assert status == 0, said
        assert await persons.readable("K", whens) == set()
        assert {place for place in await places_of(around.settings, persons.kept) if place.endswith(".rows")}
