"""
Stored payloads of every version that ever shipped, and what each is read as today.

`OrderPlaced.v1.jsonl` has stored bytes, one payload a line; a line that is there never changes, and more are added by
hand at will. `OrderPlaced.v1.today.jsonl` has, line for line, what today's code makes of it: when a version or an
upcast is added, its change is what a reviewer reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from infra.evolution.payloads import full_payload, minimal_payload
from infra.evolution.versions_file import Place
from schemas.errors import UnknownEvent
from schemas.messages import Event
from schemas.registry import Registry
from schemas.shapes import Shape


@dataclass
class Payloads:
    """The corpus of one version of an event."""

    place: Place
    path: Path
    stored: list[bytes] = field(default_factory=list)
    today: list[bytes] = field(default_factory=list)

    @property
    def today_path(self) -> Path:
        """Return where the readings are."""
        return self.path.with_suffix(".today.jsonl")

    def write(self) -> list[Path]:
        """Write what is not on disk yet, and return the files that were written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = []
        for path, lines in ((self.path, self.stored), (self.today_path, self.today)):
            if lines != _lines(path):
                path.write_bytes(b"".join(line + b"\n" for line in lines))
                written.append(path)
        return written


def read_payloads(folder: Path, place: Place) -> Payloads:
    """Return the corpus of a version; it is empty where there is none yet."""
    payloads = Payloads(place, folder / f"{place.type}.v{place.version}.jsonl")
    payloads.stored = _lines(payloads.path)
    payloads.today = _lines(payloads.today_path)
    return payloads


def reading_of(registry: Registry, place: Place, stored: bytes) -> bytes:
    """
    Return what a stored payload is read as today, as a line of the corpus.

    Raises:
        UnknownEvent: It cannot be read.
    """
    return encode_reading(registry.decode(place.type, place.version, stored))


def encode_reading(events: Sequence[Event]) -> bytes:
    """Return events as a line of the corpus: each with its type, version and data."""
    return orjson.dumps(
        [
            {"type": event.type, "version": event.schema_version, "data": orjson.Fragment(event.encode())}
            for event in events
        ]
    )


def made_payloads(event: type[Event], shape: Shape) -> list[bytes]:
    """
    Return payloads for a version: one with all fields, as its class writes it, and one with only what it must have.

    Raises:
        ValueError: The class refuses what its shape allows: a validator of its own wants more.
    """
    seed = f"{event.type} {event.schema_version}"
    full = event.model_validate_json(orjson.dumps(full_payload(shape, seed))).encode()
    minimal = orjson.dumps(minimal_payload(shape, seed))
    event.model_validate_json(minimal)
    return list(dict.fromkeys((full, minimal)))


def faults(registry: Registry, payloads: Payloads, shape: Shape) -> list[str]:
    """Return what is wrong with a version's corpus, in words: nothing when all of it is read as it should be."""
    place = payloads.place
    if not payloads.stored:
        return [f"has no stored payload in {payloads.path.name}"]
    found = []
    for number, stored in enumerate(payloads.stored, 1):
        try:
            reading = reading_of(registry, place, stored)
        except UnknownEvent as error:
            found.append(f"line {number} of {payloads.path.name} cannot be read: {error}")
            continue
        expected = payloads.today[number - 1] if number <= len(payloads.today) else b"nothing"
        if reading != expected:
            found.append(
                f"line {number} of {payloads.path.name} is read as {reading.decode()}, "
                f"and {payloads.today_path.name} says {expected.decode()}"
            )
    if len(payloads.today) > len(payloads.stored):
        found.append(f"{payloads.today_path.name} has more lines than {payloads.path.name}")
    carried = {name for line in payloads.stored for name in orjson.loads(line)}
    if lacking := [name for name in shape["fields"] if name not in carried]:
        found.append(f"no line of {payloads.path.name} has {', '.join(lacking)}")
    return found


def _lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines() if line.strip()] if path.exists() else []
