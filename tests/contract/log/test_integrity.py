"""The chain of hashes, whoever computed it."""

from event_store.integrity import commit_hash, leaf_hash, micros, verify_log
from event_store.memory import MemoryLog
from event_store.postgres import PostgresLog
from schemas.envelope import BEGINNING
from tests.contract.log.appends import append, key, refusal

Log = MemoryLog | PostgresLog


async def fill(log: Log) -> None:
    """Append what exercises both ways through the append function, in two partitions."""
    for partition in (0, 3):
        await log.append_batch(
            partition, [append("a/1", 0, 3, key=key("k")), append("größe/1", 0, data=b"\x00:\xff")]
        )
        stale = [append("a/1", 9), append("a/1", 3, 2, tenant="tén"), append("a/1", 3, key=key("k"))]
        await log.append_batch(partition, [*stale, append("b/2", 0)])
        await log.append_batch(partition, [refusal("a/1", 4), append("b/1", 0, 300, data=b"x" * 2_100)])


async def test_the_chain_is_the_one_that_the_check_recomputes(log: Log) -> None:
    await fill(log)
    report = await verify_log(log, log.partitions)
    assert (report.ok, report.first_bad) == (True, None)
    assert report.events == sum(mark.position for mark in (await log.heads()).values())
    assert report.document() == {"ok": True, "first_bad": None}


async def test_a_commit_is_hashed_over_the_one_before_and_its_leaves_in_order(log: Log) -> None:
    await fill(log)
    page = await log.read_page(0, BEGINNING, events_max=1_000)
    first, second = page.commits[:2]
    leaves = [leaf_hash(event, micros(event.recorded_at)) for event in page.events]
    size = first.last_position
    assert commit_hash(bytes(32), 0, 1, size, micros(first.recorded_at), leaves[:size]) == first.hash
    assert second.previous_hash == first.hash
    assert len(set(leaves)) == len(leaves)


async def test_the_check_tells_how_far_it_is(log: Log) -> None:
    await fill(log)
    told: list[tuple[int, int]] = []
    await verify_log(log, log.partitions, lambda partition, position: told.append((partition, position)))
    heads = await log.heads()
    assert (told[-1], dict(told)[0]) == ((3, heads[3].position), heads[0].position)
