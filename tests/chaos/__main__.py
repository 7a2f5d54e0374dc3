"""
`make chaos KILLS=n ROUNDS=n SEED=s`: rounds of load during which relays, projectors and workflows are killed.

Two processes of each role live and die by a seeded plan (plan.py), at failpoints and at random moments, while a client
does mischief in the broker's queues and others trade. A round ends with heal, quiesce and a checker that imports
nothing of the application (checker/). The first round that does not hold ends the run with exit status 1; its plan is
its seed, and its ledger, logs and database dump are kept. All is on loopback and bounded in time.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console

from infra.embedded.folders import ephemeral_folder
from infra.system import RunningSystem, running_system
from tests.broker import broker
from tests.chaos.clients import Clients
from tests.chaos.mischief import Tap, Villain
from tests.chaos.plan import FAILPOINTS
from tests.chaos.processes import Slot, deaths_of, seconds_of
from tests.queues import delete_queues
from tests.system import caught_up, facts, settings_for, tool

KILLS = 300
ROUNDS = 1
INSTANCES = 2
CLIENTS = 9
TENANTS = ("demo", "globex", "initech")
PARTITIONS = 3
ROUND_SECONDS_MAX = 1_800.0
QUIESCE_SECONDS_MAX = 120.0
NOTE_SECONDS = 5.0
SERVED_ELSEWHERE = ("relay", "projector", "workflow")
KEPT_PREFIX = "everfold-chaos-"


class Round:
    """One round of a run."""

    def __init__(self, system: RunningSystem, folder: Path, seed: int, number: int, console: Console) -> None:
        self._system, self._folder, self._console = system, folder, console
        self._seed, self._number = seed + number - 1, number
        roles = [role for role in FAILPOINTS if role in system.ports]
        self._slots = [Slot(system, role, one, folder) for role in roles for one in range(INSTANCES)]
        tokens = {tenant: system.token(tenant) for tenant in TENANTS}
        self._clients = Clients(system.command_url, tokens, folder / "ledger.jsonl", clients=CLIENTS)
        self._url = next(iter(system.settings.store_urls.values()))
        self._namespace = system.settings.namespace

    async def run(self, kills: int, villain: Villain | None, tap: Tap | None) -> bool:
        """Harm until there were so many deaths, heal, quiesce, and check; say whether all holds."""
        began = time.monotonic()
        mark = f"c{self._number}"
        await self._clients.register(mark)
        await self._harm(kills, mark, villain)
        harmed = time.monotonic()
        for slot in self._slots:
            await slot.heal()
        if villain is not None:
            await villain.forge_last()
        await caught_up(self._system, QUIESCE_SECONDS_MAX)
        await self._relayed()
        healed = time.monotonic()
        await self._replay(side := f"check_{self._namespace}_{self._number}")
        await self._tell(side, villain, tap)
        told = time.monotonic()
        self._console.print(
            f"seed {self._seed}: {deaths_of(self._slots).total()} deaths in {harmed - began:.0f} s "
            f"{dict(deaths_of(self._slots).most_common())}, mischief {dict(villain.done) if villain else 'none'}, "
            f"{self._clients.calls:,} commands in {self._clients.attempts:,} attempts, "
            f"healed in {healed - harmed:.1f} s"
        )
        spent = {what: round(seconds) for what, seconds in seconds_of(self._slots).items()}
        self._console.print(
            f"seconds of {len(self._slots)} processes: {spent}, replay and drain {told - healed:.0f}"
        )
        return await self._check()

    async def _relayed(self) -> None:
        """Wait for the relays too: other programs are told at a bounded rate, and later than our own."""
        async with asyncio.timeout(QUIESCE_SECONDS_MAX):
            while any(relay["lag_events"] for relay in (await facts(self._system, "status"))[1]["relays"]):
                await asyncio.sleep(0.5)

    async def _harm(self, kills: int, mark: str, villain: Villain | None) -> None:
        harmless = asyncio.Event()
        async with asyncio.timeout(ROUND_SECONDS_MAX), asyncio.TaskGroup() as tasks:
            for slot in self._slots:
                tasks.create_task(slot.suffer(self._seed, harmless))
            trade = tasks.create_task(self._clients.trade(mark, CLIENTS, self._seed, harmless))
            notes = tasks.create_task(self._note())
            mischief = tasks.create_task(villain.run()) if villain else None
            while deaths_of(self._slots).total() < kills:
                await asyncio.sleep(0.1)
            harmless.set()
            await trade
            notes.cancel()
            if mischief is not None:
                mischief.cancel()

    async def _note(self) -> None:
        """Write down now and then what the log holds: it must hold it for ever."""
        connection = await asyncpg.connect(self._url)
        try:
            while True:
                await asyncio.sleep(NOTE_SECONDS)
                heads = await connection.fetch(
                    f"SELECT DISTINCT ON (partition) partition, last_position, encode(hash, 'hex')"
                    f" FROM {self._namespace}.commits ORDER BY partition, last_position DESC"
                )
                events = await connection.fetch(
                    f"SELECT partition, position, id::text, md5(data) FROM {self._namespace}.events"
                    " ORDER BY recorded_at DESC LIMIT 200"
                )
                self._append("heads.jsonl", heads)
                self._append("events.jsonl", events)
        finally:
            await connection.close()

    def _append(self, name: str, rows: list[Any]) -> None:
        with (self._folder / name).open("a") as file:
            file.writelines(json.dumps(list(row)) + "\n" for row in rows)

    async def _replay(self, side: str) -> None:
        """Fold every projection again, each into a schema of its own whose name begins so."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
        status, out, error = await tool(self._system, "replay", "--all", "--as-of", now, "--into", side)
        assert status == 0, out + error

    async def _projections(self) -> list[str]:
        connection = await asyncpg.connect(self._url)
        try:
            rows = await connection.fetch(f"SELECT name FROM {self._namespace}.projections ORDER BY name")
        finally:
            await connection.close()
        return [row["name"] for row in rows]

    async def _tell(self, side: str, villain: Villain | None, tap: Tap | None) -> None:
        """Write down what the checker cannot read by itself; consumers have gone before queues are counted."""
        consumers = [("projection", name) for name in await self._projections()]
        consumers += [("workflow", name) for name in ("fulfilment", "recall", "expiry", "approval")]
        if villain is not None and tap is not None:
            consumers += [("relay", group) for group in ("projections", "workflows", "cloudevents")]
            await villain.drained()
            await asyncio.gather(*(slot.stop() for slot in self._slots))
            queued, dead = await villain.left_over()
            told = {
                "tapped": sorted(tap.heard), "queued": queued, "dead": dead, "injected": villain.injected,
                "injected_last": villain.injected_last,
            }  # fmt: skip
            (self._folder / "broker.json").write_text(json.dumps(told))
        run = {"store_url": self._url, "namespace": self._namespace, "side": side, "consumers": consumers}
        (self._folder / "run.json").write_text(json.dumps(run))

    async def _check(self) -> bool:
        """Run the checker, a program of its own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.checker", str(self._folder)
        )
        return await process.wait() == 0

    async def close(self) -> None:
        """Leave no process and no connection behind."""
        await self._clients.close()
        for slot in self._slots:
            slot.kill()


async def run(rounds: int, kills: int, seed: int, broker_url: str) -> int:
    """Run the rounds and return the exit status."""
    console = Console(soft_wrap=True)
    for number in range(1, rounds + 1):
        folder = Path(tempfile.mkdtemp(prefix=KEPT_PREFIX))
        holds = False
        try:
            async with _system(broker_url, folder / "system") as (system, villain, tap):
                one = Round(system, folder, seed, number, console)
                try:
                    holds = await one.run(kills, villain(seed + number - 1), tap)
                    if not holds:
                        await _dump(system, folder)
                finally:
                    await one.close()
        finally:
            if holds:
                shutil.rmtree(folder)
            else:
                console.print(f"[red]seed {seed + number - 1} does not hold; kept: {folder}[/]")
        if not holds:
            return 1
    return 0


@asynccontextmanager
async def _system(
    broker_url: str, data: Path
) -> AsyncIterator[tuple[RunningSystem, Callable[[int], Villain | None], Tap | None]]:
    """A system whose followers are not started, its villain by seed, and its tap."""
    settings = settings_for(data, broker_url=broker_url, partitions=PARTITIONS)
    async with AsyncExitStack() as stack:
        if settings.uses_broker:
            stack.push_async_callback(delete_queues, broker_url, settings.namespace, PARTITIONS)
        tap = (
            await stack.enter_async_context(Tap(broker_url, settings.namespace))
            if settings.uses_broker
            else None
        )
        system = await stack.enter_async_context(running_system(settings))
        for role in SERVED_ELSEWHERE:
            if role in system.ports:
                await system.stop_role(role)

        def villain(seed: int) -> Villain | None:
            return Villain(broker_url, settings.namespace, range(PARTITIONS), seed) if tap else None

        yield system, villain, tap


async def _dump(system: RunningSystem, folder: Path) -> None:
    """Keep the log and the read tables for whoever looks into it."""
    connection = await asyncpg.connect(next(iter(system.settings.store_urls.values())))
    try:
        for schema, table in await connection.fetch(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema LIKE $1"
            " AND table_type = 'BASE TABLE'",
            f"{system.settings.namespace}%",
        ):
            file = folder / "dump" / f"{schema}.{table}.csv"
            file.parent.mkdir(exist_ok=True)
            rows = f'SELECT * FROM "{schema}"."{table}"'
            await connection.copy_from_query(rows, output=file, format="csv", header=True)
    finally:
        await connection.close()


def main() -> int:
    """Run on the named broker, else on the local one or one of its own."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--kills", type=int, default=KILLS, help="how many processes die in a round")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--broker", help="log, or an amqp:// URL")
    given = parser.parse_args()
    if given.broker is not None:
        return asyncio.run(run(given.rounds, given.kills, given.seed, given.broker))
    with ephemeral_folder() as folder, broker(folder / "rabbitmq") as url:
        return asyncio.run(run(given.rounds, given.kills, given.seed, url))


if __name__ == "__main__":
    sys.exit(main())
