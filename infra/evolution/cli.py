"""`everfold schemas …`: whether stored events stay readable, and the taking up of new versions."""

from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from infra.domains import load_domains
from infra.evolution.freezing import Frozen, freeze, retire
from infra.evolution.judging import Finding, Judged, judge, told
from infra.evolution.versions_file import RETIRED, Place
from infra.settings import load_settings
from schemas.errors import BadDefinition

DOES_NOT_HOLD = 1
CORPORA = Path("tests/corpus")

Domains = Annotated[
    list[str] | None,
    typer.Option("--domain", help="A domain; may be repeated. Else those of EVERFOLD_DOMAINS."),
]
EveryDomain = Annotated[bool, typer.Option("--all", help="Every domain that is installed.")]
Corpora = Annotated[
    Path, typer.Option("--corpus", help="The folder with each domain's folder of stored payloads.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add `schemas` to the command line."""
    schemas = typer.Typer(
        help="Keep stored events readable: versions, and payloads of each.", no_args_is_help=True
    )
    app.add_typer(schemas, name="schemas")
    schemas.command(name="check")(check_command)
    schemas.command(name="freeze")(freeze_command)
    schemas.command(name="retire")(retire_command)


def check_command(
    domain: Domains = None,
    every: EveryDomain = False,
    corpus: Corpora = CORPORA,
    without_corpus: Annotated[
        bool,
        typer.Option("--without-corpus", help="Compare classes alone: where the tests are not installed."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the event classes with what was frozen of them. Exit 1: something stored would not be read, or is new."""
    judged = list(_judged(domain, every, None if without_corpus else corpus))
    findings = [finding for one in judged for finding in one.findings()]
    if as_json:
        print(orjson.dumps(_document(judged, findings)).decode())
    elif findings:
        print(told(findings))
    else:
        for one in judged:
            print(f"{one.domain}: {len(one.file.entries)} versions, and all that is stored of them is read")
    if findings:
        raise typer.Exit(DOES_NOT_HOLD)


def freeze_command(
    domain: Domains = None,
    every: EveryDomain = False,
    corpus: Corpora = CORPORA,
    accept_readings: Annotated[
        bool,
        typer.Option("--accept-readings", help="Take stored payloads to be read rightly as they are now."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take up new versions, with payloads made for them. Exit 1: what was frozen would not be read any more."""
    done = [(one, freeze(one, accept_readings=accept_readings)) for one in _judged(domain, every, corpus)]
    if as_json:
        print(orjson.dumps({"domains": [_frozen_document(one, frozen) for one, frozen in done]}).decode())
    else:
        for one, frozen in done:
            print(_sentences(one, frozen))
    if any(frozen.refused for _, frozen in done):
        raise typer.Exit(DOES_NOT_HOLD)


def retire_command(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Such as OrderPlaced.")],
    version: Annotated[int, typer.Argument(help="Such as 1.")],
    reason: Annotated[
        str, typer.Option(help="Why no log holds it, or why it need not be read; kept in the file.")
    ],
    domain: Domains = None,
) -> None:
    """Say that a version need not be read any more. Its class may then go; a log that has it holds its readers up."""
    place = Place(type_, version)
    judged = next((one for one in _judged(domain, False, None) if place in one.file.entries), None)
    if judged is None:
        raise BadDefinition(str(place), "no registry file has it; `everfold schemas check --json` lists all")
    print(f"wrote {_shown(retire(judged, place, reason))}")


def _judged(names: list[str] | None, every: bool, corpora: Path | None) -> Iterator[Judged]:
    if every:
        names = sorted(entry.name for entry in entry_points(group="everfold.domains"))
    for domain in load_domains(tuple(names or load_settings().domains)):
        judged = judge(domain, corpora)
        if judged is not None:
            yield judged


def _document(judged: Sequence[Judged], findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "holds": not findings,
        "findings": findings,
        "versions": [
            {
                "domain": one.domain, "event": place.type, "version": place.version, "status": entry.status,
                "verdict": entry.status if entry.status == RETIRED else str(one.verdict(place)),
                "today": entry.today,
            }
            for one in judged
            for place, entry in sorted(one.file.entries.items())
        ],
    }  # fmt: skip


def _frozen_document(judged: Judged, frozen: Frozen) -> dict[str, Any]:
    return {
        "domain": judged.domain,
        "refused": frozen.refused,
        "added": [place._asdict() for place in frozen.added],
        "widened": [place._asdict() for place in frozen.widened],
        "read_anew": [place._asdict() for place in frozen.read_anew],
        "files": list(map(_shown, frozen.files)),
    }


def _shown(path: Path) -> str:
    """Return a path as it is typed from here."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _sentences(judged: Judged, frozen: Frozen) -> str:
    if frozen.refused:
        return f"{told(frozen.refused)}\n{judged.domain}: nothing was written"
    said = [
        f"{judged.domain}: {what}: {', '.join(map(str, places))}"
        for what, places in (
            ("added", frozen.added),
            ("widened", frozen.widened),
            ("read otherwise than before, so read the change of their .today.jsonl", frozen.read_anew),
        )
        if places
    ]
    said += [f"wrote {_shown(path)}" for path in frozen.files]
    return "\n".join(said or [f"{judged.domain}: nothing is new"])
