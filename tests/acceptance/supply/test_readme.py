"""The README's tour and the lines that `make up` prints, typed as they stand."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.copy import ROOT, Copy, copy_repository, up

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return copy_repository(tmp_path_factory.mktemp("readme"))


@pytest.fixture(scope="module")
def announced(clone: Copy) -> Iterator[dict[str, str]]:
    with up(clone) as said:
        yield said


def tour() -> str:
    """The block of the README that is the tour."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found: list[str] = BLOCK.findall(text.partition("## A tour")[2])
    return found[0]


def test_the_printed_lines_work_as_pasted(clone: Copy, announced: dict[str, str]) -> None:
    lines = announced["TRY"].splitlines()
    assert len(lines) == 3
    for line in lines:
        done = clone.shell(line.replace("curl ", "curl -sS --fail-with-body ", 1), announced)
        assert done.returncode == 0, f"$ {line}\n{done.stdout}"


@pytest.mark.timeout(300)
def test_the_tour_works_as_pasted(clone: Copy, announced: dict[str, str]) -> None:
    head = Path("/tmp/everfold-head")
    text = (
        tour()
        .replace("http://127.0.0.1:8001", announced["COMMANDS"])
        .replace("http://127.0.0.1:8002", announced["QUERIES"])
    )
    own_head = clone.root / "head.txt"
    done = clone.shell(
        text.replace(str(head), str(own_head)).replace("curl -sS", "curl -sS --fail-with-body"), announced
    )
    assert done.returncode == 0, done.stdout
    documents = [
        json.loads(line) for line in done.stdout.splitlines() if line.startswith("{") and line.endswith("}")
    ]
    order = next(document for document in documents if "order_id" in document)
    assert (order["order_id"], order["total"]) == ("PO-1", {"amount": 2500, "currency": "EUR"})
    trace = next(document for document in documents if "totals" in document)
    assert trace["totals"]["received"] == 100
