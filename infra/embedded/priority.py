"""
How a process shares the processors with the others on this machine.

Where all roles and servers run on a few cores, who is waited for must run as soon as there is something to do: a
commit that has reached the disk is of no use until its server process gets its turn. Linux 6.12 and newer lets a
process ask for short turns (sched_setattr(2), `sched_runtime` of an ordinary process), which then come at once.
Who follows the log gives way instead: short of processor time, it lags rather than holds up commands.
"""

import ctypes
import os
import platform
import struct
import sys
import time
from pathlib import Path
from typing import NamedTuple

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}.get(platform.machine())
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_ATTRIBUTES = struct.Struct("IIQiIQQQ")
"""`struct sched_attr`: size, policy, flags, nice, priority, runtime, deadline, period; times in nanoseconds."""


AUTOGROUP = Path("/proc/self/autogroup")
SESSION_TRIES_MAX = 5
SESSION_PAUSE_SECONDS = 0.11


class Priority(NamedTuple):
    """What a process asks for."""

    niceness: int = 0
    """0 to 19: how far it gives way, beyond what its parent does; see nice(2)."""
    turn_seconds: float = 0.0
    """How long its turns are, 0.0001 to 0.1; 0: as the system would have it."""

    def take(self) -> None:
        """Ask for it on behalf of this process and those that it will start; a wish, which a kernel may not know."""
        turn = round(self.turn_seconds * 1e9)
        if turn and _SCHED_SETATTR is not None and _libc is not None:
            niceness = min(19, os.getpriority(os.PRIO_PROCESS, 0) + self.niceness)
            attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, niceness, 0, turn, 0, 0)
            if _libc.syscall(_SCHED_SETATTR, 0, attributes, 0) == 0:
                return
        if self.niceness:
            os.nice(self.niceness)
            self._give_way_as_session()

    def _give_way_as_session(self) -> None:
        """Where each session has a share of its own (autogroups, sched(7)), niceness counts only within it."""
        for _ in range(SESSION_TRIES_MAX):
            try:
                AUTOGROUP.write_text(str(self.niceness))
                return
            except BlockingIOError:  # the kernel takes few of these in a tenth of a second, from all together
                time.sleep(SESSION_PAUSE_SECONDS)
            except OSError:  # no autogroups here
                return


ORDINARY = Priority()
PROMPT = Priority(turn_seconds=0.0001)
"""For those that others wait for: the database, the cache, the APIs."""
PATIENT = Priority(niceness=10)
"""For those that follow the log."""
