"""
Makes payloads of an event from its shape: the same ones every time, from a seed.

They are what the class takes as far as its shape tells; where validators of its own want more, a payload is written by
hand instead.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

from schemas.messages import INTEGER_MAX
from schemas.shapes import Shape

INTEGER_SPREAD = 1_000
ITEMS_MAX = 2
TEXT_CHARACTERS = (3, 12)
REPEATS_MAX = 6
DEPTH_MAX = 5
"""How often a model that holds itself does so."""
_START = datetime(2026, 1, 1, tzinfo=UTC)
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


class PatternTooRich(ValueError):
    """A pattern asks for what cannot be made up piece by piece: what stands before, behind, or stood there already."""


def full_payload(shape: Shape, seed: str) -> dict[str, Any]:
    """Return a payload that has all fields, each with a value."""
    return _Maker(Random(seed), is_full=True).object(shape)


def minimal_payload(shape: Shape, seed: str) -> dict[str, Any]:
    """Return a payload that has only what it must have: no optional fields, null where that may be, empty lists."""
    return _Maker(Random(seed), is_full=False).object(shape)


class _Maker:
    def __init__(self, random: Random, *, is_full: bool) -> None:
        self._random, self._is_full = random, is_full
        self._depth = 0

    def object(self, shape: Shape) -> dict[str, Any]:
        return {
            name: self.value(field)
            for name, field in shape["fields"].items()
            if self._is_full or field.get("required", True)
        }

    def value(self, shape: Shape) -> Any:
        if shape.get("nullable") and (not self._is_full or self._depth > DEPTH_MAX):
            return None
        self._depth += 1
        try:
            if "anyOf" in shape:
                return self.value(shape["anyOf"][0])
            if "enum" in shape:
                return self._random.choice(shape["enum"])
            return self._makers.get(shape.get("type", ""), _Maker._text)(self, shape)
        finally:
            self._depth -= 1

    def _integer(self, shape: Shape) -> int:
        high = shape.get("maximum", shape.get("exclusiveMaximum", INTEGER_MAX) - 1)
        low = shape.get("minimum", shape.get("exclusiveMinimum", min(0, high) - 1) + 1)
        step = shape.get("multipleOf", 1)
        start = max(low, min(int(self._is_full), high))
        picked = self._random.randint(start, min(high, start + INTEGER_SPREAD)) if self._is_full else start
        return int(-(-picked // step) * step)

    def _number(self, shape: Shape) -> float:
        return float(self._integer(shape))

    def _boolean(self, shape: Shape) -> bool:
        return self._is_full

    def _array(self, shape: Shape) -> list[Any]:
        if "prefixItems" in shape:
            return [self.value(one) for one in shape["prefixItems"]]
        least = shape.get("minItems", 0)
        wanted = min(max(least, ITEMS_MAX), shape.get("maxItems", ITEMS_MAX)) if self._is_full else least
        made: list[Any] = []
        for _ in range(wanted):
            item = self.value(shape.get("items", {}))
            if not shape.get("uniqueItems") or item not in made:
                made.append(item)
        return made

    def _mapping(self, shape: Shape) -> dict[str, Any]:
        if "fields" in shape:
            return self.object(shape)
        return {self._word(): self.value(shape["values"])} if self._is_full and "values" in shape else {}

    def _text(self, shape: Shape) -> str:
        if "pattern" in shape:
            return text_of_pattern(shape["pattern"], self._random)
        if make := _FORMATS.get(shape.get("format", "")):
            return make(self._random)
        least: int = shape.get("minLength", 0)
        most: int = shape.get("maxLength", TEXT_CHARACTERS[1])
        if not self._is_full:
            return self._word()[:1] * least
        return self._word()[:most].ljust(least, "x")

    def _word(self) -> str:
        return "".join(self._random.choices(string.ascii_lowercase, k=self._random.randint(*TEXT_CHARACTERS)))

    _makers: Mapping[str, Callable[["_Maker", Shape], Any]] = {
        "integer": _integer,
        "number": _number,
        "boolean": _boolean,
        "array": _array,
        "object": _mapping,
        "string": _text,
        "null": lambda self, shape: None,
    }


def _instant(random: Random) -> str:
    return (_START + timedelta(seconds=random.randrange(31_536_000))).isoformat().replace("+00:00", "Z")


def _day(random: Random) -> str:
    return (date(2026, 1, 1) + timedelta(days=random.randrange(365))).isoformat()


def _uuid(random: Random) -> str:
    digits = f"{random.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], f"7{digits[13:16]}", f"8{digits[17:20]}", digits[20:]))


_FORMATS: Mapping[str, Callable[[Random], str]] = {"date-time": _instant, "date": _day, "uuid": _uuid}


def text_of_pattern(pattern: str, random: Random) -> str:
    """
    Return a text that a regular expression matches.

    Raises:
        PatternTooRich: It looks around or back; whoever freezes the version is told to write a payload by hand.
    """
    parsed: Any = re._parser.parse(pattern)  # type: ignore[attr-defined]  # what `re` itself compiles from; it has no other name
    return "".join(_piece(str(kind), argument, random) for kind, argument in parsed)


def _piece(kind: str, argument: Any, random: Random) -> str:
    if kind == "LITERAL":
        return chr(int(argument))
    if kind == "AT":
        return ""
    if kind == "IN":
        return str(random.choice(_characters(argument)))
    if kind == "ANY":
        return random.choice(string.ascii_lowercase)
    if kind in _REPEATS:
        least, most, part = argument
        times = random.randint(max(least, min(1, most)), max(min(int(most), REPEATS_MAX), least))
        return "".join(_all(part, random) for _ in range(times))
    if kind == "SUBPATTERN":
        return _all(argument[3], random)
    if kind == "BRANCH":
        return _all(random.choice(argument[1]), random)
    raise PatternTooRich(f"its pattern has {kind}, of which no text is made")


def _all(parts: Sequence[tuple[Any, Any]], random: Random) -> str:
    return "".join(_piece(str(kind), argument, random) for kind, argument in parts)


def _characters(ranges: Sequence[tuple[Any, Any]]) -> list[str]:
    """Return the printable characters of a set, letters and digits where it has any."""
    names = [str(kind) for kind, _ in ranges]
    found: list[str] = []
    for kind, argument in ranges:
        if str(kind) == "LITERAL":
            found.append(chr(argument))
        elif str(kind) == "RANGE":
            found += map(chr, range(argument[0], argument[1] + 1))
        elif str(kind) == "CATEGORY":
            found += string.digits if str(argument) == "CATEGORY_DIGIT" else string.ascii_lowercase
    if "NEGATE" in names:
        found = [one for one in string.ascii_letters + string.digits if one not in found]
    return [one for one in found if one.isascii() and one.isalnum()] or found
