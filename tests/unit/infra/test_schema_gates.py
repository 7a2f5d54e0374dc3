"""
The gates on stored events: what `everfold schemas` refuses, what it takes up, and that it says which event and field.

A domain of the test's own is released, frozen, changed and released again, as a team does it.
"""

import json
import sys
from collections.abc import Callable, Iterator
from importlib import invalidate_caches
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from infra.domains import Domain
from infra.evolution import cli
from infra.evolution.freezing import Frozen, freeze, retire
from infra.evolution.judging import Judged, judge
from infra.evolution.versions_file import Place, read_versions
from schemas.errors import BadDefinition, NotFound

HEAD = """
from typing import Literal, Never
from pydantic import model_validator
from schemas import Event, Personal, upcast
from schemas.messages import Count, Id, Quantity, Text
"""
FIRST = """
class CrateLoaded(Event):
    crate_id: Id
    pieces: Count
    note: Text | None = None

class CrateSealed(Event):
    seal: Text
"""
numbers = count(1)
Release = Callable[[str], Judged]


class Workshop:
    """A domain that is written anew for every release."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"crates_{next(numbers)}"
        self.corpora = folder / "corpus"
        self.domain = Domain(self.name, modules={"schemas": self.name})
        (folder / self.name).mkdir()

    def release(self, source: str) -> Judged:
        """Return the domain as its source now is, beside what was frozen."""
        (self.folder / self.name / "__init__.py").write_text(HEAD + source, encoding="utf-8")
        sys.modules.pop(self.name, None)
        invalidate_caches()
        judged = judge(self.domain, self.corpora)
        assert judged is not None
        return judged

    def frozen(self, source: str) -> Frozen:
        """Release and freeze."""
        done = freeze(self.release(source))
        assert done.refused == []
        return done

    @property
    def versions(self) -> Path:
        return self.folder / self.name / "versions.json"

    def corpus(self, name: str) -> list[Any]:
        """Return the lines of a file of the corpus."""
        text = (self.corpora / self.name / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # two releases within a second are not told apart by time
    monkeypatch.syspath_prepend(tmp_path)
    made = Workshop(tmp_path)
    yield made
    sys.modules.pop(made.name, None)


def told(judged: Judged) -> list[tuple[str, int, str]]:
    return [(finding.event, finding.version, finding.field) for finding in judged.findings()]


def test_what_is_not_frozen_yet_is_said_to_be_so(workshop: Workshop) -> None:
    found = workshop.release(FIRST).findings()
    assert [(one.event, one.problem) for one in found] == [
        ("CrateLoaded", "is not in the registry file yet"),
        ("CrateSealed", "is not in the registry file yet"),
    ]
    assert f"everfold schemas freeze --domain {workshop.name}" in found[0].remedy


def test_what_is_frozen_holds_and_freezing_again_writes_nothing(workshop: Workshop) -> None:
    done = workshop.frozen(FIRST)
    assert done.added == [Place("CrateLoaded", 1), Place("CrateSealed", 1)]
    before = {
        path: path.read_bytes()
        for path in (workshop.versions, *workshop.corpora.rglob("*"))
        if path.is_file()
    }
    assert workshop.release(FIRST).findings() == []
    assert workshop.frozen(FIRST).files == []
    assert before == {path: path.read_bytes() for path in before}


def test_each_version_has_a_payload_with_all_fields_and_one_with_the_fewest(workshop: Workshop) -> None:
    workshop.frozen(FIRST)
    full, minimal = workshop.corpus("CrateLoaded.v1.jsonl")
    assert full.keys() == {"crate_id", "pieces", "note"}
    assert full["note"] is not None
    assert minimal.keys() == {"crate_id", "pieces"}
    (reading,) = workshop.corpus("CrateLoaded.v1.today.jsonl")[1]
    assert reading == {"type": "CrateLoaded", "version": 1, "data": minimal | {"note": None}}


BREAKS = {
    "a field is gone": (FIRST.replace("    pieces: Count\n", ""), "pieces", "is gone from the class"),
    "a field is renamed": (FIRST.replace("pieces: Count", "parts: Count"), "pieces", "is gone from the class"),
    "a field is new": (FIRST + "    by: Id\n", "by", "is new and has no default"),
    "a bound is narrower": (FIRST.replace("Count", "Quantity", 2), "pieces", "minimum is 1 now, and was 0"),
    "a field is required": (FIRST.replace("Text | None = None", "Text | None"), "note", "is required now"),
    "a default is another": (FIRST.replace("Text | None = None", 'Text | None = "-"'), "note", "its default was None"),
    "a type is another": (FIRST.replace("seal: Text", "seal: Count"), "seal", "is string in stored events"),
    "a class is gone": (FIRST[: FIRST.index("class CrateSealed")], "", "has no class any more"),
    "a type is renamed": (FIRST.replace("CrateSealed", "CrateClosed"), "", "has no class any more"),
}  # fmt: skip


@pytest.mark.parametrize("case", BREAKS)
def test_a_change_that_stored_events_do_not_survive_is_refused_by_name(workshop: Workshop, case: str) -> None:
    changed, field, problem = BREAKS[case]
    workshop.frozen(FIRST)
    judged = workshop.release(changed)
    found = [one for one in judged.findings() if one.breaks and one.field == field and problem in one.problem]
    assert found, judged.findings()
    assert found[0].event in ("CrateLoaded", "CrateSealed")
    assert str(found[0]).startswith(f"{workshop.name}: {found[0].event} version 1")
    before = workshop.versions.read_bytes()
    assert problem in str(freeze(judged).refused)
    assert freeze(judged).files == []
    assert workshop.versions.read_bytes() == before


def test_the_remedy_names_the_version_to_add(workshop: Workshop) -> None:
    workshop.frozen(FIRST)
    (finding,) = workshop.release(FIRST.replace("seal: Text", "seal: Count")).breaks()
    assert finding.remedy == "leave version 1 as it was, add version 2 beside it and an @upcast"


SECOND = FIRST.replace("class CrateSealed(Event):\n    seal: Text", """
class CrateSealed(Event, version=2):
    seal: Text
    by: Id

