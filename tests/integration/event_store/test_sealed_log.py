"""Personal fields in the log: stored encrypted, read as they were, and erased with their key; on a real PostgreSQL."""

import asyncio
from pathlib import Path

import orjson
import pytest

from event_store.connections import StoreConnection
from event_store.failures import StoreNotMigrated
from event_store.integrity import verify_log
from event_store.key_ring import KEYS_MAX, LOOK_SECONDS, KeyLost, KeyRing
from event_store.log import StreamTail
from event_store.sealed_log import SealedLog
from event_store.sealing import MARK, SealBroken, Sealer
from event_store.subject_keys import subject_of
from infra.master_key_file import FileMasterKeys, new_line
from infra.master_keys import MasterKeyMissing
from schemas.envelope import BEGINNING
from schemas.errors import EpochChanged
from schemas.messages import ERASED
from tests.contract.log.appends import TENANT
from tests.integration.event_store.sealing import CANARY, REGISTRY, Process, joined, paid, process

MEMBER = subject_of(TENANT, "m1")


async def erase(one: Process, member: str = "m1") -> int | None:
    return await one.keys.destroy(subject_of(TENANT, member), "ann", "asked to")


async def test_what_is_read_is_what_was_appended_and_what_is_stored_is_not_readable(
    store_url: str, tmp_path: Path, admin: StoreConnection
) -> None:
    async with process(store_url, tmp_path) as one:
        given = joined("m1")
        await one.append(given, paid("m1"), joined("m2", None))
        read = [event async for event in one.log.read_stream(TENANT, "members/m1")]
        assert [event.data for event in read] == [given.events[0].data, b'{"cents":1}']
        (stored, plain) = await one.bytes_of("m1")
        assert MARK in stored.data
        assert CANARY.encode() not in stored.data
        assert plain.data == b'{"cents":1}'
        assert [event.data for event in await one.bytes_of("m2")] == [joined("m2", None).events[0].data]
    dumped = await admin.fetchval("SELECT string_agg(k::text, '') FROM everfold.subject_keys AS k")
    assert await admin.fetchval("SELECT count(*) FROM everfold.subject_keys") == 1
    assert "m1" not in dumped


async def test_every_way_to_read_opens_and_every_event_has_a_nonce_of_its_own(
    store_url: str, tmp_path: Path
) -> None:
    async with process(store_url, tmp_path) as one:
        for _ in range(2):
            await one.append(joined("m1"), joined("m2"))
        partition = await one.log.partition_of(TENANT)
        clear = joined("m1").events[0].data
        tails, _ = await one.log.read_tails(partition, [StreamTail(TENANT, "members/m1")])
        page = await one.log.read_page(partition, BEGINNING, events_max=100)
        part = await one.log.read_range(partition, 1, 1)
        assert [event.data for event in (*tails, *part)] == [clear] * 3
        assert [b'"phone":"canary' in event.data for event in page.events] == [True] * 4
        assert page.end == (await one.log.heads())[partition]
        stored = [orjson.loads(event.data)["phone"]["$sealed"] for event in await one.bytes_of("m1")]
        assert len(set(stored)) == 2


async def test_a_value_that_is_changed_or_moved_does_not_open(store_url: str, tmp_path: Path) -> None:
    async with process(store_url, tmp_path) as one:
        await one.append(joined("m1"), joined("m2"), joined("m1", "another"))
        first, last = await one.bytes_of("m1")
        (other,) = await one.bytes_of("m2")
        moved = [
            first._replace(id=last.id),
            first._replace(data=last.data),
            first._replace(data=other.data.replace(b'"m2"', b'"m1"')),
            first._replace(data=first.data.replace(b'{"$sealed":"1.', b'{"$sealed":"1.AAAA')),
        ]
        for event in moved:
            with pytest.raises(SealBroken):
                await one.log.open([event])
        with pytest.raises(KeyLost):
            await one.log.open([first._replace(tenant="other")])


async def test_two_processes_that_make_a_key_for_one_person_have_the_same_one(
    store_url: str, tmp_path: Path, admin: StoreConnection
) -> None:
    async with process(store_url, tmp_path) as one, process(store_url, tmp_path) as other:
        members = [f"m{number}" for number in range(20)]
        for attempt in range(5):
            await asyncio.gather(
                *(
                    each.append(*(joined(f"{member}-{attempt}") for member in order))
                    for each, order in ((one, members), (other, members[::-1]))
                )
            )
        keys = await admin.fetchval("SELECT count(*) FROM everfold.subject_keys")
        assert keys == 5 * len(members)
        for attempt in range(5):
            for member in members:
                assert await one.phones(f"{member}-{attempt}") == [CANARY] * 2


async def test_an_erased_persons_values_read_as_erased_and_the_chain_still_holds(
    store_url: str, tmp_path: Path
) -> None:
    async with process(store_url, tmp_path) as one:
        await one.append(joined("m1"), joined("m2"))
        assert await erase(one) == 1
        assert await erase(one) is None
        one.now += LOOK_SECONDS
        assert await one.phones("m1") == [ERASED]
        assert await one.phones("m2") == [CANARY]
        assert (await verify_log(one.stored, one.stored.partitions)).ok


