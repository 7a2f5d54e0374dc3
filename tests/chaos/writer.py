"""
One writer that may be killed at any moment and goes on where it was.

    python -m tests.chaos.writer URL NAMESPACE NUMBER EVENTS SEED

It appends its numbered events to a stream of its own, in batches of random sizes, and some to a stream that all share;
it learns from the log how far it has come, so a lost reply costs nothing. Ends when the log has all of its events.
"""

import asyncio
import random
import sys

import orjson
from uuid_utils import uuid7

from event_store.log import Answer, Append, Check, Expect, IdempotencyKey, NewEvent
from event_store.postgres import PostgresLog
from schemas.errors import OutcomeUnknown, StoreUnavailable

TENANT = "chaos"
SHARED = "shared/1"
APPENDS_MAX, EVENTS_MAX = 20, 8
PAUSE_SECONDS = 0.05
PARTITION = 0


def stream_of(writer: int) -> str:
    """Return the stream that a writer has for itself."""
    return f"writers/{writer}"


def _event(stream: str, writer: int, number: int) -> NewEvent:
    data = orjson.dumps({"writer": writer, "number": number})
    return NewEvent(stream, str(uuid7()), "Written", 1, data)


def _batch(writer: int, version: int, events: int, chance: random.Random) -> list[Append]:
    """Return appends that go on from a version; each second event or so is noted in the shared stream too."""
    batch: list[Append] = []
    for _ in range(chance.randint(1, APPENDS_MAX)):
        size = min(chance.randint(1, EVENTS_MAX), events - version)
        if size <= 0:
            break
        stream = stream_of(writer)
        written = [_event(stream, writer, number) for number in range(version + 1, version + size + 1)]
        checks = [Check(stream, version)]
        if chance.random() < 0.2:
            checks.append(Check(SHARED, Expect.ANY))
            written.append(_event(SHARED, writer, version + 1))
        key = IdempotencyKey(f"writer-{writer}", f"{version}", bytes(32))
        batch.append(Append(TENANT, stream, checks, written, b"{}", key))
        version += size
    return batch


async def _version(log: PostgresLog, writer: int) -> int:
    """Ask the log how far a writer has come: the number is the version, so one append of nothing tells it."""
    look = Append(TENANT, stream_of(writer), [Check(stream_of(writer), Expect.ANY)])
    (outcome,) = await log.append_batch(PARTITION, [look])
    return outcome.version


async def _found_out(log: PostgresLog, writer: int) -> int:
    """Ask until the log answers."""
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        try:
            return await _version(log, writer)
        except (OutcomeUnknown, StoreUnavailable):
            continue


async def write(url: str, namespace: str, writer: int, events: int, chance: random.Random) -> None:
    """Append until all of the writer's events are there."""
    async with PostgresLog({range(1): url}, namespace) as log:
        version = await _found_out(log, writer)
        while version < events:
            try:
                outcomes = await log.append_batch(PARTITION, _batch(writer, version, events, chance))
            except (OutcomeUnknown, StoreUnavailable):
                version = await _found_out(log, writer)
                continue
            assert {outcome.answer for outcome in outcomes} == {Answer.APPENDED}, outcomes
            version = outcomes[-1].version


if __name__ == "__main__":
    _, url_, namespace_, writer_, events_, seed_ = sys.argv
    asyncio.run(write(url_, namespace_, int(writer_), int(events_), random.Random(seed_)))
