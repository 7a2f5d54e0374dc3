"""
Writers that are killed, and what the log holds afterwards. # F02, F03, F16, I01, I03, S47

    python -m tests.chaos.log_writers [--writers 8] [--events 100000] [--seed S] [--url URL]

Processes append to one partition while a seeded plan kills them and cuts their connections; each is started again and
goes on. A reader follows the tail throughout. At the end every writer's events are there, each once and in order;
positions have no gap; the chain holds; and the reader has seen every event once, in order.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import asyncpg
import orjson

from event_store.integrity import verify_log
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.server import running
from schemas.envelope import BEGINNING, RecordedEvent
from schemas.errors import StoreUnavailable
from tests.chaos.writer import PARTITION, SHARED, stream_of

NAMESPACE = "everfold_chaos"
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.2, 1.2
RUN_SECONDS_MAX = 900.0
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'everfold-writer' AND datname = current_database()"
)
REAPED_ELSEWHERE = 255
"""What asyncio reports of a process whose end somebody else has taken note of first."""
CUT_SHARE = 0.3
"""How many of the faults cut all connections of the writers instead of killing one."""


@dataclass
class Followed:
    """What the reader saw: too much to keep whole."""

    last: int = 0
    numbers: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def see(self, event: RecordedEvent) -> None:
        """Take in the next event."""
        if event.position != self.last + 1:
            self.problems.append(f"position {event.position} came after {self.last}")
        self.last = event.position
        self.ids.add(event.id)
        self.numbers[event.stream] += 1
        if event.version != self.numbers[event.stream]:
            self.problems.append(
                f"{event.stream}: version {event.version} came as number {self.numbers[event.stream]}"
            )
        number = orjson.loads(event.data)["number"]
        if event.stream != SHARED and number != event.version:
            self.problems.append(f"{event.stream}: version {event.version} is the writer's number {number}")


class Writers:
    """The processes, and what befalls them."""

    def __init__(self, url: str, writers: int, events: int, seed: int) -> None:
        self._url, self._events, self._seed = url, events, seed
        self._numbers = range(writers)
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self.kills = self.cuts = 0

    async def run(self) -> None:
        """Start every writer, and start it again until it has come to its end by itself."""
        chance = random.Random(self._seed)
        keepers = [asyncio.create_task(self._keep(number)) for number in self._numbers]
        harm = asyncio.create_task(self._harm(chance))
        try:
            await asyncio.gather(*keepers)
        finally:
            harm.cancel()
            for process in self._processes.values():
                with suppress(ProcessLookupError):
                    process.kill()

    async def _keep(self, number: int) -> None:
        for attempt in range(10_000):
            process = self._processes[number] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.chaos.writer", self._url, NAMESPACE, str(number), str(self._events),
                f"{self._seed}/{number}/{attempt}",
            )  # fmt: skip
            status = await process.wait()
            if status == 0:
                return
            if status > 0 and status != REAPED_ELSEWHERE:
                raise RuntimeError(f"writer {number} failed by itself: exit status {status}")

    async def _harm(self, chance: random.Random) -> None:
        admin = await asyncpg.connect(self._url)
        try:
            while True:
                await asyncio.sleep(chance.uniform(PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX))
                if chance.random() < CUT_SHARE:
                    await admin.fetch(CUT)
                    self.cuts += 1
                    continue
                process = self._processes[chance.choice(self._numbers)]
                if process.returncode is None:
                    process.kill()
                    self.kills += 1
        finally:
            admin.terminate()


async def follow(log: PostgresLog, done: asyncio.Event) -> Followed:
    """Read the tail until the writers are done and there is no more."""
    followed, after = Followed(), BEGINNING
    while True:
        was_done = done.is_set()
        try:
            page = await log.read_page(PARTITION, after, events_max=2_000)
        except StoreUnavailable:
            continue
        for event in page.events:
            followed.see(event)
        after = page.end
        if not page.events:
            if was_done:
                return followed
            await asyncio.sleep(0.01)


async def run(url: str, writers: int, events: int, seed: int) -> list[str]:
    """Carry out one run against an empty database, print its figures, and return what does not hold."""
    await asyncio.to_thread(migrate, url, NAMESPACE, range(1))
    done, crowd, began = asyncio.Event(), Writers(url, writers, events, seed), time.perf_counter()
    async with PostgresLog({range(1): url}, NAMESPACE) as log:
        following = asyncio.create_task(follow(log, done))
        async with asyncio.timeout(RUN_SECONDS_MAX):
            await crowd.run()
        seconds = time.perf_counter() - began
        done.set()
        followed = await following
        report = await verify_log(log, [PARTITION])
        head = (await log.heads())[PARTITION].position
    problems = followed.problems[:10]
    if not report.ok:
        problems.append(f"the chain does not hold: {report.first_bad}")
    if not head == followed.last == len(followed.ids) == report.events:
        problems.append(
            f"head {head}, followed to {followed.last}, {len(followed.ids)} ids, verified {report.events}"
        )
    for number in range(writers):
        if (written := followed.numbers[stream_of(number)]) != events:
            problems.append(f"writer {number} has {written} events in the log instead of {events}")
    print(
        f"{head:,} events by {writers} writers in {seconds:.1f} s; {crowd.kills} killed, {crowd.cuts} times all"
        f" connections cut; seed {seed}; {problems or 'all holds'}"
    )
    return problems


def main() -> int:
    """Run on a PostgreSQL of its own, or on a given one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--url", help="an empty database")
    options = parser.parse_args()
    if options.url:
        return bool(asyncio.run(run(options.url, options.writers, options.events, options.seed)))
    with ephemeral_folder() as folder:
        server = PostgresServer(server_folder(folder, "postgres"), free_port())
        with running(server):
            return bool(asyncio.run(run(server.url, options.writers, options.events, options.seed)))


if __name__ == "__main__":
    sys.exit(main())
