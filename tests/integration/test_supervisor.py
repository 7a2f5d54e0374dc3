"""The supervisor: what dies is started again with a word, and what it started never outlives it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from infra.embedded.process import Program, wait_until
from infra.supervisor import Child, Supervisor

WAIT_SECONDS_MAX = 20.0
STAYS = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STAYS}"
FAILS = "import sys; sys.exit('the port is taken')"


def python(name: str, code: str, *, grace_seconds: float = 10.0) -> Program:
    return Program(name, [sys.executable, "-c", code], grace_seconds=grace_seconds)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
async def supervisor(tmp_path: Path, said: list[str]) -> AsyncIterator[Supervisor]:
    made = Supervisor(tmp_path, said.append)
    yield made
    await made.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not condition():
            await asyncio.sleep(0.02)


async def until_up(child: Child) -> int:
    await until(lambda: child.last_words() == "up")
    assert child.pid is not None
    return child.pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


async def test_what_is_killed_is_started_again_and_the_reason_told(
    supervisor: Supervisor, said: list[str]
) -> None:
    child = await supervisor.start(python("steady", STAYS))
    first = await until_up(child)
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.restarts == 1 and child.pid is not None)
    assert child.pid != first
    assert said == ["steady was ended by SIGKILL; starting it again in 0.5 s. Its last words: up"]


async def test_what_fails_again_and_again_is_given_ever_longer_pauses(
    supervisor: Supervisor, said: list[str]
) -> None:
    child = await supervisor.start(python("failing", FAILS))
    await until(lambda: child.restarts == 2)
    assert "ended with status 1; starting it again in 0.5 s. Its last words: the port is taken" in said[0]
    assert "in 1 s" in said[1]


async def test_what_does_not_end_when_asked_is_made_to(supervisor: Supervisor, said: list[str]) -> None:
    child = await supervisor.start(python("stubborn", STUBBORN, grace_seconds=0.3))
    pid = await until_up(child)
    await supervisor.stop()
    assert not is_alive(pid)
    assert said == ["stubborn did not end within 0.3 s; killed"]


async def test_what_was_stopped_stays_stopped_and_can_be_started_again(supervisor: Supervisor) -> None:
    child = await supervisor.start(python("steady", STAYS))
    await supervisor.stop("steady")
    assert child.pid is None
    again = await supervisor.start(python("steady", STAYS))
    assert again.pid is not None


async def test_the_last_started_is_stopped_first(supervisor: Supervisor, tmp_path: Path) -> None:
    tells = (
        "import signal, sys, time\n"
        "def told(*_):\n"
        "    open({log!r}, 'a').write({name!r})\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, told)\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    log = str(tmp_path / "order")
    for name in "abc":
        await until_up(await supervisor.start(python(name, tells.format(log=log, name=name))))
    await supervisor.stop()
    assert Path(log).read_text() == "cba"


PARENT = """
import asyncio, sys
from pathlib import Path
from infra.embedded.process import Program
from infra.supervisor import Supervisor

async def main():
    child = await Supervisor(Path(sys.argv[1])).start(Program("child", [sys.executable, "-c", sys.argv[2]]))
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_killing_the_supervisor_leaves_nothing_running(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    assert wait_until(lambda: not is_alive(pid), WAIT_SECONDS_MAX)
