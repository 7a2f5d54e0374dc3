"""`make chaos` and `make bench` in their short forms: they run whole, and what they check holds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = 20


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a module of the tests from a folder of its own, where it may leave its results."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.timeout(600)
def test_chaos(tmp_path: Path, broker_url: str) -> None:  # F25 to F37, as far as the seed's plan goes
    done = run("tests.chaos", "--kills", str(KILLS), "--seed", "1", "--broker", broker_url, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deaths in" in done.stdout


@pytest.mark.timeout(600)
def test_bench(tmp_path: Path) -> None:
    groups = ("commands", "append", "feed", "replay", "drift", "memory")
    done = run("tests.bench", "--rounds", "1", "--only", *groups, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = json.loads((tmp_path / "bench" / "results.json").read_text())
    assert len(lines) > len(groups)
    assert all(line["ours"] > 0 and line["holds"] for line in lines)
