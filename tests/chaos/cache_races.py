"""
Races of a projector, a zombie and some fillers for the cache, with keys evicted and the whole cache flushed in between.

The table is a dictionary and Redis is real: what is raced are the scripts. After every step each document is read as a
reader would, and must be what the table had at the checkpoint that it claims, and never older than it was before (F44,
F45, I20).
"""

import random

from infra.documents import Document, DocumentWriter, Kind, Mark, Place, Written, decode, decode_mark, encode
from infra.redis import RedisCache
from query_api.cache import Cache
from schemas.envelope import CommitMark

PLACE = Place("race", "orders", 1)
KEYS = ["A", "B", "C"]


def mark_at(position: int) -> CommitMark:
    return CommitMark(position, position.to_bytes(4) + bytes(28))


class Table:
    """What PostgreSQL would say: every key's value at every checkpoint."""

    def __init__(self) -> None:
        self.checkpoint = 0
        self.history: list[dict[str, int]] = [{}]

    def commit(self, changes: dict[str, int]) -> None:
        self.history.append(self.history[-1] | changes)
        self.checkpoint += 1

    def at(self, checkpoint: int, key: str) -> bytes:
        return b"%d" % self.history[checkpoint].get(key, 0)


async def look(redis: RedisCache, key: str) -> tuple[Document, Mark] | None:
    """Read a document as a reader does."""
    mark_value, value = await redis.get_many([PLACE.mark(0), PLACE.document(0, "t", [key])])
    mark, document = decode_mark(mark_value), decode(value)
    return None if mark is None or document is None else (document, mark)


async def race(redis: RedisCache, *, rounds: int, seed: int) -> int:
    """Run some rounds, and return how many documents the cache could answer; fails where one is not what it claims."""
    chance = random.Random(seed)
    table, writer, filler = Table(), DocumentWriter(redis, "race"), Cache(redis)
    late_writes: list[tuple[int, int, dict[str, int]]] = []
    late_fills: list[tuple[int, str]] = []

    async def write(before: int, after: int, changes: dict[str, int]) -> None:
        rows = [Written("t", (key,), table.at(after, key)) for key in changes]
        await writer.write(
            "orders", 1, 0, before=mark_at(before), after=mark_at(after), rows=rows, tenants={"t": after}
        )

    async def fill(as_of: int, key: str) -> None:
        value = encode(Kind.THERE, mark_at(as_of), table.at(as_of, key))
        filler.fill(PLACE, 0, mark_at(as_of), {PLACE.document(0, "t", [key]): value}, seconds=600)
        await filler._fill(filler._fills.get_nowait())

    served = 0
    newest = dict.fromkeys(KEYS, 0)
    for round_number in range(rounds):
        match chance.randrange(11):
            case 0 | 1 | 2:
                changes = {key: round_number + 1 for key in KEYS if chance.random() < 0.5}
                table.commit(changes)
                update = (table.checkpoint - 1, table.checkpoint, changes)
                if chance.random() < 0.93:
                    await write(*update)
                elif chance.random() < 0.7:
                    late_writes.append(update)
            case 3 if late_writes:
                await write(*late_writes.pop(chance.randrange(len(late_writes))))
            case 4 | 5:
                late_fills.append((table.checkpoint, chance.choice(KEYS)))
            case 6 | 7 if late_fills:
                await fill(*late_fills.pop(chance.randrange(len(late_fills))))
            case 8 | 10:
                is_mark = chance.random() < 0.05
                evicted = PLACE.mark(0) if is_mark else PLACE.document(0, "t", [chance.choice(KEYS)])
                await redis.run("return redis.call('DEL', KEYS[1])", [evicted], [])
            case 9 if chance.random() < 0.05:
                await redis.run("return redis.call('FLUSHDB')", [], [])
        for key in KEYS:
            found = await look(redis, key)
            if found is None:
                newest[key] = 0
            elif (claimed := found[0].reflects(found[1])) is not None:
                served += 1
                assert found[0].as_of >= newest[key], (seed, round_number, key)
                newest[key] = found[0].as_of
                assert found[0].data == table.at(claimed[0], key), (seed, round_number, key, claimed)
                assert claimed[0] <= table.checkpoint, (seed, round_number)
    return served
