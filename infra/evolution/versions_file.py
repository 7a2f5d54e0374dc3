"""
A domain's registry file: `versions.json` beside its events, the same bytes for the same content.

It is committed, so it is written for people who read its changes: one member a line where that fits.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from infra.domains import Domain
from schemas.errors import BadDefinition
from schemas.shapes import Shape

FORMAT = 1
LINE_CHARACTERS_MAX = 110
FULL, BACKWARD, RETIRED = "full", "backward", "retired"


class Place(NamedTuple):
    """An event type and a version of it."""

    type: str
    version: int

    def __str__(self) -> str:
        return f"{self.type} version {self.version}"


@dataclass(frozen=True)
class Entry:
    """What is known of one version of an event."""

    status: str
    """
    `full`: its class is as it was frozen, so every program that has it reads what any of them writes. `backward`: it
    was widened since, so programs from before refuse what is written now. `retired`: no class reads it any more, on
    purpose.
    """
    shape: Shape
    today: tuple[str, ...] = ()
    """What it is read as: `OrderPlaced version 2`; none where it no longer counts."""
    reason: str = ""
    """Why it is retired."""


@dataclass
class VersionsFile:
    """What is in a registry file."""

    path: Path
    domain: str
    entries: dict[Place, Entry] = field(default_factory=dict)

    def encode(self) -> str:
        """Return the file's text."""
        events: dict[str, dict[str, Any]] = {}
        for place, entry in sorted(self.entries.items()):
            events.setdefault(place.type, {})[str(place.version)] = _members(entry)
        document = {"format": FORMAT, "domain": self.domain, "events": events}
        return "".join(_lines(document, "")) + "\n"


def versions_path(domain: Domain) -> Path | None:
    """Return where a domain's registry file is or would be; None for a domain without events of its own."""
    name = domain.modules.get("schemas", f"schemas.{domain.name}")
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return None
    if spec is None or spec.origin is None:
        return None
    module = Path(spec.origin)
    return module.with_name(
        "versions.json" if module.name == "__init__.py" else f"{module.stem}_versions.json"
    )


def read_versions(path: Path, domain: str) -> VersionsFile:
    """
    Return what a registry file says; it is empty where there is none yet.

    Raises:
        BadDefinition: It is not as `everfold schemas freeze` writes it.
    """
    found = VersionsFile(path, domain)
    if not path.exists():
        return found
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise BadDefinition(str(path), f"has format {document['format']}; this program reads {FORMAT}")
        for type_, versions in document["events"].items():
            for version, members in versions.items():
                found.entries[Place(type_, int(version))] = _entry(members)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise BadDefinition(
            str(path), f"is no registry file ({said}); restore it from version control"
        ) from error
    return found


def _entry(members: dict[str, Any]) -> Entry:
    if members["status"] not in (FULL, BACKWARD, RETIRED):
        raise ValueError(f"status {members['status']!r}")
    return Entry(
        members["status"],
        {"type": "object", "fields": members["fields"]} | ({"open": True} if members.get("open") else {}),
        tuple(members.get("today", ())),
        members.get("reason", ""),
    )


def _members(entry: Entry) -> dict[str, Any]:
    members: dict[str, Any] = {"status": entry.status}
    if entry.reason:
        members["reason"] = entry.reason
    if entry.status != RETIRED:
        members["today"] = list(entry.today)
    if entry.shape.get("open"):
        members["open"] = True
    return members | {"fields": entry.shape["fields"]}


def _lines(value: Any, indent: str) -> Iterator[str]:
    text = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or not value or len(indent) + len(text) <= LINE_CHARACTERS_MAX:
        yield text
        return
    yield "{"
    for number, (name, member) in enumerate(value.items()):
        yield f"{',' if number else ''}\n{indent}  {json.dumps(name, ensure_ascii=False)}: "
        yield from _lines(member, f"{indent}  ")
    yield f"\n{indent}}}"
