"""The processes of a run that are killed: each slot holds a role's process, life after life."""

import asyncio
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from infra.embedded.ports import answers, free_port
from infra.embedded.process import end_with_parent
from infra.failpoints import VARIABLE
from infra.system import RunningSystem
from tests.chaos.plan import FREEZE_SECONDS, Life, life_of

STOP_SECONDS_MAX = 30.0
READY_SECONDS_MAX = 90.0
LOOK_SECONDS = 0.1


class Slot:
    """One process of a role, life after life."""

    def __init__(self, system: RunningSystem, role: str, instance: int, log_folder: Path) -> None:
        self._role, self._instance = role, instance
        self._program = system.program_of(role)
        self._health_port = free_port()
        self._log_file = log_folder / f"{role}-{instance}.log"
        self._environment = {
            **os.environ, **self._program.environment, "EVERFOLD_HEALTH_PORT": str(self._health_port),
        }  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None
        self.deaths: Counter[str] = Counter()
        """By what each was of: a failpoint's name, `SIGKILL`, or how the process ended by itself."""
        self.seconds: dict[str, float] = defaultdict(float)
        """What its time went into: starting, living, standing still."""

    async def suffer(self, seed: int, harmless: asyncio.Event) -> None:
        """Live and die until no more harm is wanted."""
        number = 0
        while not harmless.is_set():
            number += 1
            life = life_of(seed, self._role, self._instance, number)
            await self._start(life.failpoint)
            await self._end(life)

    async def heal(self) -> None:
        """Live without harm."""
        await self._start(None)

    async def stop(self) -> None:
        """End the process in an orderly way."""
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await process.wait()

    def kill(self) -> None:
        """End the process at once, if there is one."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _start(self, failpoint: str | None) -> None:
        environment = {**self._environment, **({VARIABLE: failpoint} if failpoint else {})}
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._program.command, env=environment, stdout=log, stderr=log,
                preexec_fn=lambda: end_with_parent(signal.SIGKILL),
            )  # fmt: skip

    async def _end(self, life: Life) -> None:
        process = self._process
        assert process is not None
        with self._timed("starting"):
            await self._ready(process)
        with self._timed("living"):
            has_ended = await self._ends_within(process, life.seconds)
        if has_ended:
            by_failpoint = life.failpoint and process.returncode == -signal.SIGKILL
            name = (life.failpoint or "").partition("=")[0]
            self.deaths[name if by_failpoint else f"by itself: {process.returncode}"] += 1
            return
        if life.freezes:
            with self._timed("standing still"):
                process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(FREEZE_SECONDS)
                process.send_signal(signal.SIGCONT)
            if await self._ends_within(process, life.seconds):
                self.deaths["after SIGSTOP"] += 1
                return
        process.kill()
        await process.wait()
        self.deaths["SIGKILL"] += 1

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[what] += time.monotonic() - began

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        """Wait until the process works, or has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS_MAX):
                while process.returncode is None and not answers(self._health_port):
                    await asyncio.sleep(LOOK_SECONDS)

    @staticmethod
    async def _ends_within(process: asyncio.subprocess.Process, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await process.wait()
        return process.returncode is not None


def deaths_of(slots: Sequence[Slot]) -> Counter[str]:
    """Return how often what ended a process."""
    return sum((slot.deaths for slot in slots), Counter[str]())


def seconds_of(slots: Sequence[Slot]) -> Mapping[str, float]:
    """Return what the time of all processes together went into."""
    spent: dict[str, float] = defaultdict(float)
    for slot in slots:
        for what, seconds in slot.seconds.items():
            spent[what] += seconds
    return spent