async def test_the_next_data_of_an_erased_person_has_a_key_of_its_own(store_url: str, tmp_path: Path) -> None:
    async with process(store_url, tmp_path) as one:
        await one.append(joined("m1", "old"))
        await erase(one)
        one.now += LOOK_SECONDS
        with pytest.raises(EpochChanged):  # what is known may rest on what was readable before
            await one.append(joined("m1", "new"))
        await one.append(joined("m1", "new"))
        assert await one.phones("m1") == [ERASED, "new"]
        await erase(one)
        one.now += LOOK_SECONDS
        assert await one.phones("m1") == [ERASED, ERASED]


async def test_every_process_forgets_a_key_within_the_bound(store_url: str, tmp_path: Path) -> None:
    async with process(store_url, tmp_path) as one, process(store_url, tmp_path) as other:
        await one.append(joined("m1"))
        assert await other.phones("m1") == [CANARY]
        await erase(one)
        other.now += LOOK_SECONDS - 0.01
        assert await other.phones("m1") == [CANARY]
        other.now += 0.01
        assert await other.phones("m1") == [ERASED]


async def test_no_key_is_handed_out_when_the_database_cannot_be_asked(
    store_url: str, tmp_path: Path, admin: StoreConnection
) -> None:
    async with process(store_url, tmp_path) as one:
        await one.append(joined("m1"))
        (stored,) = await one.bytes_of("m1")
        await admin.execute("ALTER TABLE everfold.key_epoch RENAME TO away")
        one.now += LOOK_SECONDS
        with pytest.raises(StoreNotMigrated):
            await one.log.open([stored])


async def test_data_that_rests_on_what_was_readable_is_decided_again(store_url: str, tmp_path: Path) -> None:
    """The process is told by the new key's own row, before it would have looked."""
    async with process(store_url, tmp_path) as one:
        partition = await one.log.partition_of(TENANT)
        await one.append(joined("m1"))
        await one.log.read_tails(partition, [StreamTail(TENANT, "members/m1")])
        await erase(one)
        with pytest.raises(EpochChanged):
            await one.append(joined("m3"))
        await one.append(joined("m3"))
        assert await one.phones("m1") == [ERASED]
        assert len(await one.bytes_of("m3")) == 1


async def test_what_is_appended_on_a_destroyed_key_before_that_is_known_reads_as_erased(
    store_url: str, tmp_path: Path
) -> None:
    async with process(store_url, tmp_path) as one:
        await one.append(joined("m1"))
        await erase(one)
        await one.append(joined("m1", "too late"))
        one.now += LOOK_SECONDS
        assert await one.phones("m1") == [ERASED, ERASED]


async def test_keys_that_are_not_at_hand_any_more_are_loaded_again(store_url: str, tmp_path: Path) -> None:
    async with process(store_url, tmp_path) as one:
        ring = KeyRing(one.keys, one.masters, keys_max=3)
        log = SealedLog(one.stored, Sealer(ring), REGISTRY)
        partition = await log.partition_of(TENANT)
        await log.append_batch(partition, [joined(f"m{number}") for number in range(10)])
        page = await log.read_page(partition, BEGINNING, events_max=100)
        assert all(CANARY.encode() in event.data for event in page.events)
        assert len(ring) == 3 < KEYS_MAX


async def test_a_master_key_follows_another_without_a_stop(store_url: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{new_line()}\n")
    async with process(store_url, tmp_path) as one:
        ring = KeyRing(one.keys, FileMasterKeys(path))
        log = SealedLog(one.stored, Sealer(ring), REGISTRY)
        partition = await log.partition_of(TENANT)
        await log.append_batch(partition, [joined("m1")])
        old = path.read_text()
        path.write_text(f"{new_line()}\n{old}")
        await log.append_batch(partition, [joined("m2")])
        after = SealedLog(one.stored, Sealer(KeyRing(one.keys, FileMasterKeys(path))), REGISTRY)
        await after.append_batch(partition, [joined("m3")])
        page = await log.read_page(partition, BEGINNING, events_max=100)
        assert [CANARY.encode() in event.data for event in page.events] == [True] * 3
        path.write_text(f"{new_line()}\n")
        without = SealedLog(one.stored, Sealer(KeyRing(one.keys, FileMasterKeys(path))), REGISTRY)
        with pytest.raises(MasterKeyMissing):
            await without.read_page(partition, BEGINNING, events_max=100)


async def test_events_without_marks_pass_as_the_very_objects_that_they_are(
    store_url: str, tmp_path: Path
) -> None:
    async with process(store_url, tmp_path) as one:
        await one.append(paid("m1"))
        events = await one.bytes_of("m1")
        assert await one.log.open(events) is events
        assert one.ring.epoch is None