class CrateSealedV1(Event, type="CrateSealed"):
    seal: Text

@upcast
def crate_sealed_v1(event: CrateSealedV1) -> CrateSealed:
    return CrateSealed(seal=event.seal, by="unknown")
""")  # fmt: skip


def test_a_new_version_with_its_upcast_is_taken_up_and_the_old_payloads_stay(workshop: Workshop) -> None:
    workshop.frozen(FIRST)
    stored = workshop.corpus("CrateSealed.v1.jsonl")
    seal = stored[0]["seal"]
    problems = [one.problem for one in workshop.release(SECOND).findings()]
    assert problems[:2] == [
        "is read as CrateSealed version 2 now, which the file does not say",
        "is not in the registry file yet",
    ]
    assert f'[{{"type":"CrateSealed","version":2,"data":{{"seal":"{seal}","by":"unknown"}}}}]' in problems[2]
    done = workshop.frozen(SECOND)
    assert (done.added, done.read_anew) == ([Place("CrateSealed", 2)], [Place("CrateSealed", 1)])
    assert workshop.corpus("CrateSealed.v1.jsonl") == stored
    assert workshop.corpus("CrateSealed.v1.today.jsonl")[0][0]["data"]["by"] == "unknown"
    assert workshop.release(SECOND).findings() == []


def test_an_upcast_that_comes_to_say_something_else_is_noticed(workshop: Workshop) -> None:
    workshop.frozen(SECOND)
    judged = workshop.release(SECOND.replace('by="unknown"', 'by="nobody"'))
    assert {one.event for one in judged.findings()} == {"CrateSealed"}
    refused = freeze(judged).refused
    assert "line 1 of CrateSealed.v1.jsonl is read otherwise than when it was frozen" in refused[0].problem
    done = freeze(judged, accept_readings=True)
    assert (done.refused, done.read_anew) == ([], [Place("CrateSealed", 1)])
    assert judged.findings() == []


def test_a_field_more_widens_a_version_which_programs_from_before_refuse(workshop: Workshop) -> None:
    workshop.frozen(FIRST)
    wider = FIRST.replace("    seal: Text", "    seal: Text\n    by: Id | None = None")
    (finding,) = [one for one in workshop.release(wider).findings() if "wider" in one.problem]
    assert not finding.breaks
    done = workshop.frozen(wider)
    assert done.widened == [Place("CrateSealed", 1)]
    entries = read_versions(workshop.versions, workshop.name).entries
    assert entries[Place("CrateSealed", 1)].status == "backward"
    assert entries[Place("CrateLoaded", 1)].status == "full"
    first, *_, last = workshop.corpus("CrateSealed.v1.jsonl")
    assert (first.keys(), last.keys()) == ({"seal"}, {"seal", "by"})
    assert workshop.release(wider).findings() == []
    (gone,) = workshop.release(FIRST).breaks()
    assert (gone.field, gone.problem) == ("by", "is gone from the class, and stored events carry it")


def test_a_renamed_type_and_one_that_no_longer_counts_are_taken_up(workshop: Workshop) -> None:
    workshop.frozen(FIRST)
    renamed = FIRST.replace("class CrateSealed(Event):", """
