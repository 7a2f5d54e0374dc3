"""The tutorial, typed as it stands: a second domain, written with `everfold new`, runs beside the reference domain."""

import json
from pathlib import Path

import pytest

from tests.copy import Copy, copy_repository, up
from tests.typed import blocks_of, carry_out

UP = "EVERFOLD_NAMESPACE=library EVERFOLD_DOMAINS=supply,library make up\n"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return copy_repository(tmp_path_factory.mktemp("tutorial"))


def blocks() -> list[tuple[str, str]]:
    return blocks_of("docs/tutorial.md")


@pytest.fixture(scope="module")
def written(clone: Copy) -> Copy:
    """The copy with all that the tutorial has written before it starts the system."""
    found = blocks()
    for kind, text in found[: found.index(("sh", UP))]:
        carry_out(clone, kind, text, clone.environment())
    return clone


@pytest.mark.timeout(600)
def test_the_tutorial_works_as_typed(written: Copy) -> None:
    clone, found = written, blocks()
    start = found.index(("sh", UP))
    said = []
    with up(clone, EVERFOLD_NAMESPACE="library", EVERFOLD_DOMAINS="supply,library") as announced:
        for kind, text in found[start + 1 :]:
            here = text.replace("http://127.0.0.1:8001", announced["COMMANDS"])
            said.append(
                carry_out(clone, kind, here.replace("http://127.0.0.1:8002", announced["QUERIES"]), announced)
            )
        stocked = clone.run(
            "curl",
            "-sS",
            f"{announced['QUERIES']}/v1/stock-levels",
            "-H",
            f"Authorization: Bearer {announced['TOKEN']}",
        )

    document = next(json.loads(line) for line in said[0].splitlines() if '"lent_to"' in line)
    assert document["lent_to"] == "ishmael"
    assert "BookLent" in said[0]
    assert json.loads(stocked.stdout)["items"] == []


@pytest.mark.timeout(600)
def test_what_the_tutorial_writes_passes_the_checks(written: Copy) -> None:
    clone = written
    assert all(kind == "sh" for kind, _ in blocks()[blocks().index(("sh", UP)) :]), (
        "what is written later is not checked"
    )
    layers = ("schemas", "command_api", "projectors", "query_api")
    files = [
        str(path) for layer in layers for path in sorted(Path(clone.root / layer / "library").rglob("*.py"))
    ]
    assert files
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        done = clone.run(str(clone.root / ".venv/bin/python"), "-m", *command, *files)
        assert done.returncode == 0, done.stdout
