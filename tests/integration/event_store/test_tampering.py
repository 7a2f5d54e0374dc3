"""Whoever gets past the guards is found by the chain, at the right position. # S47"""

import random

import pytest

from event_store.connections import StoreConnection
from event_store.integrity import Fault, verify_log
from event_store.postgres import PostgresLog
from tests.contract.log.appends import append, tagged
from tests.integration.event_store.tampering import fill, tamper


async def first_bad(log: PostgresLog) -> Fault:
    report = await verify_log(log, log.partitions)
    assert not report.ok
    assert report.first_bad is not None
    return report.first_bad


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        (
            "UPDATE everfold.events SET data = set_byte(data, 2, get_byte(data, 2) # 1) WHERE position = 23",
            23,
        ),
        ("UPDATE everfold.events SET metadata = metadata || ' ' WHERE position = 46", 46),
        ("UPDATE everfold.events SET type = 'Other' WHERE position IN (4, 9)", 4),
        ("UPDATE everfold.events SET stream = 'a/x' WHERE position = 1", 1),
        ("UPDATE everfold.events SET tenant = 'a', stream = 'cme' || stream WHERE position = 2", 2),
        ("UPDATE everfold.events SET schema_version = 2 WHERE position = 6", 6),
        ("UPDATE everfold.events SET id = gen_random_uuid() WHERE position = 7", 7),
        (
            "UPDATE everfold.events SET recorded_at = recorded_at - interval '1 microsecond' WHERE position = 8",
            8,
        ),
        ("UPDATE everfold.events SET version = 50 WHERE position = 8", 8),
        ("DELETE FROM everfold.events WHERE position = 30", 30),
        ("DELETE FROM everfold.events WHERE position >= 7", 7),
        ("DELETE FROM everfold.commits WHERE last_position = 6", 2),
        ("DELETE FROM everfold.commits WHERE last_position = 46", 7),
        ("UPDATE everfold.commits SET recorded_at = now() WHERE last_position = 6", 2),
        ("UPDATE everfold.commits SET hash = sha256(hash) WHERE last_position = 6", 2),
        ("UPDATE everfold.commits SET previous_hash = sha256(hash) WHERE last_position = 46", 7),
        (
            "UPDATE everfold.commits SET marks = set_byte(marks, 8, get_byte(marks, 8) # 1) WHERE last_position = 46",
            9,
        ),
        ("UPDATE everfold.commits SET marks = marks || marks WHERE last_position = 6", 2),
        ("UPDATE everfold.commits SET first_position = 3 WHERE last_position = 6", 2),
        ("UPDATE everfold.commits SET octets = 1 WHERE last_position = 46", 7),
        (
            "INSERT INTO everfold.events SELECT 47, 1, now(), gen_random_uuid(), 0, 1, 'x', 'y/1', 'Z', '', ''",
            47,
        ),
    ],
)
async def test_tampering_is_found_where_it_was_done(
    log: PostgresLog, admin: StoreConnection, statement: str, position: int
) -> None:
    await fill(log, 1, 5, 40)
    await tamper(admin, statement)
    fault = await first_bad(log)
    assert (fault.partition, fault.position) == (0, position)


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        ("UPDATE everfold.tags SET tag = 'z' WHERE tag = 'x'", 2),
        ("UPDATE everfold.tags SET position = 3 WHERE tag = 'y'", 2),
        ("UPDATE everfold.tags SET type = 'Other' WHERE tag = 'y'", 2),
        ("UPDATE everfold.tags SET tenant = 'other' WHERE tag = 'x'", 2),
        ("DELETE FROM everfold.tags WHERE tag = 'x'", 2),
        ("DELETE FROM everfold.tags", 2),
        ("INSERT INTO everfold.tags SELECT 1, 0, 'acme', 'x', 'Counted'", 1),
    ],
)
async def test_tampering_with_tags_is_found_too(
    log: PostgresLog, admin: StoreConnection, statement: str, position: int
) -> None:
    await log.append_batch(0, [append("a/1", 0), tagged("a/2", "x", "y"), append("a/3", 0)])
    assert (await verify_log(log, log.partitions)).ok
    await tamper(admin, statement)
    assert (await first_bad(log)).position == position


async def test_one_changed_bit_anywhere_is_found(log: PostgresLog, admin: StoreConnection) -> None:
    await fill(log, 1, 5, 40)
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    for _ in range(25):
        position, column = chance.randint(1, 46), chance.choice(["data", "metadata"])
        flip = f"SET {column} = set_bit({column}, {chance.randrange(120)}, 1 - get_bit({column}, $))"
        flip = flip.replace("$", flip.split(", ")[1])
        await tamper(admin, f"UPDATE everfold.events {flip} WHERE position = {position}")
        fault = await first_bad(log)
        assert fault.position == position, f"seed {seed}"
        await tamper(admin, f"UPDATE everfold.events {flip} WHERE position = {position}")
    assert (await verify_log(log, log.partitions)).ok
