"""
Runs the command line for tests, in processes that are forked off one which has imported it: a second less for each.

    python -m tests.tools SOCKET       that one; runs until its standard input ends

A tool is still a process of its own, with its own arguments, environment and end: it can be killed at a failpoint. That
the command line also starts as it is installed is shown where a role or `make` is started.
"""

import asyncio
import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import infra.cli
from infra import failpoints

START_SECONDS_MAX = 60.0
WAITING_MAX = 64


class Finished(NamedTuple):
    """What became of a tool."""

    status: int
    """Below 0: the signal that ended it."""
    out: str
    err: str


async def run_tool(arguments: Sequence[str], environment: Mapping[str, str], *, seconds_max: int) -> Finished:
    """Run a command of the command line to its end; it is killed when that takes too long."""
    reader, writer = await asyncio.open_unix_connection(await asyncio.to_thread(_server))
    try:
        asked = {"arguments": arguments, "environment": dict(environment), "seconds_max": seconds_max}
        writer.write(json.dumps(asked).encode())
        writer.write_eof()
        async with asyncio.timeout(seconds_max + START_SECONDS_MAX):
            return Finished(*json.loads(await reader.read()))
    finally:
        writer.close()


@cache
def _server() -> str:
    """Start the process that tools are forked off, and return where it listens; it ends with this one."""
    path = Path(tempfile.mkdtemp()) / "tools"
    command = [sys.executable, "-m", "tests.tools", str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(process.communicate)  # closes its input, and waits
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return str(path)


def serve(path: str) -> None:
    """Fork a process off for each tool that is asked for; what it needs is imported here when the first needs it."""
    entries = {entry.name: entry for entry in entry_points(group=infra.cli.GROUP)}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(WAITING_MAX)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who answer
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            asking, _ = listener.accept()
            with asking, asking.makefile("rb") as reader:
                asked = json.loads(reader.read())
                if (command := asked["arguments"][0]) in entries:
                    entries[command].load()
                if not os.fork():
                    listener.close()
                    _end_with(_answer, asking, asked)
    Path(path).unlink()
    Path(path).parent.rmdir()


def _answer(asking: socket.socket, asked: Mapping[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        tool = os.fork()
        if not tool:
            asking.close()
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            _end_with(_become, asked)
        status = os.waitstatus_to_exitcode(os.waitpid(tool, 0)[1])
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
        asking.sendall(json.dumps([status, *said]).encode())


def _become(asked: Mapping[str, Any]) -> None:
    signal.alarm(asked["seconds_max"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    sys.argv = ["everfold", *asked["arguments"]]
    infra.cli.main()


def _end_with(work: Any, *arguments: Any) -> None:
    """Do some work, and end this process as an interpreter would, but for what the one it was forked off has open."""
    status = 1
    try:
        work(*arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
