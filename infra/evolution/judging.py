"""
Compares a domain's event classes with its registry file and its corpus, and says what broke and what to do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.domains import Domain, load_registry
from infra.evolution.corpus import faults, read_payloads
from infra.evolution.versions_file import (
    BACKWARD,
    FULL,
    RETIRED,
    Entry,
    Place,
    VersionsFile,
    read_versions,
    versions_path,
)
from schemas.compatibility import Verdict, gaps, verdict_of
from schemas.messages import Event
from schemas.registry import Registry
from schemas.shapes import Shape, shape_of
from schemas.upcasting import ends_of, place_of


@dataclass(frozen=True)
class Finding:
    """Something that does not hold."""

    domain: str
    event: str
    version: int
    field: str
    problem: str
    remedy: str
    breaks: bool = True
    """Whether stored events are concerned; else the file only has to be brought up to date."""

    def __str__(self) -> str:
        where = f"{self.event} version {self.version}{f', field {self.field}' if self.field else ''}"
        return f"{self.domain}: {where}: {self.problem}: {self.remedy}"


@dataclass
class Judged:
    """A domain's classes beside its registry file."""

    domain: str
    registry: Registry
    file: VersionsFile
    classes: dict[Place, type[Event]]
    corpus: Path | None
    """The folder of the domain's stored payloads; None: they are not looked at."""

    def shape(self, place: Place) -> Shape:
        """Return what a version's class says today."""
        return shape_of(self.classes[place])

    def today(self, place: Place) -> tuple[str, ...]:
        """Return what a version is read as today."""
        return tuple(sorted(map(place_of, ends_of(self.classes[place], self.registry.upcasts))))

    def verdict(self, place: Place) -> Verdict:
        """Say who reads what between a version's frozen shape and its class."""
        if place not in self.classes:
            return Verdict.NONE
        return verdict_of(self.file.entries[place].shape, self.shape(place))

    def findings(self) -> list[Finding]:
        """Return all that does not hold, in the file's order."""
        return [*self.breaks(), *self._outdated(), *self._corpus_faults()]

    def breaks(self) -> Iterator[Finding]:
        """Return what makes stored events unreadable, or mean something else."""
        for place, entry in sorted(self.file.entries.items()):
            if entry.status == RETIRED:
                if place in self.classes:
                    remedy = "take the class away, or bring the entry back from version control"
                    yield self._finding(place, "", "is retired, but has a class", remedy)
                continue
            if place not in self.classes:
                yield self._finding(
                    place, "", "has no class any more, and the log may hold events of it",
                    f'bring its class back (type="{place.type}", version={place.version}) with an @upcast; or, where '
                    f"no log holds one, run `everfold schemas retire {place.type} {place.version} --reason …`",
                )  # fmt: skip
                continue
            for gap in gaps(entry.shape, self.shape(place)):
                next_version = (
                    max(p.version for p in (*self.classes, *self.file.entries) if p.type == place.type) + 1
                )
                yield self._finding(
                    place, gap.field, gap.problem,
                    f"leave version {place.version} as it was, add version {next_version} beside it and an @upcast",
                )  # fmt: skip

    def _outdated(self) -> Iterator[Finding]:
        freeze = f"run `everfold schemas freeze --domain {self.domain}` and commit what it writes"
        for place in sorted(self.classes):
            entry = self.file.entries.get(place)
            if entry is None:
                yield self._finding(place, "", "is not in the registry file yet", freeze, breaks=False)
            elif entry.status == RETIRED:
                continue
            elif self.verdict(place) is Verdict.BACKWARD or (
                self.verdict(place) is Verdict.FULL and entry.shape != self.shape(place)
            ):
                problem = "has become wider than the registry file says"
                yield self._finding(place, "", problem, freeze, breaks=False)
            elif entry.today != self.today(place):
                said = " and ".join(self.today(place)) or "nothing"
                yield self._finding(
                    place, "", f"is read as {said} now, which the file does not say", freeze, breaks=False
                )

    def _corpus_faults(self) -> Iterator[Finding]:
        if self.corpus is None:
            return
        for place, entry in sorted(self.file.entries.items()):
            if entry.status == RETIRED or place not in self.classes:
                continue
            for fault in faults(self.registry, read_payloads(self.corpus, place), entry.shape):
                yield self._finding(
                    place, "", fault,
                    "mend the class or the upcast; where the new reading is meant, run "
                    f"`everfold schemas freeze --domain {self.domain} --accept-readings`",
                )  # fmt: skip

    def _finding(
        self, place: Place, field: str, problem: str, remedy: str, *, breaks: bool = True
    ) -> Finding:
        return Finding(self.domain, place.type, place.version, field, problem, remedy, breaks)

    def frozen(self, place: Place) -> Entry:
        """Return a version's entry as it is to be from now on; what has been widened once stays `backward`."""
        before = self.file.entries.get(place)
        widened = before is not None and (
            before.status == BACKWARD or self.verdict(place) is not Verdict.FULL
        )
        return Entry(BACKWARD if widened else FULL, self.shape(place), self.today(place))


def judge(domain: Domain, corpora: Path | None, *, registry: Registry | None = None) -> Judged | None:
    """
    Return a domain's classes beside its registry file; None where it has no events of its own.

    `corpora` is the folder that holds a folder of stored payloads for each domain.
    """
    path = versions_path(domain)
    if path is None:
        return None
    registry = registry or load_registry([domain])
    classes = classes_of(registry, domain.name)
    corpus = corpora / domain.name if corpora is not None else None
    return Judged(domain.name, registry, read_versions(path, domain.name), classes, corpus)


def classes_of(registry: Registry, domain: str) -> dict[Place, type[Event]]:
    """Return a domain's event classes by type and version."""
    return {
        Place(*place): event
        for place, event in registry.events.items()
        if registry.domain_of[event] == domain
    }


def told(findings: Sequence[Finding]) -> str:
    """Return findings for people, one a line."""
    return "\n".join(map(str, findings))
