"""
Checks the chain in several processes at once: hashing keeps a processor busy, and Python uses one at a time.

Partitions are cut into slices that end on commits. Each slice is checked from one commit's stored hash to another's,
and neighbours share the commit between them, so the whole holds when every part does. The processes are
`verification_worker.py`, told what to do on their input, so no password stands in an argument; they end with us.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol
from urllib.parse import urlsplit

import orjson

from event_store.integrity import Fault, LogReport, Slice, SliceReport, VerifiableLog, summed, verify_slice
from event_store.log import Commit
from event_store.object_errors import ArchiveUnavailable
from event_store.object_store import NOWHERE, ArchiveAddress
from infra.embedded.process import tether
from schemas.envelope import BEGINNING, CommitMark
from schemas.errors import ServiceError, StoreUnavailable

SLICE_EVENTS = 100_000
WORTH_EVENTS = 300_000
"""Fewer are checked sooner than processes start."""
PROCESSES_MAX = 16
LOOPBACK_HOSTS = frozenset({None, "localhost", "127.0.0.1", "::1"})
"""Where a server is on this machine; no host is a socket."""
LINE_BYTES_MAX = 64 * 1024
END_SECONDS_MAX = 5.0

Checked = Callable[[int, int], None]
"""Told a partition, and how many more of its events have been checked."""


class SliceableLog(VerifiableLog, Protocol):
    """What cutting needs of a log besides."""

    async def heads(self) -> Mapping[int, CommitMark]:
        """Return every partition's head."""
        ...

    async def commit_of(self, partition: int, position: int) -> Commit | None:
        """Return the commit that a position belongs to."""
        ...


@dataclass(eq=False)
class CheckInterrupted(ServiceError):
    """A process that checked a part of the log ended before it had an answer; check again, with fewer processes."""

    exit_status: int | None
    last_words: str


def processes_for(store_urls: Mapping[range, str]) -> int:
    """
    Return how many processes can be kept busy here, up to our bound.

    Each is read ahead for, so a server on this machine is as busy as we are: then it is half of the processors.
    """
    processors = len(os.sched_getaffinity(0))
    is_here = any(urlsplit(url).hostname in LOOPBACK_HOSTS for url in store_urls.values())
    return min(max(1, processors // 2) if is_here else processors, PROCESSES_MAX)


async def verify_whole_log(
    log: SliceableLog,
    store_urls: Mapping[range, str],
    namespace: str,
    *,
    processes: int | None = None,
    since: Mapping[int, CommitMark] | None = None,
    archive: ArchiveAddress = NOWHERE,
    checked: Checked = lambda _partition, _events: None,
) -> LogReport:
    """
    Recompute the chain of every partition, in as many processes as there is work for; see `verify_log`.

    `since` are commits that are known to be as written and in this log: what lies before them is not checked again.

    Raises:
        CheckInterrupted: A process of ours was ended.
        StoreUnavailable: A server does not answer.
        ArchiveUnavailable: Old events are in an archive that cannot be reached.
    """
    heads, starts = await log.heads(), since or {}
    events = sum(mark.position for mark in heads.values()) - sum(mark.position for mark in starts.values())
    wanted = processes or (processes_for(store_urls) if events >= WORTH_EVENTS else 1)
    if wanted == 1:
        whole = [Slice(partition, starts.get(partition, BEGINNING), None) for partition in heads]
        steps = _Steps(checked, {one.partition: one.after.position for one in whole})
        return summed(whole, [await verify_slice(log, one, steps) for one in whole])
    slices = await cut(log, heads, SLICE_EVENTS, starts)
    crew = _Crew(store_urls, namespace, archive, slices, checked)
    return summed(slices, await crew.run(min(wanted, len(slices))))


async def cut(
    log: SliceableLog,
    heads: Mapping[int, CommitMark],
    events: int,
    starts: Mapping[int, CommitMark] = MappingProxyType({}),
) -> list[Slice]:
    """Return slices of about so many events that cover every partition from its start on, in order."""
    slices = []
    for partition, head in heads.items():
        after = starts.get(partition, BEGINNING)
        while after.position + 2 * events <= head.position:
            commit = await log.commit_of(partition, after.position + events)
            if commit is None or commit.last_position <= after.position:
                break
            slices.append(Slice(partition, after, commit.mark))
            after = commit.mark
        slices.append(Slice(partition, after, None))
    return slices


class _Steps:
    """Turns positions into numbers of events."""

    def __init__(self, checked: Checked, positions: dict[int, int]) -> None:
        self._checked = checked
        self._positions = positions

    def __call__(self, partition: int, position: int) -> None:
        self._checked(partition, position - self._positions[partition])
        self._positions[partition] = position


@dataclass
class _Crew:
    """The processes at work on some slices."""

    store_urls: Mapping[range, str]
    namespace: str
    archive: ArchiveAddress
    slices: Sequence[Slice]
    checked: Checked
    reports: dict[int, SliceReport] = field(default_factory=dict)
    _next: int = 0

    async def run(self, processes: int) -> list[SliceReport | None]:
        """Have every slice checked, but for those behind one that is not as written."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(processes):
                    tasks.create_task(self._work())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None  # the others were told to end because of it
        return [self.reports.get(number) for number in range(len(self.slices))]

    async def _work(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "event_store.verification_worker",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, limit=LINE_BYTES_MAX,
            start_new_session=True, preexec_fn=tether(signal.SIGKILL),
        )  # fmt: skip
        try:
            where = [[part.start, part.stop, url] for part, url in self.store_urls.items()]
            await self._tell(
                process, {"store_urls": where, "namespace": self.namespace, "archive": list(self.archive)}
            )
            while (number := self._take()) is not None:
                self.reports[number] = await self._check(process, self.slices[number])
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            async with asyncio.timeout(END_SECONDS_MAX):
                await process.wait()

    def _take(self) -> int | None:
        """Return the next slice that is worth checking: none behind a fault can say more than it."""
        bad = {self.slices[number].partition for number, report in self.reports.items() if report.fault}
        while self._next < len(self.slices):
            number, self._next = self._next, self._next + 1
            if self.slices[number].partition not in bad:
                return number
        return None

    async def _check(self, process: asyncio.subprocess.Process, one: Slice) -> SliceReport:
        until = one.until and [one.until.position, one.until.hash.hex()]
        await self._tell(
            process,
            {"partition": one.partition, "after": [one.after.position, one.after.hash.hex()], "until": until},
        )
        position = one.after.position
        while True:
            assert process.stdout is not None
            line = await process.stdout.readline()
            if not line:
                raise await _ended(process)
            said = orjson.loads(line)
            if "away" in said:
                raise StoreUnavailable
            if "archive_away" in said:
                raise ArchiveUnavailable(*said["archive_away"])
            reached = said["position"]
            self.checked(one.partition, reached - position)
            position = reached
            if "hash" in said:
                fault = said["fault"] and Fault(one.partition, *said["fault"])
                end = CommitMark(reached, bytes.fromhex(said["hash"]))
                return SliceReport(reached - one.after.position, end, fault)

    @staticmethod
    async def _tell(process: asyncio.subprocess.Process, what: object) -> None:
        assert process.stdin is not None
        process.stdin.write(orjson.dumps(what) + b"\n")
        with suppress(ConnectionError):  # it has ended; reading from it says how
            await process.stdin.drain()


async def _ended(process: asyncio.subprocess.Process) -> CheckInterrupted:
    assert process.stderr is not None
    said = (await process.stderr.read(LINE_BYTES_MAX)).decode(errors="replace").strip()
    return CheckInterrupted(await process.wait(), said.rpartition("\n")[2])
