"""How to change an event, typed as it stands: what stored events do not survive is refused, the rest is taken up."""

import pytest

from tests.copy import Copy, copy_repository
from tests.typed import blocks_of, carry_out

DOCUMENT = "docs/how-to/change-an-event.md"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return copy_repository(tmp_path_factory.mktemp("parcels"))


@pytest.mark.timeout(600)
def test_the_example_works_as_typed_and_says_what_is_shown(clone: Copy) -> None:
    said = ""
    for kind, text in blocks_of(DOCUMENT):
        if kind == "text":
            assert [line for line in text.splitlines() if line not in said.splitlines()] == [], said
        else:
            said = carry_out(clone, kind, text, clone.environment())
    files = ["schemas/parcels", "command_api/parcels", "tests/unit/parcels"]
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        done = clone.run(str(clone.root / ".venv/bin/python"), "-m", *command, *files)
        assert done.returncode == 0, done.stdout
    changed = (clone.root / "tests/corpus/parcels/ParcelRegistered.v1.today.jsonl").read_text()
    assert '"version":2' in changed
    assert '"weight_grams":null' in changed
