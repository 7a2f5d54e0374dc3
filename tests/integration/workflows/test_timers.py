"""Scheduled commands: sent once, late rather than early, by the database's clock. Fault row F43."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from signal import SIGKILL

import pytest

from schemas.envelope import Metadata
from tests.integration.workflows.world import TENANT, World, open_world, run_until_dead
from tests.toy import AccountClosed, AccountOpened, CloseAccount, OpenAccount

TIMERS = "SELECT count(*) FROM everfold.scheduled_commands"


@pytest.fixture
async def world(store_url: str) -> AsyncIterator[World]:
    async with open_world(store_url, domains="toy") as opened:
        yield opened


def opening(owner: str, *numbers: int) -> list[OpenAccount]:
    return [OpenAccount(account_id=f"{owner}-{number}", owner=owner) for number in numbers]


async def until_closed(world: World, count: int) -> None:
    async def closed() -> bool:
        return await world.count(AccountClosed) >= count and await world.fetch(TIMERS) == 0

    await world.until(closed)


async def test_a_timer_fires_once_and_not_before_its_time(world: World) -> None:
    await world.send(*opening("soon", *range(20)))
    async with world.workflows():
        await until_closed(world, 20)
        await world.until_caught_up("concierge")
    opened, closed = await world.recorded(AccountOpened), await world.recorded(AccountClosed)
    assert len(closed) == 20
    due = {event.stream: Metadata.decode(event.metadata).occurred_at for event in closed}
    assert all(event.recorded_at >= due[event.stream] for event in closed)
    assert {Metadata.decode(event.metadata).causation_id for event in closed} == {
        event.id for event in opened
    }


async def test_a_timer_that_is_forgotten_does_not_fire(world: World) -> None:
    await world.send(*opening("late", 1))
    async with world.workflows():
        await world.until_caught_up("concierge")
        assert await world.fetch(TIMERS) == 1
        await world.send_as_system(CloseAccount(account_id="late-1"))
        await world.until_caught_up("concierge")
        assert await world.fetch(TIMERS) == 0
    assert await world.count(AccountClosed) == 1


@pytest.mark.parametrize("failpoint", ["scheduled.before_send", "scheduled.after_send"])
async def test_a_process_killed_around_a_timer_fires_it_once(world: World, failpoint: str) -> None:
    await world.send(*opening("soon", *range(5)))
    assert await run_until_dead(world, f"{failpoint}=kill") == -SIGKILL
    async with world.workflows():
        await until_closed(world, 5)
    assert await world.count(AccountClosed) == 5


async def test_a_timer_set_while_nobody_ran_fires_late_rather_than_never(world: World) -> None:
    await world.send(*opening("soon", 1))
    async with world.workflows():
        await world.until_caught_up("concierge")
    await asyncio.sleep(0.2)
    async with world.workflows():
        await until_closed(world, 1)


async def test_no_timer_fires_while_what_was_recorded_before_it_waits(world: World) -> None:
    """The timer is due, and the event that forgets it was recorded in time; only the workflow is late."""
    await world.send(*opening("late", 1))
    async with world.workflows():
        await world.until_caught_up("concierge")
    await world.send_as_system(CloseAccount(account_id="late-1"))
    await world.send(OpenAccount(account_id="late-1", owner="again"))
    await world.pool.execute(
        "UPDATE everfold.scheduled_commands SET due_at = clock_timestamp(), try_at = due_at"
    )
    async with world.workflows():
        await world.until_caught_up("concierge")
        await world.until(lambda: _none_left(world))
    assert await world.count(AccountClosed) == 1


async def _none_left(world: World) -> bool:
    return bool(await world.fetch(TIMERS) == 0)


async def test_a_timer_set_again_fires_at_the_new_time_only(world: World) -> None:
    await world.send(*opening("soon", 1))
    async with world.workflows():
        await until_closed(world, 1)
        await world.send(OpenAccount(account_id="soon-1", owner="late"))
        await world.until_caught_up("concierge")
        row = await world.pool.fetchrow(
            "SELECT due_at, clock_timestamp() AS now FROM everfold.scheduled_commands"
        )
    assert row["due_at"] - row["now"] > timedelta(minutes=50)
    assert await world.count(AccountClosed) == 1


async def test_a_refused_timer_is_forgotten_and_its_neighbours_fire(world: World) -> None:
    await set_timer(world, "accounts.close", b'{"account_id": "nobody"}')
    await world.send(*opening("soon", 1))
    async with world.workflows():
        await until_closed(world, 1)
    assert [event.stream for event in await world.recorded(AccountClosed)] == ["accounts/soon-1"]


async def test_a_timer_that_this_program_does_not_know_is_kept_and_says_why(world: World) -> None:
    """F39 for timers: a newer program set it; it is neither dropped nor in its neighbours' way."""
    await set_timer(world, "accounts.freeze", b"{}")
    await world.send(*opening("soon", 1))
    async with world.workflows():
        await world.until(lambda: _has_error(world))
        await world.until(lambda: _closed(world, "accounts/soon-1"))
    assert await world.fetch(TIMERS) == 1


