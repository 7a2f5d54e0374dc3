"""
Makes the project's virtual environment from the lock file; `make` runs it before anything else.

It runs on the machine's own Python with nothing installed, so it imports only the standard library, and
nothing of ours. Every package's hash is checked. uv does it in seconds and pip in a minute, so uv is fetched
first where it is missing; pip does the same work where uv cannot reach the package index.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

UV_ENVIRONMENT = {"UV_SYSTEM_CERTS": "1", "UV_NO_PROGRESS": "1"}
"""The system's certificates are what pip trusts too: a company's proxy is in them."""


def make_environment(folder: Path, lock: Path) -> None:
    """Create the environment, or bring it up to date with the lock file."""
    python = folder / "bin" / "python"
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    uv = _uv_on_path()
    if not _works(python, "--version"):
        _create(folder, uv)
    if uv is None:
        uv = _fetch_uv(python, lock)
    with_uv = [uv, "pip", "install", "--quiet", "--python", str(python)]
    if not _install(with_uv, lock):
        print("uv could not do it; pip does the same, in about a minute…", file=sys.stderr)
        if not _install(_pip_install(python), lock):
            sys.exit("The packages could not be installed; the reason stands above.")
    ready.touch()


def _uv_on_path() -> str | None:
    """A version manager's shim is on PATH also for people who cannot run what it points to."""
    uv = shutil.which("uv")
    return uv if uv is not None and _works(uv, "--version") else None


def _create(folder: Path, uv: str | None) -> None:
    if uv is not None:
        command = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
    else:
        # Debian splits ensurepip off into python3-venv; the machine's own pip can stand in for it.
        without_pip = [] if _works(sys.executable, "-c", "import ensurepip") else ["--without-pip"]
        command = [sys.executable, "-m", "venv", "--clear", *without_pip, str(folder)]
    if not _run(command):
        sys.exit("The virtual environment could not be made; the reason stands above.")


def _fetch_uv(python: Path, lock: Path) -> str:
    """Install the uv that the lock file names, with its hashes."""
    entry = entry_of("uv", lock.read_text())
    if entry is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
            requirements.write(entry)
            requirements.flush()
            _run([*_pip_install(python), "--no-deps", "--require-hashes", "-r", requirements.name])
    return str(python.with_name("uv"))


def entry_of(package: str, lock: str) -> str | None:
    """Return a package's lines in a lock file: its version and hashes."""
    found = re.search(rf"^{re.escape(package)}==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
    return found.group() if found is not None else None


def _install(install: Sequence[str], lock: Path) -> bool:
    if not _works(install[0], "--version"):
        return False
    return _run([*install, "--no-deps", "--require-hashes", "-r", str(lock)]) and _run(
        [*install, "--no-deps", "--no-build-isolation", "--editable", str(lock.parent)]
    )


def _pip_install(python: Path) -> list[str]:
    options = ["install", "--quiet", "--disable-pip-version-check"]
    if _works(python, "-m", "pip", "--version"):
        return [str(python), "-m", "pip", *options]
    if _works(sys.executable, "-m", "pip", "--version"):
        return [sys.executable, "-m", "pip", "--python", str(python), *options]
    sys.exit(
        f"{sys.executable} has neither ensurepip nor pip, and there is no uv.\n"
        "Install one of them (Debian: apt install python3-venv), then repeat."
    )


def _works(*command: str | Path) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _run(command: Sequence[str]) -> bool:
    return subprocess.run(command, check=False, env=os.environ | UV_ENVIRONMENT).returncode == 0


if __name__ == "__main__":
    print("Making .venv from the lock file (once, and again when the lock changes)…", file=sys.stderr)
    make_environment(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
