"""
Azurite, the emulator of Azure's storage, for tests: the one named, else one from npm, installed once for a user.

EVERFOLD_TEST_AZURITE names a program `azurite-blob`. Where there is no npm either, blobs.py's stand-in must do.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from infra.embedded.ports import LOOPBACK, free_port

VARIABLE = "EVERFOLD_TEST_AZURITE"
VERSION = "3.35.0"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that every Azurite has, and its key: published, and of no use anywhere else."""
START_SECONDS_MAX = 30.0
INSTALL_SECONDS_MAX = 300.0


def can_be_had() -> bool:
    """Say whether there is an Azurite, or an npm to get it with."""
    return bool(os.environ.get(VARIABLE) or shutil.which("npm"))


def installed() -> Path:
    """Return `azurite-blob`, installed if need be."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    npm = shutil.which("npm")
    assert npm is not None
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "everfold-tests" / f"azurite-{VERSION}"
    program = folder / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        install = [npm, "install", "--no-audit", "--no-fund", "--fetch-retries=1", "--prefix", str(folder)]
        install += [f"azurite@{VERSION}"]
        done = subprocess.run(
            install, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False
        )
        if done.returncode:
            raise RuntimeError(f"Azurite could not be installed: {done.stderr[-500:]}")
    return program


@contextmanager
def azurite(program: Path, folder: Path) -> Iterator[str]:
    """Run Azurite for a block, and give its address with the account."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        str(program), "--blobHost", LOOPBACK, "--blobPort", str(port), "--location", str(folder), "--silent",
        "--disableTelemetry",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://{LOOPBACK}:{port}/", process)
        yield f"http://{LOOPBACK}:{port}/{ACCOUNT}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        assert process.poll() is None, "Azurite has ended"
        try:
            urlopen(url, timeout=1)
        except URLError as error:
            if getattr(error, "code", None) is not None:  # it answers, and wants to know who asks
                return
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("Azurite does not answer")
