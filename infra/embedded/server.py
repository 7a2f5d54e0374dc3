"""
What all embedded servers have in common: prepared once, run as a program, ready when they answer.

`running` keeps one for a block of ordinary code; `everfold up` hands the same programs to its supervisor.
"""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.embedded.errors import ServerDidNotStart
from infra.embedded.process import Program, end, spawn, wait_until

LOG_LINES_SHOWN = 5
STARTS_MAX = 3


class Server(ABC):
    """A server that we run ourselves."""

    name: str
    start_seconds_max: float = 30.0

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients reach it, with everything they need to get in."""

    @property
    @abstractmethod
    def log_file(self) -> Path:
        """Where what it says is kept."""

    @abstractmethod
    def prepare(self) -> None:
        """Make whatever must be there before it starts; may take a second, the first time."""

    @abstractmethod
    def program(self) -> Program:
        """Return how it is run."""

    def companions(self) -> Sequence[Program]:
        """Return programs that must run before it."""
        return ()

    @abstractmethod
    def is_ready(self) -> bool:
        """Say whether it answers."""

    def last_words(self) -> str:
        """Return the end of its log, for an error's reason."""
        lines = self.log_file.read_text(errors="replace").splitlines() if self.log_file.exists() else []
        return " | ".join(line for line in lines[-LOG_LINES_SHOWN:]) or "it said nothing"


class RunningServer:
    """A server's process, for tests that stop and start it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._process: subprocess.Popen[bytes] | None = None
        self._companions: list[tuple[subprocess.Popen[bytes], Program]] = []

    @property
    def url(self) -> str:
        """Where clients reach it; the same after a restart."""
        return self.server.url

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, to be killed or paused."""
        if self._process is None:
            raise ServerDidNotStart(self.server.name, "it was never started")
        return self._process

    def start(self) -> None:
        """
        Start it and wait until it answers.

        Raises:
            ServerDidNotStart: It ended, or did not answer in time.
        """
        for attempt in range(1, STARTS_MAX + 1):
            if self._start_once():
                return
            self.stop()
            if attempt == STARTS_MAX:
                raise ServerDidNotStart(self.server.name, self.server.last_words())

    def _start_once(self) -> bool:
        self.server.prepare()
        log = self.server.log_file
        self._companions = [(spawn(each, output=log), each) for each in self.server.companions()]
        self._process = process = spawn(self.server.program(), output=log)
        ready = False

        def settled() -> bool:
            nonlocal ready
            ready = self.server.is_ready()
            return ready or process.poll() is not None

        wait_until(settled, self.server.start_seconds_max)
        return ready and process.poll() is None

    def stop(self) -> None:
        """Stop it in an orderly way; nothing happens if it has ended already."""
        if self._process is not None:
            end(self._process, self.server.program())
        for process, program in self._companions:
            end(process, program)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(server: Server) -> Iterator[RunningServer]:
    """Run a server for a block."""
    handle = RunningServer(server)
    handle.start()
    try:
        yield handle
    finally:
        handle.stop()
