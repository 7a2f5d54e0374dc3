"""
Reads with a position, while all that may be late is late: each is checked against the log.

One writer appends, applies (to the cache as well, or not), swaps generations, flushes Redis and pauses a real replica;
readers ask two query APIs, as two processes with nothing in common but Redis and PostgreSQL, for a document, a list and
a sum. An answer must reflect the position that was asked for (I11), claim a position and a hash that the log has (I12),
and be exactly what the log had at the position that it claims (I20). A refusal must be one of those that the contract
has for it; none is counted as an answer.
"""

import asyncio
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from query_api.app import make_query_api, queries_of, query_api
from schemas.position import parse_position
from tests.integration.query_api.readside import TENANT, ReadSideUnderTest
from tests.toy import DOMAIN

ACCOUNTS = [f"A-{number}" for number in range(6)]
READERS = 8
TOKENS_KEPT = 30
GENERATIONS_KEPT = 2
LIST_PATH, SUM_PATH = "/v1/accounts?sort=account_id&limit=500", "/v1/wealth"
REFUSED = 412


@dataclass
class Told:
    """What the log says: balances after each of its positions."""

    positions: list[int] = field(default_factory=list)
    balances: list[dict[str, int]] = field(default_factory=list)
    hashes: dict[int, str] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)

    def note(self, token: str, account_id: str, cents: int) -> None:
        """Take note of a commit."""
        _, position, prefix = parse_position(token, TENANT)
        before = self.balances[-1] if self.balances else {}
        self.positions.append(position)
        self.balances.append(before | {account_id: before.get(account_id, 0) + cents})
        self.hashes[position] = prefix
        self.tokens.append(token)

    def at(self, position: int) -> dict[str, int]:
        """Return the balances as of a position."""
        index = bisect_right(self.positions, position)
        return self.balances[index - 1] if index else {}


@dataclass
class Found:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    hits: int = 0
    wrong: list[str] = field(default_factory=list)
    steps: Counter[str] = field(default_factory=Counter)

    @property
    def answers(self) -> int:
        """How many reads were answered."""
        return self.statuses[200]


class TokenReads:
    """The readers, the writer, and what stands in their way."""

    def __init__(
        self, side: ReadSideUnderTest, clients: list[Any], replica_url: str, chance: random.Random
    ) -> None:
        self.side, self.clients, self.chance = side, clients, chance
        self.told, self.found = Told(), Found()
        self._replica_url = replica_url
        self._live, self._highest = 1, 1
        self._is_paused = False

    async def run(self, reads: int) -> Found:
        """Read so many times, and return what was found."""
        for account_id in ACCOUNTS:
            self.told.note(await self.side.open_account(account_id, 100), account_id, 100)
        await self.side.apply()
        readers = [asyncio.create_task(self._read(reads // READERS)) for _ in range(READERS)]
        writing = asyncio.create_task(self._write(lambda: all(reader.done() for reader in readers)))
        await asyncio.gather(*readers, writing)
        return self.found

    async def _write(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            step = self.chance.random()
            if step < 0.02:
                await self._flush()
            elif step < 0.03:
                await self._swap()
            elif step < 0.06:
                await self._pause_or_resume()
            else:
                await self._deposit()
            await asyncio.sleep(self.chance.random() * 0.02)
        if self._is_paused:
            await self._pause_or_resume()

    async def _deposit(self) -> None:
        account_id = self.chance.choice(ACCOUNTS)
        self.told.note(await self.side.deposit(account_id, 1), account_id, 1)
        if self.chance.random() < 0.8:
            to_cache, notify = self.chance.random() < 0.8, self.chance.random() < 0.8
            await self.side.apply(generation=self._live, to_cache=to_cache, notify=notify)
            self.found.steps["written through" if to_cache else "applied"] += 1

    async def _flush(self) -> None:
        assert self.side.redis is not None
        await self.side.redis.run("return redis.call('FLUSHDB')", [], [])
        self.found.steps["flushed"] += 1

    async def _swap(self) -> None:
        self._highest += 1
        await self.side.open_generation(self._highest)
        await self.side.apply(generation=self._highest, to_cache=False, notify=False)
        await self.side.swap(self._highest)
        if self._highest > GENERATIONS_KEPT:
            await self.side.drop_generation(self._highest - GENERATIONS_KEPT)
        self._live = self._highest
        self.found.steps["swapped"] += 1

    async def _pause_or_resume(self) -> None:
        connection = await asyncpg.connect(self._replica_url)
        word = "resume" if self._is_paused else "pause"
        await connection.execute(f"SELECT pg_wal_replay_{word}()")
        await connection.close()
        self._is_paused = not self._is_paused
        self.found.steps[f"replica {word}d"] += 1

    async def _read(self, count: int) -> None:
        last = ""
        for _ in range(count):
            token = last if last and self.chance.random() < 0.3 else self._some_token()
            account_id = self.chance.choice(ACCOUNTS)
            path = self.chance.choice([f"/v1/accounts/{account_id}"] * 3 + [LIST_PATH, SUM_PATH])
            client = self.chance.choice(self.clients)
            headers = {"everfold-position": token, "prefer": f"wait={self.chance.choice([0, 1, 2])}"}
            response = await client.get(path, headers=headers)
            self.found.statuses[response.status_code] += 1
            if response.status_code == 200:
                self.found.hits += "hit" in response.headers["cache-status"]
                self._check(path, token, response)
                last = response.headers["everfold-position"]
            elif response.status_code != REFUSED:
                self.found.wrong.append(f"{path}: {response.status_code} {response.text}")

    def _some_token(self) -> str:
        return self.chance.choice(self.told.tokens[-TOKENS_KEPT:])

    def _check(self, path: str, token: str, response: Any) -> None:
        asked = parse_position(token, TENANT)
        claimed = parse_position(response.headers["everfold-position"], TENANT)
        balances = self.told.at(claimed.position)
        body = response.json()
        if path == LIST_PATH:
            is_same = {item["account_id"]: item["balance_cents"] for item in body["items"]} == balances
        elif path == SUM_PATH:
            is_same = body == {"accounts": len(balances), "cents": sum(balances.values())}
        else:
            is_same = body["balance_cents"] == balances[path.rpartition("/")[2]]
        is_in_chain = self.told.hashes.get(claimed.position) == claimed.hash_prefix
        if claimed.position < asked.position or not is_in_chain or not is_same:
            self.found.wrong.append(f"{path} asked {asked}, claimed {claimed}: {body}, the log: {balances}")


@asynccontextmanager
async def reading(
    side: ReadSideUnderTest, replica_url: str, chance: random.Random
) -> AsyncIterator[TokenReads]:
    """Two query APIs over one read side, ready to be read from."""
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(query_api(side.settings))
        made = make_query_api(other.parts, queries_of([DOMAIN]))
        clients = [side.client, await stack.enter_async_context(side.client_of(made))]
        yield TokenReads(side, clients, replica_url, chance)


async def token_reads(
    primary_url: str, replica_url: str, redis_url: str, folder: Path, *, reads: int, seed: int
) -> Found:
    """Read some thousand times over a migrated primary and its replica; return what was found."""
    async with (
        ReadSideUnderTest(primary_url, redis_url, folder, replica_urls=(replica_url,)) as side,
        reading(side, replica_url, random.Random(seed)) as readers,
    ):
        return await readers.run(reads)
