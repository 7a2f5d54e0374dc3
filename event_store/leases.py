"""
Shares the partitions of a log among the processes that work for one group.

A lease is a row in database time. It is renewed every second, lasts six, and goes to whoever has less than a fair
share; a process works only on what it holds, and stops before its lease can have run out. That is a way to share
work and no lock: a process that stood still may believe in a lease that has passed on, so everything it writes
rests on the conditional checkpoint.

A successor on the same machine does not wait for the time-out: a holder's identity names its process, and a
process that is gone is proof enough.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import asyncpg

from event_store.failures import NO_REPLY
from infra.sql import load_sql
from infra.telemetry import log
from schemas.errors import ServiceError

LEASE_SECONDS = 6.0
RENEW_SECONDS = 1.0
MARGIN_SECONDS = 1.0
"""How long before its end a lease that could not be renewed is believed to be lost."""
STOP_SECONDS_MAX = 10.0
STOP_ATTEMPTS_MAX = 2
RESTART_SECONDS_MIN, RESTART_SECONDS_MAX = 0.2, 5.0

EXPECTED_ERRORS = (ServiceError, *NO_REPLY)
"""What a database that is away looks like: a word in the log, and no traceback."""

Work = Callable[[int], Awaitable[None]]


def process_identity() -> str:
    """Return a name for this process that no other has, and from which its machine can tell that it is gone."""
    return f"{_machine()}/{os.getpid()}/{_started(os.getpid())}/{token_hex(4)}"


def is_gone(identity: str) -> bool:
    """Say whether there is proof that a process has ended: it ran on this machine, and is not there any more."""
    machine, pid, started, *_ = identity.split("/")
    return machine == _machine() and _started(int(pid)) != started


def _machine() -> str:
    """Name the boot and the process namespace: only inside both does a process id mean the same."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}-{Path('/proc/self/ns/pid').readlink().name.strip('pid:[]')}"


