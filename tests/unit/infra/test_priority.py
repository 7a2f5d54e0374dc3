"""How processes share the processors: who follows gives way, who is waited for has short turns."""

import os
import struct
import subprocess
import sys

import pytest

from infra.embedded.priority import ORDINARY, PATIENT, PROMPT, Priority
from infra.embedded.process import Program, run_tool

LOOK = "import os; print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_OTHER)"


def said_by(priority: Priority) -> str:
    finished = run_tool(Program("look", [sys.executable, "-c", LOOK], priority=priority))
    assert finished.returncode == 0, finished.stdout
    return finished.stdout.strip()


@pytest.mark.parametrize("priority", [ORDINARY, PROMPT, PATIENT])
def test_a_program_runs_with_its_priority(priority: Priority) -> None:
    assert said_by(priority) == f"{min(19, os.nice(0) + priority.niceness)} True"


def test_short_turns_are_asked_of_the_kernel_and_passed_on_to_children() -> None:
    """On kernels before 6.12 the wish is taken and has no effect: then its value reads as 0."""
    script = (
        "import ctypes, subprocess, sys\n"
        "from infra.embedded.priority import PROMPT\n"
        "PROMPT.take()\n"
        "look = 'import ctypes; b = ctypes.create_string_buffer(56);'"
        " 'ctypes.CDLL(None).syscall(315, 0, b, 56, 0); print(b.raw.hex())'\n"
        "print(subprocess.run([sys.executable, '-c', look], capture_output=True, text=True).stdout)\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    *_, runtime, _deadline, _period = struct.unpack_from("IIQiIQQQ", bytes.fromhex(out.strip()))
    assert runtime in (0, round(PROMPT.turn_seconds * 1e9))
