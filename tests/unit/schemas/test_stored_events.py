"""What the toy domain ever stored is read and folded by today's code."""

import pytest

from infra.evolution.judging import judge
from infra.evolution.versions_file import Place
from tests.stored import ROOT, corpus_of, states_after
from tests.toy import DOMAIN

JUDGED = judge(DOMAIN, ROOT / "tests/corpus")
assert JUDGED is not None


def test_the_registry_file_and_the_corpus_hold() -> None:
    assert JUDGED is not None
    assert list(map(str, JUDGED.findings())) == []


@pytest.mark.parametrize("place", sorted(JUDGED.file.entries), ids=str)
def test_every_stored_payload_is_folded(place: Place) -> None:
    assert JUDGED is not None
    for stored in (corpus_of("toy") / f"{place.type}.v{place.version}.jsonl").read_bytes().splitlines():
        for event in JUDGED.registry.decode(*place, stored):
            assert states_after(DOMAIN, event, "accounts/A").keys() == {"accounts", "aliases"}