async def set_timer(world: World, command: str, fields: bytes) -> None:
    """Set a timer that is due, as a program of another build would have."""
    await world.pool.execute(
        """
        INSERT INTO everfold.scheduled_commands (partition, workflow, tenant, key, due_at, try_at, command, fields,
               idempotency_key, causation_id, correlation_id)
        VALUES ($1, 'concierge', $2, 'other', clock_timestamp(), clock_timestamp(), $3, $4, 'k', 'c', 'c')
        """,
        await world.partition(TENANT), TENANT, command, fields,
    )  # fmt: skip


async def _has_error(world: World) -> bool:
    error = await world.fetch("SELECT last_error FROM everfold.scheduled_commands WHERE key = 'other'")
    return error is not None and "accounts.freeze" in error


async def _closed(world: World, stream: str) -> bool:
    return stream in [event.stream for event in await world.recorded(AccountClosed)]


async def test_the_clock_of_the_process_does_not_matter(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting is counted by the database: a process whose clock is a day ahead sets the same timer."""
    real = time.time
    await world.send(*opening("late", 1))
    monkeypatch.setattr(time, "time", lambda: real() + 86_400)
    async with world.workflows():
        await world.until_caught_up("concierge")
    row = await world.pool.fetchrow(
        "SELECT due_at, clock_timestamp() AS now FROM everfold.scheduled_commands"
    )
    assert timedelta(minutes=55) < row["due_at"] - row["now"] <= timedelta(hours=1)


async def test_waiting_for_timers_costs_a_look_a_second(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No polling storm: neither far timers nor a stream of events that set some make it look more often."""
    from command_api.timekeeper import LOOK_SECONDS_MAX, Timekeeper

    turns: list[float] = []
    turn = Timekeeper._turn

    async def counted(self: Timekeeper) -> float:
        turns.append(time.monotonic())
        return await turn(self)

    monkeypatch.setattr(Timekeeper, "_turn", counted)
    async with world.workflows():
        await world.send(*opening("late", 1))
        await world.until_caught_up("concierge")
        began, before = time.monotonic(), len(turns)
        for number in range(2, 22):
            await world.send(*opening("late", number))
            await world.until_caught_up("concierge")
        await asyncio.sleep(LOOK_SECONDS_MAX)
        looked, passed = len(turns) - before, time.monotonic() - began
    assert await world.fetch(TIMERS) == 21
    assert looked <= passed / LOOK_SECONDS_MAX + 2


async def test_the_next_timers_are_found_by_index(world: World) -> None:
    """A hundred thousand far timers are not read to find the three that are due."""
    await world.pool.execute(
        """
        INSERT INTO everfold.scheduled_commands (partition, workflow, tenant, key, due_at, try_at, command, fields,
               idempotency_key, causation_id, correlation_id)
        SELECT $1, 'concierge', $2, n::text, at, at, 'accounts.close', '{}', n::text, 'c', 'c'
          FROM generate_series(1, 100000) AS n
         CROSS JOIN LATERAL (SELECT now() + CASE WHEN n < 4 THEN interval '-1 s' ELSE n * interval '1 s' END) AS t (at)
        """,
        await world.partition(TENANT), TENANT,
    )  # fmt: skip
    await world.pool.execute("ANALYZE everfold.scheduled_commands")
    from infra.sql import load_sql

    for name, arguments in (
        ("due", "0, 'concierge', now(), true, 500"),
        ("next_due", "'{0}', '{concierge}'"),
    ):
        statement = load_sql("command_api", f"sql/{name}.sql", namespace="everfold")
        async with world.pool.acquire() as connection, connection.transaction():
            types = "integer, text, timestamptz, boolean, integer" if name == "due" else "integer[], text[]"
            await connection.execute(f"PREPARE looked ({types}) AS {statement}")
            plan = await connection.fetch(f"EXPLAIN EXECUTE looked ({arguments})")
            await connection.execute("DEALLOCATE looked")
        said = "\n".join(row[0] for row in plan)
        assert "scheduled_commands_next" in said, said
        assert "Seq Scan on scheduled_commands" not in said, said
