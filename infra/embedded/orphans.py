"""
Ends a server that outlived the process which started it, before another is started on the same data.

Only called by whoever holds the data directory's lock, so a server that still runs there is nobody's.
A process id file alone proves nothing: after a reboot the id may be a stranger's.
"""

import contextlib
import os
import signal
from pathlib import Path

from infra.embedded.process import wait_until

ORDERLY_SECONDS_MAX = 15.0
KILL_SECONDS_MAX = 5.0


def end_orphan(pid_file: Path, executable: str) -> None:
    """End the process that a file names if it is that executable; a file that names none is removed."""
    pid = _read_pid(pid_file)
    if pid is None:
        return
    if _is_running(pid, executable):
        for wanted, seconds_max in ((signal.SIGINT, ORDERLY_SECONDS_MAX), (signal.SIGKILL, KILL_SECONDS_MAX)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, wanted)
            if wait_until(lambda: not _is_running(pid, executable), seconds_max):
                break
    pid_file.unlink(missing_ok=True)


def _read_pid(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _is_running(pid: int, executable: str) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return False
    return Path(command).name == executable
