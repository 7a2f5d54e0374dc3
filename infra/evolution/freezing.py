"""
Writes what is new into a domain's registry file and corpus. What is there already never changes but for the wider.
"""

from dataclasses import dataclass, field
from pathlib import Path

from infra.evolution.corpus import Payloads, made_payloads, read_payloads, reading_of
from infra.evolution.judging import Finding, Judged
from infra.evolution.versions_file import RETIRED, Entry, Place
from schemas.errors import BadDefinition, NotFound, UnknownEvent


@dataclass
class Frozen:
    """What a freeze has done, or why it did nothing."""

    refused: list[Finding] = field(default_factory=list)
    """What stands against it; then nothing was written."""
    added: list[Place] = field(default_factory=list)
    widened: list[Place] = field(default_factory=list)
    read_anew: list[Place] = field(default_factory=list)
    """Versions that are read otherwise than before: look at the change of their `.today.jsonl`."""
    files: list[Path] = field(default_factory=list)


def freeze(judged: Judged, *, accept_readings: bool = False) -> Frozen:
    """
    Take up what is new, all of it or nothing.

    A version that is new, or read as something new, or as what has been widened, may be read otherwise than before;
    any other is refused unless its new reading is accepted.

    Raises:
        BadDefinition: A payload cannot be made for a new version, as its class wants more than its fields say.
    """
    done = Frozen(refused=list(judged.breaks()))
    if done.refused:
        return done
    entries = {place: judged.frozen(place) for place in sorted(judged.classes)}
    done.added = [place for place in entries if place not in judged.file.entries]
    done.widened = [
        place
        for place, entry in entries.items()
        if place not in done.added and entry.shape != judged.file.entries[place].shape
    ]
    moved = {
        place
        for place, entry in entries.items()
        if place in done.added or judged.file.entries[place].today != entry.today
    }
    payloads = []
    for place, entry in entries.items():
        if judged.corpus is None:
            break
        own = _payloads(judged, place, entry, is_grown=place in done.added or place in done.widened)
        payloads.append(own)
        may_change = accept_readings or place in moved or _reads_as_any(entry, done.widened)
        _read(judged, own, done, may_change=may_change)
    if not done.refused:
        _write(judged, entries, payloads, done)
    return done


def retire(judged: Judged, place: Place, reason: str) -> Path:
    """
    Note that no log holds a version any more, whose class may then go.

    Raises:
        NotFound: The registry file does not have it.
    """
    entry = judged.file.entries.get(place)
    if entry is None:
        raise NotFound(f"{place} in {judged.file.path.name}")
    judged.file.entries[place] = Entry(RETIRED, entry.shape, reason=reason)
    judged.file.path.write_text(judged.file.encode(), encoding="utf-8")
    return judged.file.path


def _payloads(judged: Judged, place: Place, entry: Entry, *, is_grown: bool) -> Payloads:
    """Return a version's corpus, with payloads added for what is new in it."""
    assert judged.corpus is not None
    own = read_payloads(judged.corpus, place)
    if own.stored and not is_grown:
        return own
    try:
        made = made_payloads(judged.classes[place], entry.shape)
    except ValueError as error:
        if own.stored:
            return own
        raise BadDefinition(
            str(place), f"no payload could be made of its fields ({error}): write one by hand to {own.path}"
        ) from error
    own.stored += [one for one in made if one not in own.stored]
    return own


def _read(judged: Judged, own: Payloads, done: Frozen, *, may_change: bool) -> None:
    """Have the corpus say what each payload is read as today."""
    readings = []
    for number, stored in enumerate(own.stored, 1):
        try:
            readings.append(reading_of(judged.registry, own.place, stored))
        except UnknownEvent as error:
            done.refused.append(
                _refusal(judged, own, f"line {number} of {own.path.name} cannot be read: {error}")
            )
    if done.refused:
        return
    changed = [
        number for number, (was, now) in enumerate(zip(own.today, readings, strict=False), 1) if was != now
    ]
    if changed and not may_change:
        problem = f"line {changed[0]} of {own.path.name} is read otherwise than when it was frozen"
        done.refused.append(_refusal(judged, own, problem))
    elif changed:
        done.read_anew.append(own.place)
    own.today = readings


def _refusal(judged: Judged, own: Payloads, problem: str) -> Finding:
    remedy = "mend the class or the upcast; where the new reading is meant, give --accept-readings"
    return Finding(judged.domain, own.place.type, own.place.version, "", problem, remedy)


def _reads_as_any(entry: Entry, places: list[Place]) -> bool:
    return any(str(place) in entry.today for place in places)


def _write(judged: Judged, entries: dict[Place, Entry], payloads: list[Payloads], done: Frozen) -> None:
    for own in payloads:
        done.files += own.write()
    before_text = judged.file.path.read_text(encoding="utf-8") if judged.file.path.exists() else ""
    judged.file.entries |= entries
    if (text := judged.file.encode()) != before_text:
        judged.file.path.write_text(text, encoding="utf-8")
        done.files.append(judged.file.path)