def _started(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


class Leases:
    """One process's part in one group."""

    def __init__(
        self, pool: "asyncpg.Pool[Any]", namespace: str, group: str, partitions: Sequence[int], *, holder: str
    ) -> None:
        self.group = group
        self.holder = holder
        self.partitions = list(partitions)
        self._pool = pool
        self._sql = partial(load_sql, "event_store", namespace=namespace)
        call = f"{namespace}.hold_leases_v1($1, $2, $3::integer[], $4, $5::text[])"
        self._renewal = f"SELECT partition, surplus FROM {call}"
        self.members = 1
        """How many processes take part in the group, as far as is known."""
        self.valid_until = 0.0
        """Until when, on this process's monotonic clock, the leases held are certain."""

    async def renew(self) -> tuple[list[int], list[int]]:
        """Renew, take what is free up to a fair share; return what is held, and what of it is over the share."""
        asked = time.monotonic()
        members = await self._pool.fetch(self._sql("sql/queries/lease_members.sql"), self.group)
        dead = [row["holder"] for row in members if row["holder"] != self.holder and is_gone(row["holder"])]
        rows = await self._pool.fetch(
            self._renewal, self.group, self.holder, self.partitions, timedelta(seconds=LEASE_SECONDS), dead
        )
        alive = {row["holder"] for row in members} - set(dead)
        self.members = len(alive | {self.holder})
        self.valid_until = asked + LEASE_SECONDS - MARGIN_SECONDS
        return [row["partition"] for row in rows], [row["partition"] for row in rows if row["surplus"]]

    async def release(self, partitions: Sequence[int]) -> None:
        """Give partitions back, once work on them has ended."""
        await self._pool.execute(
            self._sql("sql/queries/release_leases.sql"), self.group, self.holder, list(partitions)
        )

    async def leave(self) -> None:
        """Take no more part, and give everything back."""
        await self._pool.execute(self._sql("sql/queries/leave_group.sql"), self.group, self.holder)


@dataclass
class LeasedWork:
    """Runs a piece of work for each partition that is held, and ends it when the lease ends."""

    leases: Leases
    work: Work
    shared_by: Callable[[int], None] = lambda _members: None
    """Told how many processes share the partitions, each time the leases are renewed."""
    running: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    ending: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    """What is being ended: beside the renewals, so that work that does not end costs the others no lease."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then end all work and give the leases back."""
        try:
            while not stop.is_set():
                await self._turn()
                with suppress(TimeoutError):
                    async with asyncio.timeout(RENEW_SECONDS):
                        await stop.wait()
        finally:
            self._begin_end(list(self.running))
            await asyncio.gather(*self.ending.values())
            with suppress(*NO_REPLY):
                async with asyncio.timeout(STOP_SECONDS_MAX):
                    await self.leases.leave()

    @property
    def ready(self) -> bool:
        """Whether the leases are certain at this moment."""
        return time.monotonic() < self.leases.valid_until

    async def _turn(self) -> None:
        ending = set(self.ending)  # what the renewal says of these may be of before they were given back
        try:
            async with asyncio.timeout(self._patience_seconds()):
                held, surplus = await self.leases.renew()
        except NO_REPLY as error:
            log.warning("leases not renewed", group=self.leases.group, error=repr(error))
            if not self.ready:
                self._begin_end(list(self.running))
            return
        self.shared_by(self.leases.members)
        self._begin_end([partition for partition in self.running if partition not in held])
        self._begin_end(surplus, releases=True)
        for partition in held:
            if partition not in {*surplus, *ending, *self.running, *self.ending}:
                self.running[partition] = asyncio.create_task(
                    self._keep(partition), name=f"{self.leases.group} {partition}"
                )

    def _patience_seconds(self) -> float:
        """Return how long a renewal may take: no longer than what is held is certain."""
        certain = self.leases.valid_until - time.monotonic()
        return certain if certain > 0 else LEASE_SECONDS

    def _begin_end(self, partitions: Sequence[int], *, releases: bool = False) -> None:
        """Have work ended, as far as there is any, and give its leases back where they are still held."""
        fresh = [partition for partition in partitions if partition not in self.ending]
        if fresh:
            task = asyncio.create_task(self._end(fresh, releases=releases))
            self.ending |= dict.fromkeys(fresh, task)

    async def _keep(self, partition: int) -> None:
        """Start the work again when it fails: whatever it was, the next lease holder would meet it too."""
        pause_seconds = RESTART_SECONDS_MIN
        while True:
            started = time.monotonic()
            try:
                await self.work(partition)
            except asyncio.CancelledError:
                raise
            except EXPECTED_ERRORS as error:
                log.warning(
                    "work interrupted, starting again",
                    group=self.leases.group,
                    partition=partition,
                    error=repr(error),
                )
            except Exception as error:
                log.exception(
                    "work failed, starting again",
                    group=self.leases.group,
                    partition=partition,
                    error=repr(error),
                )
            if time.monotonic() - started > RESTART_SECONDS_MAX:
                pause_seconds = RESTART_SECONDS_MIN
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, RESTART_SECONDS_MAX)

    async def _end(self, partitions: Sequence[int], *, releases: bool) -> None:
        try:
            await self._end_work(
                [self.running.pop(partition) for partition in partitions if partition in self.running]
            )
            if releases:
                with suppress(*NO_REPLY):  # then it is told as surplus again
                    async with asyncio.timeout(LEASE_SECONDS):
                        await self.leases.release(partitions)
        finally:
            for partition in partitions:
                del self.ending[partition]

    async def _end_work(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        if tasks:
            names = sorted(task.get_name() for task in tasks)
            log.info("partitions given up", group=self.leases.group, tasks=names)
        pending: set[asyncio.Task[None]] = set(tasks)
        for _ in range(STOP_ATTEMPTS_MAX):
            for task in pending:
                task.cancel()  # again, where a client library has lost it: nobody else would ever end it
            if pending:
                _, pending = await asyncio.wait(pending, timeout=STOP_SECONDS_MAX / STOP_ATTEMPTS_MAX)
        if pending:
            names = sorted(task.get_name() for task in pending)
            log.error("work does not end", group=self.leases.group, tasks=names)
