"""A copy of the repository with an environment of its own, for tests that change what is in it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from infra.embedded.ports import free_port

ROOT = Path(__file__).parent.parent
SECONDS_MAX = 180.0


@dataclass(frozen=True)
class Copy:
    """A copy of the tracked files, as they stand in the work tree, and its `.venv`."""

    root: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Return the variables that programs of the copy run with."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("EVERFOLD_", "PYTEST_"))
        }
        return {
            **kept,
            "PATH": f"{self.root / '.venv/bin'}:{kept['PATH']}",
            "VIRTUAL_ENV": str(self.root / ".venv"),
            **more,
        }

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, seconds_max: float = SECONDS_MAX
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the copy and return what it said, with both outputs as one."""
        return subprocess.run(
            command, cwd=self.root, env=dict(environment or self.environment()), text=True, timeout=seconds_max,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip

    def shell(
        self, script: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run lines of bash in the copy, which end at the first that fails."""
        return self.run("bash", "-euo", "pipefail", "-c", script, environment=environment)

    def install(self) -> None:
        """Make the copy's packages and entry points known to its environment."""
        done = self.run(
            sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline",
            "--python", str(self.root / ".venv/bin/python"), "--no-deps", "--no-build-isolation",
            "--editable", str(self.root),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def copy_repository(folder: Path) -> Copy:
    """Copy the repository; what is installed for this one is there for the copy as well, but for the project itself."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / ".venv")], check=True)
    site = next((folder / ".venv").glob("lib/python3*/site-packages"))
    shared = Path(sysconfig.get_path("purelib"))
    for entry in shared.iterdir():
        if not entry.name.startswith(("everfold-", "_everfold", "__editable__")):
            (site / entry.name).symlink_to(entry)
    for program in ("ruff", "uv"):  # programs of their own, which no Python finds by import
        (folder / ".venv" / "bin" / program).symlink_to(Path(sysconfig.get_path("scripts")) / program)
    copy = Copy(folder)
    copy.install()
    (folder / ".venv" / "ready").touch()
    return copy


@contextmanager
def up(copy: Copy, **environment: str) -> Iterator[dict[str, str]]:
    """Run `everfold up` in the copy on free ports, and give what it announced: its URLs, a token, and what to try."""
    ports = {"EVERFOLD_COMMAND_PORT": str(free_port()), "EVERFOLD_QUERY_PORT": str(free_port())}
    variables = copy.environment(**ports, **environment)
    process = subprocess.Popen(
        [str(copy.root / ".venv/bin/everfold"), "up"], cwd=copy.root, env=variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said: list[str] = []
    try:
        yield {**variables, **_announced(process, said)}
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, "".join(said) + rest


def _announced(process: "subprocess.Popen[str]", said: list[str]) -> dict[str, str]:
    assert process.stdout is not None
    found: dict[str, str] = {}
    watchdog = Timer(SECONDS_MAX, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            said.append(line)
            word, _, rest = line.strip().partition(" ")
            if word in ("Commands", "Queries", "Token"):
                found[word.upper()] = rest.strip()
            elif word == "curl":
                found["TRY"] = found.get("TRY", "") + line.strip() + "\n"
            elif "TRY" in found and not word:
                return found
    finally:
        watchdog.cancel()
    raise AssertionError("`everfold up` ended early:\n" + "".join(said))