class CrateClosed(Event):
    seal: Text

@upcast
def crate_sealed(event: "CrateSealed") -> CrateClosed:
    return CrateClosed(seal=event.seal)

@upcast
def crate_loaded(event: CrateLoaded) -> list[Never]:
    return []

class CrateSealed(Event):""")  # fmt: skip
    assert [
        one for one in workshop.release(renamed).findings() if one.breaks and "line" not in one.problem
    ] == []
    done = workshop.frozen(renamed)
    assert done.read_anew == [Place("CrateLoaded", 1), Place("CrateSealed", 1)]
    assert [line[0]["type"] for line in workshop.corpus("CrateSealed.v1.today.jsonl")] == ["CrateClosed"] * 2
    assert workshop.corpus("CrateLoaded.v1.today.jsonl") == [[], []]


def test_a_version_without_a_payload_fails_the_check(workshop: Workshop) -> None:
    workshop.frozen(FIRST)
    (workshop.corpora / workshop.name / "CrateSealed.v1.jsonl").unlink()
    problems = [(one.event, one.problem) for one in workshop.release(FIRST).findings()]
    assert problems == [("CrateSealed", "has no stored payload in CrateSealed.v1.jsonl")]


def test_a_field_that_no_payload_carries_fails_the_check(workshop: Workshop) -> None:
    workshop.frozen(FIRST)
    path = workshop.corpora / workshop.name / "CrateLoaded.v1.jsonl"
    for file in (path, path.with_suffix(".today.jsonl")):
        file.write_bytes(file.read_bytes().splitlines(keepends=True)[1])
    (finding,) = workshop.release(FIRST).findings()
    assert finding.problem == "no line of CrateLoaded.v1.jsonl has note"


def test_what_only_a_validator_knows_is_found_by_the_payloads(workshop: Workshop) -> None:
    """A class's own validators are in no schema; a stored payload that they refuse now fails the check by line."""
    workshop.frozen(FIRST)
    stricter = FIRST + '''
    @model_validator(mode="after")
    def _short(self) -> "CrateSealed":
        if self.seal:
            raise ValueError("no seals any more")
        return self
'''  # fmt: skip
    found = workshop.release(stricter).findings()
    assert {one.event for one in found} == {"CrateSealed"}
    assert "line 1 of CrateSealed.v1.jsonl cannot be read" in found[0].problem
    assert "no seals any more" in found[0].problem
    assert "no seals any more" in freeze(workshop.release(stricter)).refused[0].problem


def test_where_no_payload_can_be_made_one_is_written_by_hand(workshop: Workshop) -> None:
    wilful = FIRST + '''
    @model_validator(mode="after")
    def _odd(self) -> "CrateSealed":
        if self.seal != "odd":
            raise ValueError("must be odd")
        return self
'''  # fmt: skip
    with pytest.raises(BadDefinition, match=r"write one by hand to .*CrateSealed\.v1\.jsonl"):
        freeze(workshop.release(wilful))
    path = workshop.corpora / workshop.name / "CrateSealed.v1.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"seal": "odd"}\n', encoding="utf-8")
    workshop.frozen(wilful)
    assert path.read_text(encoding="utf-8") == '{"seal": "odd"}\n'
    assert workshop.release(wilful).findings() == []


def test_a_retired_version_may_lose_its_class_and_keeps_its_reason(workshop: Workshop) -> None:
    workshop.frozen(FIRST)
    without = FIRST[: FIRST.index("class CrateSealed")]
    judged = workshop.release(without)
    retire(judged, Place("CrateSealed", 1), "never left the test system")
    assert workshop.release(without).findings() == []
    assert workshop.frozen(without).files == []
    entry = read_versions(workshop.versions, workshop.name).entries[Place("CrateSealed", 1)]
    assert (entry.status, entry.reason) == ("retired", "never left the test system")
    (finding,) = workshop.release(FIRST).findings()
    assert "is retired, but has a class" in finding.problem
    with pytest.raises(NotFound, match="CrateSunk version 1"):
        retire(judged, Place("CrateSunk", 1), "never was")


