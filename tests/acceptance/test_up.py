"""`everfold up` as a person runs it: what it prints works, and however it ends, the next start finds all in order."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import httpx2
import pytest

from infra.embedded.folders import ephemeral_folder
from infra.embedded.ports import answers, free_port
from infra.embedded.process import wait_until

START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 40.0
TRY = "Try:\n"


class Up:
    """One run of `everfold up`."""

    def __init__(
        self, folder: Path, ports: Mapping[str, int], *, number: int, arguments: tuple[str, ...] = ()
    ) -> None:
        self.out, self.err = folder / f"out-{number}", folder / f"err-{number}"
        self.ports = ports
        variables = {name: value for name, value in os.environ.items() if not name.startswith("EVERFOLD_")}
        variables |= {
            "EVERFOLD_DATA_DIR": str(folder / "data"),
            "EVERFOLD_COMMAND_PORT": str(ports["command"]),
            "EVERFOLD_QUERY_PORT": str(ports["query"]),
        }
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra.cli", "up", *arguments],
                env=variables,
                cwd=folder,
                stdout=out,
                stderr=err,
            )

    def started(self) -> "Up":
        wait_until(lambda: self.process.poll() is not None or TRY in self.out.read_text(), START_SECONDS_MAX)
        assert TRY in self.out.read_text(), self.err.read_text()
        return self

    def ended(self, wanted: signal.Signals | None = None) -> int:
        if wanted is not None:
            self.process.send_signal(wanted)
        return self.process.wait(STOP_SECONDS_MAX)

    def examples(self) -> list[str]:
        return self.out.read_text().partition(TRY)[2].strip().splitlines()

    def child(self, name: str) -> int:
        """Return the id of the process that runs a role or a server; one that was just started again counts."""
        assert wait_until(lambda: self._child(name) is not None, STOP_SECONDS_MAX), f"{name} does not run"
        found = self._child(name)
        assert found is not None
        return found

    def _child(self, name: str) -> int | None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue  # it ended while we looked
            if parent == self.process.pid and any(
                part == name or part.endswith(f"/bin/{name}") for part in command
            ):
                return int(folder.name)
        return None

    def has_told(self, words: str) -> bool:
        return words in self.err.read_text()


class Runs:
    """Runs on the same data, one after the other or beside one another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"command": free_port(), "query": free_port()}
        self.all: list[Up] = []

    def run(self, *arguments: str, **ports: int) -> Up:
        up = Up(self.folder, self.ports | ports, number=len(self.all), arguments=arguments)
        self.all.append(up)
        return up


@pytest.fixture
def runs() -> Iterator[Runs]:
    with ephemeral_folder() as folder:
        made = Runs(folder)
        try:
            yield made
        finally:
            for up in made.all:
                if up.process.poll() is None:
                    up.ended(signal.SIGTERM)


@pytest.fixture
def paste(tmp_path: Path) -> Callable[[str], str]:
    """Paste a line into a shell: what it prints, provided that the server did not refuse."""
    (tmp_path / ".curlrc").write_text("fail-with-body\n")
    if shutil.which("curl") is None:
        stand_in = tmp_path / "curl"
        stand_in.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.acceptance.curl "$@"\n')
        stand_in.chmod(0o755)
    variables = {
        **os.environ,
        "CURL_HOME": str(tmp_path),
        "PATH": f"{os.environ['PATH']}:{tmp_path}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }

    def in_shell(line: str) -> str:
        done = subprocess.run(
            ["sh", "-c", line], env=variables, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return in_shell


@pytest.mark.timeout(300)
def test_the_printed_lines_work_and_a_second_one_is_refused(runs: Runs, paste: Callable[[str], str]) -> None:
    first = runs.run().started()
    assert len(first.examples()) == 3
    assert all(paste(line).startswith("{") for line in first.examples())

    beside = runs.run()
    assert beside.ended() == 3
    assert "runs on this data directory" in beside.err.read_text()
    assert str(first.process.pid) in beside.err.read_text()
    assert "Traceback" not in beside.err.read_text()

    assert first.ended(signal.SIGTERM) == 0
    assert not any(answers(port) for port in first.ports.values())

    blocked = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(first.ports["query"])], cwd=runs.folder
    )
    try:
        assert wait_until(lambda: answers(first.ports["query"]), STOP_SECONDS_MAX)
        refused = runs.run()
        assert refused.ended() == 3
        assert f"port {first.ports['query']}" in refused.err.read_text()
        assert "EVERFOLD_QUERY_PORT" in refused.err.read_text()
    finally:
        blocked.terminate()
        blocked.wait()


@pytest.mark.timeout(300)
def test_what_dies_is_started_again_and_killing_all_of_it_leaves_the_next_start_in_order(
    runs: Runs, paste: Callable[[str], str]
) -> None:
    up = runs.run().started()
    last = up.examples()[-1]
    for line in up.examples():
        paste(line)
    for name in ("projector", "command-api", "postgres"):
        before = up.child(name)
        os.kill(before, signal.SIGKILL)
        told = partial(up.has_told, f"{name} was ended by SIGKILL")
        assert wait_until(told, STOP_SECONDS_MAX), up.err.read_text()
    ready = f"http://127.0.0.1:{up.ports['command']}/readyz"
    assert wait_until(lambda: _status_of(ready) == 200, STOP_SECONDS_MAX), up.err.read_text()

    children = [up.child(name) for name in ("projector", "command-api", "postgres")]
    assert up.ended(signal.SIGKILL) == -signal.SIGKILL
    again = runs.run().started()
    assert not set(children) & {again.child(name) for name in ("projector", "command-api", "postgres")}
    assert '"status":"confirmed"' in paste(last) or '"status":"placed"' in paste(last)
    assert again.ended(signal.SIGINT) == 0


def _status_of(url: str) -> int:
    try:
        return httpx2.get(url, timeout=2).status_code
    except httpx2.TransportError:
        return 0
