"""Idempotency keys are kept for as long as was promised, and then go by the day without holding up an append."""

import asyncio
from datetime import timedelta

from event_store.connections import StoreConnection, connect
from event_store.log import Answer
from event_store.postgres import PostgresLog
from schemas.errors import StoreUnavailable
from tests.contract.log.appends import append, key

KEPT = timedelta(hours=24)
LONG_AGO = timedelta(days=3)


async def age_keys(url: str, name: str, age: timedelta) -> None:
    """Have keys of a name be bound so long ago."""
    connection = await connect(url)
    try:
        await connection.execute("SELECT everfold.ensure_key_days_v1(0, now() - $1::interval)", age)
        await connection.execute(
            "UPDATE everfold.idempotency_keys SET recorded_at = recorded_at - $1::interval WHERE key = $2",
            age,
            name,
        )
    finally:
        connection.terminate()


async def days(connection: StoreConnection) -> list[str]:
    """Return the tables of partition 0's keys, attached or not."""
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^idempotency_keys_p0_d' ORDER BY 1"
    )
    return [row[0] for row in rows]


async def bind_old_and_young(log: PostgresLog, url: str) -> None:
    await log.append_batch(0, [append("a/1", 0, key=key("old")), append("a/2", 0, key=key("young"))])
    await age_keys(url, "old", LONG_AGO)


async def answers(log: PostgresLog) -> list[Answer]:
    outcomes = await log.append_batch(
        0, [append("a/1", 0, key=key("old")), append("a/2", 0, key=key("young"))]
    )
    return [outcome.answer for outcome in outcomes]


async def test_old_keys_are_forgotten_and_young_ones_are_not(
    log: PostgresLog, admin: StoreConnection, store_url: str
) -> None:
    await bind_old_and_young(log, store_url)
    assert len(await days(admin)) == 5
    assert await answers(log) == [Answer.DUPLICATE, Answer.DUPLICATE]
    await log.keep_house(0, keys_kept=KEPT)
    assert len(await days(admin)) in (
        3,
        2,
    )  # yesterday's, if its end is not long enough ago; today's; tomorrow's
    assert await answers(log) == [Answer.CONFLICT, Answer.DUPLICATE]


async def test_keys_are_kept_for_as_long_as_is_asked(
    log: PostgresLog, admin: StoreConnection, store_url: str
) -> None:
    await bind_old_and_young(log, store_url)
    await log.keep_house(0, keys_kept=LONG_AGO + KEPT)
    assert await answers(log) == [Answer.DUPLICATE, Answer.DUPLICATE]


async def test_appends_go_on_while_old_keys_wait_for_a_reader_to_end(
    log: PostgresLog, admin: StoreConnection, store_url: str
) -> None:
    await bind_old_and_young(log, store_url)
    async with admin.transaction():
        await admin.fetch("SELECT FROM everfold.idempotency_keys")
        house = asyncio.create_task(log.keep_house(0, keys_kept=KEPT))
        for version in range(1, 6):
            await asyncio.sleep(0.05)
            async with asyncio.timeout(2):
                (outcome,) = await log.append_batch(0, [append("a/1", version, key=key(f"k{version}"))])
            assert outcome.answer is Answer.APPENDED
        assert not house.done()
    async with asyncio.timeout(10):
        await house
    assert len(await days(admin)) in (3, 2)


async def test_what_interrupted_runs_have_begun_the_next_one_ends(
    log: PostgresLog, admin: StoreConnection, store_url: str
) -> None:
    """One day's keys were taken out and not dropped; the taking out of another's was cut off in its middle."""
    await bind_old_and_young(log, store_url)
    cut_off, taken_out, *_ = await days(admin)
    detach = "ALTER TABLE everfold.idempotency_keys_p0 DETACH PARTITION everfold.{} {}"
    await admin.execute(detach.format(taken_out, ""))
    other = await connect(store_url)
    async with admin.transaction():
        await admin.fetch("SELECT FROM everfold.idempotency_keys")
        run = asyncio.create_task(other.execute(detach.format(cut_off, "CONCURRENTLY")))
        while not await admin.fetchval("SELECT count(*) FROM pg_inherits WHERE inhdetachpending"):
            await asyncio.sleep(0.01)
        await admin.execute("SELECT pg_terminate_backend($1)", other.get_server_pid())
        await asyncio.gather(run, return_exceptions=True)
    await log.keep_house(0, keys_kept=KEPT)
    assert {cut_off, taken_out}.isdisjoint(await days(admin))
    assert await admin.fetchval("SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == 0
    assert await answers(log) == [Answer.CONFLICT, Answer.DUPLICATE]


async def test_two_that_keep_house_at_once_do_the_work_once(log: PostgresLog, store_url: str) -> None:
    await bind_old_and_young(log, store_url)
    async with PostgresLog({range(8): store_url}) as other:
        await asyncio.gather(*(house.keep_house(0, keys_kept=KEPT) for house in (log, other, log, other)))
    assert await answers(log) == [Answer.CONFLICT, Answer.DUPLICATE]


async def test_an_append_for_whose_key_there_is_no_day_has_it_made_and_succeeds_when_repeated(
    log: PostgresLog, admin: StoreConnection
) -> None:
    for day in await days(admin):
        await admin.execute(f"DROP TABLE everfold.{day}")
    one = append("a/1", 0, key=key("k"))
    try:
        await log.append_batch(0, [one])
    except StoreUnavailable:
        (outcome,) = await log.append_batch(0, [one])
        assert outcome.answer is Answer.APPENDED
    else:
        raise AssertionError("nothing was missing")
    assert len(await days(admin)) == 2