def test_a_retired_version_is_not_revived_by_a_freeze(workshop: Workshop) -> None:
    workshop.frozen(FIRST)
    retire(workshop.release(FIRST), Place("CrateSealed", 1), "a mistake")
    done = freeze(workshop.release(FIRST))
    assert "is retired" in done.refused[0].problem
    entry = read_versions(workshop.versions, workshop.name).entries[Place("CrateSealed", 1)]
    assert entry.status == "retired"


def test_the_file_is_the_same_bytes_for_the_same_classes(workshop: Workshop, tmp_path: Path) -> None:
    workshop.frozen(FIRST)
    first = workshop.versions.read_bytes()
    payloads = {path.name: path.read_bytes() for path in (workshop.corpora / workshop.name).iterdir()}
    workshop.versions.unlink()
    for path in (workshop.corpora / workshop.name).iterdir():
        path.unlink()
    workshop.frozen(FIRST)
    assert workshop.versions.read_bytes() == first
    assert {path.name: path.read_bytes() for path in (workshop.corpora / workshop.name).iterdir()} == payloads


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2, "events": {}}', '{"format": 1, "events": {"A": {"1": {}}}}']
)
def test_a_file_that_is_none_is_refused_by_name(workshop: Workshop, text: str) -> None:
    workshop.release(FIRST)
    workshop.versions.write_text(text, encoding="utf-8")
    with pytest.raises(BadDefinition, match=r"versions\.json"):
        workshop.release(FIRST)


# -- as a person types it --------------------------------------------------------------------------------


@pytest.fixture
def run(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(cli, "load_domains", lambda names: (workshop.domain,))
    app = typer.Typer()
    cli.register(app)
    app.callback()(lambda: None)

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["schemas", *arguments])

    return invoke


def test_check_and_freeze_on_the_command_line(workshop: Workshop, run: Callable[..., Any]) -> None:
    corpus = ("--corpus", str(workshop.corpora))
    workshop.release(FIRST)
    assert run("check", *corpus).exit_code == 1
    done = run("freeze", *corpus)
    assert (done.exit_code, "added: CrateLoaded version 1, CrateSealed version 1" in done.stdout) == (0, True)
    held = run("check", *corpus)
    assert (held.exit_code, "2 versions" in held.stdout) == (0, True)
    assert "nothing is new" in run("freeze", *corpus).stdout

    workshop.release(FIRST.replace("    pieces: Count\n", ""))
    refused = run("check", *corpus)
    assert refused.exit_code == 1
    assert (
        "CrateLoaded version 1, field pieces: is gone from the class, and stored events carry it"
        in refused.stdout
    )
    assert "add version 2 beside it and an @upcast" in refused.stdout
    document = json.loads(run("check", "--json", "--without-corpus").stdout)
    assert document["holds"] is False
    assert document["findings"][0] | {"remedy": "", "problem": ""} == {
        "domain": workshop.name, "event": "CrateLoaded", "version": 1, "field": "pieces", "problem": "", "remedy": "",
        "breaks": True,
    }  # fmt: skip
    assert [(one["event"], one["verdict"]) for one in document["versions"]] == [
        ("CrateLoaded", "none"),
        ("CrateSealed", "full"),
    ]
    again = run("freeze", *corpus, "--json")
    assert again.exit_code == 1
    assert json.loads(again.stdout)["domains"][0]["refused"][0]["field"] == "pieces"


def test_a_version_is_retired_on_the_command_line(workshop: Workshop, run: Callable[..., Any]) -> None:
    workshop.frozen(FIRST)
    workshop.release(FIRST[: FIRST.index("class CrateSealed")])
    assert run("check", "--corpus", str(workshop.corpora)).exit_code == 1
    assert run("retire", "CrateSealed", "1").exit_code == 2, "a reason is needed"
    assert run("retire", "CrateSealed", "1", "--reason", "never left the test system").exit_code == 0
    assert run("check", "--corpus", str(workshop.corpora)).exit_code == 0
    assert isinstance(run("retire", "CrateSealed", "7", "--reason", "x").exception, BadDefinition)
