"""
I14: over any number of connections, to any process, a client is told everything, once, and in order.

Clients come and go between two processes of the query API, one of which is killed in between, while accounts change.
"""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.integration.query_api.live import ServerProcess, stream
from tests.integration.query_api.readside import NAMESPACE, TENANT, ReadSideUnderTest
from tests.toy import AccountOpened, Deposited

ACCOUNTS, STEPS, CLIENTS = 12, 150, 6
POOR_CENTS = 130
SETTLED_SECONDS_MAX = 60.0


@dataclass
class Client:
    """Somebody who follows accounts over many connections, and checks what they are told."""

    path: str
    token: str
    servers: list[ServerProcess]
    chance: random.Random
    mark: str | None = None
    documents: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    changes: int = 0
    connections: int = 0
    resets: int = 0

    def take(self, event: str, data: Mapping[str, Any]) -> None:
        """Take a message on."""
        if event == "reset":
            self.resets += 1
            self.begin_anew()
        elif event in ("snapshot", "change"):
            key, version = data["key"], data["version"]
            if data["op"] == "delete":
                self.documents.pop(key, None)
                return
            assert version > self.versions.get(key, 0), f"{key} is told again, or of its past: {data}"
            self.versions[key], self.documents[key] = version, data["document"]
            self.changes += event == "change"

    def begin_anew(self) -> None:
        self.documents.clear()
        self.versions.clear()

    async def connect(self, seconds: float, wanted: Mapping[str, Any] | None = None) -> None:
        """Follow over one connection, which is cut after a while, or by the server, or when all is as wanted."""
        self.connections += 1
        server = self.chance.choice(self.servers)
        headers = {"last_event_id": self.mark} if self.mark else {}
        if not self.mark:
            self.begin_anew()
        with suppress(httpx2.TransportError, EOFError, TimeoutError):
            async with asyncio.timeout(seconds), stream(server.url, self.token, self.path, **headers) as told:
                if told.response.status_code == 503:
                    return
                assert told.response.status_code == 200, told.response.text
                while True:
                    message = await told.next()
                    self.take(message.event, message.data)
                    self.mark = told.mark or self.mark
                    if self.documents == wanted:
                        return

    async def run(self, until: asyncio.Event) -> None:
        """Come and go."""
        while not until.is_set():
            await self.connect(self.chance.uniform(0.05, 1.0))


@asynccontextmanager
async def processes(side: ReadSideUnderTest, redis_url: str) -> AsyncIterator[list[ServerProcess]]:
    """Keep two processes of the query API running for a block."""
    store_url = side.settings.store_url
    assert store_url is not None
    environment = {
        "EVERFOLD_STORE_URL": store_url.get_secret_value(),
        "EVERFOLD_REDIS_URL": redis_url,
        "EVERFOLD_DATA_DIR": str(side.settings.data_dir),
    }
    servers = [ServerProcess(environment), ServerProcess(environment)]
    try:
        await asyncio.gather(*(server.start() for server in servers))
        yield servers
    finally:
        await asyncio.gather(*(server.end(signal.SIGTERM) for server in servers))


async def live_on(side: ReadSideUnderTest, chance: random.Random, servers: list[ServerProcess]) -> None:
    """Let accounts change in every way, the tables follow now and then, and a process be killed."""
    is_open = dict.fromkeys(range(ACCOUNTS), False)
    for step in range(STEPS):
        number = chance.randrange(ACCOUNTS)
        account = f"A{number}"
        if not is_open[number]:
            await side.happen(account, AccountOpened(owner="Ann"), Deposited(cents=100))
            is_open[number] = True
        elif chance.random() < 0.1:
            await side.close(account)
            is_open[number] = False
        else:
            await side.deposit(account, chance.randrange(1, 20))
        if chance.random() < 0.5:
            await side.apply(to_cache=False, notify=chance.random() < 0.9)
        if step == STEPS // 2:
            await servers[1].end(signal.SIGKILL)
        if step == STEPS * 2 // 3:
            await servers[1].start()
        await asyncio.sleep(chance.uniform(0, 0.04))
    await side.apply(to_cache=False)


async def rows_of(side: ReadSideUnderTest, below_cents: int | None) -> dict[str, Any]:
    rows = await side.pool.fetch(
        f"SELECT account_id, doc FROM {NAMESPACE}_account_balances_1.rows WHERE tenant = $1 "
        "AND ($2::bigint IS NULL OR balance_cents < $2)",
        TENANT,
        below_cents,
    )
    return {row["account_id"]: orjson.loads(row["doc"]) for row in rows}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1])
async def test_i14_f48_clients_that_come_and_go_are_told_everything_once_and_in_order(
    store_url: str, redis_url: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    async with (
        ReadSideUnderTest(store_url, redis_url, tmp_path) as side,
        processes(side, redis_url) as servers,
    ):
        token, over = side.token(TENANT, ["viewer"]), asyncio.Event()
        paths = ["/v1/live?views=accounts", f"/v1/live?views=accounts&below_cents={POOR_CENTS}"]
        clients = [
            Client(paths[number % 2], token, servers, random.Random(f"{seed} {number}"))
            for number in range(CLIENTS)
        ]
        following = [asyncio.create_task(client.run(over)) for client in clients]
        await live_on(side, chance, servers)
        over.set()
        await asyncio.gather(*following)
        for client in clients:
            wanted = await rows_of(side, POOR_CENTS if "below" in client.path else None)
            async with asyncio.timeout(SETTLED_SECONDS_MAX):
                while client.documents != wanted:
                    await client.connect(2.0, wanted)
            assert client.resets == 0
        assert sum(client.changes for client in clients) > STEPS / 4
        assert sum(client.connections for client in clients) > 5 * CLIENTS
