"""
A server or role as a process that cannot outlive us.

On Linux the kernel itself signals a child when its parent dies, so even `kill -9` of the parent leaves
nothing behind. Elsewhere only an orderly stop does, and a next start cleans up (see postgres.py).

The signal follows the *thread* that started the child, so children are started from the main thread.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.embedded.account import Account
from infra.embedded.priority import ORDINARY, Priority

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

KILL_WAIT_SECONDS = 5.0
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, as whom, and how it is asked to end."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to ours."""
    account: Account | None = None
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """Sent by the kernel when we die without having stopped it."""
    grace_seconds: float = 10.0
    priority: Priority = ORDINARY

    def arguments(self) -> dict[str, Any]:
        """Return what starts it, as arguments for `subprocess` or `asyncio.create_subprocess_exec`."""
        arguments: dict[str, Any] = {
            "env": os.environ | dict(self.environment),
            "cwd": self.folder,
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,  # a Ctrl-C in the terminal is ours alone to hand on, in order
            "preexec_fn": tether(self.orphan_signal, self.priority),
        }
        if self.account is not None and os.geteuid() == 0:
            arguments |= {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        return arguments


def end_with_parent(wanted: signal.Signals) -> None:
    """Have the kernel send us a signal when our own parent dies."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(wanted))


def tether(orphan_signal: signal.Signals, priority: Priority = ORDINARY) -> Callable[[], None]:
    """Return what a child runs before it becomes another program, to be signalled when this process dies."""
    parent = os.getpid()

    def die_with_parent() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(orphan_signal))
        if os.getppid() != parent:  # it died before we asked to be told
            os._exit(1)
        priority.take()

    return die_with_parent


def spawn(program: Program, *, output: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a program; what it says goes to the end of a file, or nowhere."""
    if output is None:
        return _popen(program, subprocess.DEVNULL)
    with output.open("ab") as log:
        return _popen(program, log)


def _popen(program: Program, log: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(program.command, stdout=log, stderr=log, **program.arguments())


def run_tool(program: Program) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it said; the caller judges the status."""
    return subprocess.run(
        program.command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=program.grace_seconds,
        **program.arguments(),
    )


def end(process: subprocess.Popen[bytes], program: Program) -> None:
    """Stop a process: ask first, and after its grace stop asking."""
    if process.poll() is None:
        process.send_signal(program.stop_signal)
        try:
            process.wait(program.grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(KILL_WAIT_SECONDS)


def wait_until(condition: Callable[[], bool], seconds_max: float) -> bool:
    """Look again and again until a condition holds; False when the time is over."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
