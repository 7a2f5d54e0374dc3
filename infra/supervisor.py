"""
Keeps programs running: what dies is started again, after a growing pause and with a word about why.

It stops them in the reverse order of their start, asking first, each within its grace. Should it be killed
itself, the kernel ends its children (see embedded/process.py).
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infra.embedded.process import KILL_WAIT_SECONDS, Program

PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 15.0
HEALTHY_SECONDS = 30.0
LOG_BYTES_MAX = 20_000_000
LAST_WORDS_CHARACTERS_MAX = 300

Say = Callable[[str], None]


def say_on_error_output(line: str) -> None:
    """Tell a person, beside what the program's output is for."""
    print(line, file=sys.stderr, flush=True)


class Child:
    """One program, and the process that it is at the moment."""

    def __init__(self, program: Program, log_file: Path, say: Say) -> None:
        self.program = program
        self.log_file = log_file
        self.last_status: int | None = None
        self.restarts = 0
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id; None between two lives."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start it, and from then on keep it running."""
        self._stopping = False
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.program.name}")

    async def stop(self) -> None:
        """Ask it to end, and after its grace make it."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(self.program.stop_signal)
            try:
                async with asyncio.timeout(self.program.grace_seconds):
                    await process.wait()
            except TimeoutError:
                self._say(f"{self.program.name} did not end within {self.program.grace_seconds:g} s; killed")
                process.kill()
                async with asyncio.timeout(KILL_WAIT_SECONDS):
                    await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    def last_words(self) -> str:
        """Return the last line that it wrote."""
        if not self.log_file.exists():
            return "it said nothing"
        with self.log_file.open("rb") as log:
            log.seek(max(0, self.log_file.stat().st_size - 4096))
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:LAST_WORDS_CHARACTERS_MAX] if lines else "it said nothing"

    async def _spawn(self) -> None:
        _make_room(self.log_file)
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.program.command, stdout=log, stderr=log, **self.program.arguments()
            )

    async def _keep(self) -> None:
        pause_seconds = PAUSE_SECONDS_MIN
        while True:
            assert self._process is not None
            started = time.monotonic()
            self.last_status = await self._process.wait()
            if self._stopping:
                return
            if time.monotonic() - started > HEALTHY_SECONDS:
                pause_seconds = PAUSE_SECONDS_MIN
            self._say(
                f"{self.program.name} {describe_status(self.last_status)}; starting it again in "
                f"{pause_seconds:g} s. Its last words: {self.last_words()}"
            )
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
            self.restarts += 1
            await self._spawn()


class Supervisor:
    """Programs that run together and stop together."""

    def __init__(self, log_folder: Path, say: Say = say_on_error_output) -> None:
        self.children: dict[str, Child] = {}
        self._log_folder = log_folder
        self._say = say

    async def start(self, program: Program) -> Child:
        """Start a program and keep it running until `stop`."""
        self._log_folder.mkdir(parents=True, exist_ok=True)
        child = Child(program, self._log_folder / f"{program.name}.log", self._say)
        await child.start()
        self.children[program.name] = child
        return child

    async def stop(self, *names: str) -> None:
        """Stop the named programs together, or all, the last started first."""
        if names:
            await asyncio.gather(*(self.children.pop(name).stop() for name in names))
            return
        for name in reversed(list(self.children)):
            await self.children.pop(name).stop()


def describe_status(status: int) -> str:
    """Say in words how a process ended."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _make_room(log_file: Path) -> None:
    """Keep one earlier file, so that logs stay bounded."""
    if log_file.exists() and log_file.stat().st_size > LOG_BYTES_MAX:
        log_file.replace(log_file.with_suffix(".log.1"))
