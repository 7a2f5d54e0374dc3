"""
Runs the tests, and the few that failed beside others once more, by themselves.

Most tests start processes and wait for what these do. On two cores they take each other's time, and one that waited
too long for a machine that was busy elsewhere says nothing of the product. What fails alone as well has failed; what
passes is named in the first run's summary and in the second's, so that it is seen and mended. More than a few
failures are no coincidence, and none is tried again.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest

AGAIN_MAX = 8
"""Failed tests that are tried again; with more of them, none is."""


def failed_in(cache: Path) -> Sequence[str]:
    """Return the names of the tests that pytest has noted as failed in its cache."""
    noted = cache / "v" / "cache" / "lastfailed"
    return sorted(orjson.loads(noted.read_bytes())) if noted.exists() else []


def main(arguments: Sequence[str]) -> int:
    """Run pytest with the arguments beside those for sharing out, and return its exit code."""
    with TemporaryDirectory(prefix="everfold-tests-") as folder:
        command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={folder}", *arguments]
        status = subprocess.run(command, check=False).returncode
        failed = failed_in(Path(folder))
        if status != pytest.ExitCode.TESTS_FAILED or not 0 < len(failed) <= AGAIN_MAX:
            return status
        print(f"\nFailed beside others, and run again alone: {len(failed)} of the tests.", flush=True)
        alone = ["-n", "0", "-rfEp", "--last-failed", "--last-failed-no-failures", "none"]
        return subprocess.run([*command, *alone], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
