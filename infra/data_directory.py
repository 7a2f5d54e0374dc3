"""
The folder where embedded services keep their data: one Everfold at a time works on it.

The lock ends with the process that holds it, however that ends. An earlier one that is just stopping is
waited for; one that runs is left alone.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from infra.embedded.errors import DataDirectoryTaken

LOCK_NAME = "lock"
RUNNING, STOPPING = "running", "stopping"
RETRY_SECONDS_MAX = 2.0
STOPPING_SECONDS_MAX = 40.0
POLL_SECONDS = 0.1


class DataDirectory:
    """A data directory that is ours for now."""

    def __init__(self, folder: Path, lock: TextIO) -> None:
        self.folder = folder
        self._lock = lock
        self.mark(RUNNING)

    def mark(self, state: str) -> None:
        """Leave word for whoever wants the folder next."""
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(f"{os.getpid()}\n{state}\n")
        self._lock.flush()


@contextmanager
def data_directory(folder: Path, say: Callable[[str], None]) -> Iterator[DataDirectory]:
    """
    Hold a data directory for a block; it is made if it isn't there.

    Raises:
        DataDirectoryTaken: Another Everfold runs on it.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    with (folder / LOCK_NAME).open("a+") as lock:
        _take(lock, folder, say)
        yield DataDirectory(folder, lock)


def _take(lock: TextIO, folder: Path, say: Callable[[str], None]) -> None:
    started, told = time.monotonic(), False
    while not _try_lock(lock):
        process, state = _read(lock)
        if state == STOPPING and not told:
            say(f"Waiting for the earlier Everfold (process {process}) to stop…")
            told = True
        if time.monotonic() - started > (STOPPING_SECONDS_MAX if state == STOPPING else RETRY_SECONDS_MAX):
            raise DataDirectoryTaken(str(folder), process)
        time.sleep(POLL_SECONDS)


def _try_lock(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(lock: TextIO) -> tuple[int | None, str]:
    lock.seek(0)
    process, _, state = lock.read().strip().partition("\n")
    return (int(process) if process.isdigit() else None), state
