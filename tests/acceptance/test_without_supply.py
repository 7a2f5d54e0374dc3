"""The engine stands by itself: without the reference domain it starts, and its own tests pass on the toy domain."""

import re
import shutil
from pathlib import Path

import pytest

from tests.copy import Copy, copy_repository, up


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy of the repository in which every `supply/` folder and its entry point are deleted."""
    copy = copy_repository(tmp_path_factory.mktemp("engine"))
    for folder in [path for path in copy.root.rglob("supply") if path.is_dir() and ".venv" not in path.parts]:
        shutil.rmtree(folder)
    description = copy.root / "pyproject.toml"
    description.write_text(re.sub(r"^supply = .*\n", "", description.read_text(), flags=re.MULTILINE))
    copy.install()
    return copy


def test_no_module_of_the_engine_names_the_domain(engine: Copy) -> None:
    layers = ("schemas", "infra", "event_store", "command_api", "projectors", "query_api")
    naming = [
        str(file.relative_to(engine.root))
        for layer in layers
        for file in sorted((engine.root / layer).rglob("*.py"))
        if re.search(r"\bsupply\b(?!\",\))|\bstock\b|\brecall", file.read_text())
    ]
    assert naming == []


def test_the_engine_migrates_and_starts_with_the_toy_domain(engine: Copy) -> None:
    with up(engine, EVERFOLD_DOMAINS="toy") as announced:
        authorization = f"Authorization: Bearer {announced['TOKEN']}"
        opened = engine.run(
            "curl", "-sS", "-X", "POST", f"{announced['COMMANDS']}/v1/accounts/A1/open", "-H", authorization,
            "-H", "Content-Type: application/json", "-d", '{"owner": "Ada"}',
        )  # fmt: skip
        assert '"stream":"accounts/A1"' in opened.stdout, opened.stdout
        verified = engine.run(
            str(engine.root / ".venv/bin/everfold"), "status", "--json", environment=announced
        )
        assert '"account-balances"' in verified.stdout, verified.stdout


@pytest.mark.timeout(600)
def test_the_engines_own_unit_and_contract_tests_pass(engine: Copy) -> None:
    """On the log in memory: what the others do besides has nothing to do with any domain."""
    done = engine.run(
        str(engine.root / ".venv/bin/python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k",
        "not (archived or postgres or broker)", "tests/unit", "tests/contract", seconds_max=500,
        environment=engine.environment(EVERFOLD_DOMAINS="toy"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_folders_are_really_gone(engine: Copy) -> None:
    assert [path for path in Path(engine.root).rglob("supply") if ".venv" not in path.parts] == []
