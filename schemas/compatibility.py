"""
Whether one shape of an event can be read by the class of another.

Messages refuse unknown fields and the encoder writes every field, so a class that got a field more still reads what was
stored, but bytes that it writes are refused by a program that has the class without it: that is `backward` and not
`forward`. Whatever cannot be told for certain counts as a gap.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from schemas.shapes import Shape

MISSING = object()
KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
"""What JSON's types are in Python."""


class Verdict(StrEnum):
    """Who reads what between two shapes of one version of an event: the one that was frozen, and today's."""

    FULL = "full"
    """Each reads what the other writes: nothing changed."""
    BACKWARD = "backward"
    """Today's class reads all that was stored; a program with the frozen class refuses what is written today."""
    FORWARD = "forward"
    """A program with the frozen class reads what is written today; today's class does not read all that was stored."""
    NONE = "none"
    """Neither reads the other."""


class Gap(NamedTuple):
    """Something that is stored and cannot be read."""

    field: str
    """Its path: `lines[].quantity`; empty for the event itself."""
    problem: str


def verdict_of(frozen: Shape, today: Shape) -> Verdict:
    """Say who reads what between the shape that was frozen and today's."""
    backward, forward = not gaps(frozen, today), not gaps(as_written(today), frozen)
    if backward:
        return Verdict.FULL if forward else Verdict.BACKWARD
    return Verdict.FORWARD if forward else Verdict.NONE


def gaps(stored: Shape, reader: Shape) -> Sequence[Gap]:
    """Return what of a stored shape a reader's refuses or would take for something else."""
    return list(_gaps(stored, reader, ""))


def as_written(shape: Shape) -> Shape:
    """Return what a class with this shape writes: the encoder leaves no field out."""
    written = dict(shape)
    if "fields" in shape:
        written["fields"] = {
            name: as_written(field) | {"required": True} for name, field in shape["fields"].items()
        }
    for part in ("items", "values"):
        if part in shape:
            written[part] = as_written(shape[part])
    if "anyOf" in shape:
        written["anyOf"] = [as_written(one) for one in shape["anyOf"]]
    return written


def _gaps(stored: Shape, reader: Shape, at: str) -> Iterator[Gap]:
    if stored.get("personal", False) != reader.get("personal", False):
        now = "is" if reader.get("personal") else "is no longer"
        yield Gap(at, f"{now} marked personal, so what is stored is of the other kind")
    if stored.get("nullable") and not reader.get("nullable"):
        yield Gap(at, "may be null in stored events, and may not be null any more")
    if stored.get("same_as") != reader.get("same_as"):
        yield Gap(at, "holds itself in one of the two only")
    elif "anyOf" in stored or "anyOf" in reader:
        yield from _alternatives(stored, reader, at)
    elif "enum" in stored or "enum" in reader:
        yield from _values(stored, reader, at)
    else:
        yield from _kind(stored, reader, at)


def _alternatives(stored: Shape, reader: Shape, at: str) -> Iterator[Gap]:
    ours, theirs = stored.get("anyOf", [_bare(stored)]), reader.get("anyOf", [_bare(reader)])
    for one in ours:
        if all(any(_gaps(one, other, at)) for other in theirs):
            yield Gap(at, f"may be {_told(one)} in stored events, and no alternative takes that any more")


def _values(stored: Shape, reader: Shape, at: str) -> Iterator[Gap]:
    if "enum" not in stored:
        yield Gap(
            at, f"may be any {_told(stored)} in stored events, and may only be one of {reader['enum']} now"
        )
        return
    refused = [value for value in stored["enum"] if not _admits(value, reader)]
    if refused:
        yield Gap(at, f"may be {_listed(refused)} in stored events, and may not any more")


def _kind(stored: Shape, reader: Shape, at: str) -> Iterator[Gap]:
    was, now = stored.get("type"), reader.get("type")
    if now is not None and was != now and (was, now) != ("integer", "number"):
        yield Gap(at, f"is {_told(stored)} in stored events, and must be {_told(reader)} now")
        return
    for bound in ("minimum", "minLength", "minItems", "maximum", "maxLength", "maxItems"):
        if (limit := reader.get(bound)) is not None and not _holds(stored, bound, limit):
            yield Gap(at, f"{bound} is {limit} now, and was {_limit(stored, bound)} when events were stored")
    for bound in ("exclusiveMinimum", "exclusiveMaximum", "pattern", "format", "multipleOf", "uniqueItems"):
        if bound in reader and reader[bound] != stored.get(bound):
            yield Gap(
                at, f"{bound} is {reader[bound]} now, and was {_limit(stored, bound)} when events were stored"
            )
    if "prefixItems" in stored or "prefixItems" in reader:
        yield from _places(stored, reader, at)
    for part, mark in (("items", "[]"), ("values", "{}")):
        if part in reader:
            yield from _gaps(stored.get(part, {}), reader[part], at + mark)
    if "fields" in reader:
        yield from _fields(stored.get("fields", {}), reader["fields"], at)
    if stored.get("open") and not reader.get("open"):
        yield Gap(at, "could have fields that its class did not name, and they are refused now")


def _places(stored: Shape, reader: Shape, at: str) -> Iterator[Gap]:
    were, are = stored.get("prefixItems", []), reader.get("prefixItems", [])
    if len(were) != len(are):
        yield Gap(at, f"has {len(were)} places in stored events, and {len(are)} now")
    for number, (one, other) in enumerate(zip(were, are, strict=False)):
        yield from _gaps(one, other, f"{at}[{number}]")


def _fields(stored: Mapping[str, Shape], reader: Mapping[str, Shape], at: str) -> Iterator[Gap]:
    for name, field in stored.items():
        path = f"{at}.{name}" if at else name
        if name not in reader:
            yield Gap(path, "is gone from the class, and stored events carry it")
            continue
        yield from _gaps(field, reader[name], path)
        if field["required"]:
            continue
        if reader[name]["required"]:
            yield Gap(path, "is required now, and stored events may lack it")
        elif (was := field.get("default", MISSING)) != (now := reader[name].get("default", MISSING)):
            said = f"{_default(was)} when events were stored, and is {_default(now)} now"
            yield Gap(path, f"its default was {said}: events without it would come to mean something else")
    for name in reader.keys() - stored.keys():
        if reader[name]["required"]:
            yield Gap(f"{at}.{name}" if at else name, "is new and has no default, and stored events lack it")


def _holds(stored: Shape, bound: str, limit: Any) -> bool:
    """Say whether what is stored is within a reader's bound anyhow."""
    own = stored.get(bound)
    exclusive = stored.get(f"exclusive{bound.capitalize()}")
    if bound.startswith("min"):
        return (
            (own is not None and own >= limit) or (exclusive is not None and exclusive >= limit) or
            (own is None and bound in ("minLength", "minItems") and limit == 0)
        )  # fmt: skip
    return (own is not None and own <= limit) or (exclusive is not None and exclusive <= limit)


def _admits(value: Any, reader: Shape) -> bool:
    """Say whether a reader's shape is certain to take a value of an enumeration."""
    if value is None and reader.get("nullable"):
        return True
    if "enum" in reader:
        return any(value == one and type(value) is type(one) for one in reader["enum"])
    plain = {"type", "required", "default", "nullable", "personal"}
    if type(value) not in KINDS.get(reader.get("type", ""), ()):
        return False
    if isinstance(value, str) and reader.keys() <= plain | {"minLength", "maxLength"}:
        return bool(reader.get("minLength", 0) <= len(value) <= reader.get("maxLength", len(value)))
    if isinstance(value, int | float) and reader.keys() <= plain | {"minimum", "maximum"}:
        return bool(reader.get("minimum", value) <= value <= reader.get("maximum", value))
    return reader.keys() <= plain


def _bare(shape: Shape) -> Shape:
    return {
        name: value
        for name, value in shape.items()
        if name not in ("required", "default", "nullable", "personal")
    }


def _told(shape: Shape) -> str:
    return str(
        shape.get("type")
        or shape.get("same_as")
        or (_listed(shape["enum"]) if "enum" in shape else "any value")
    )


def _listed(values: Sequence[Any]) -> str:
    return " or ".join(map(repr, values))


def _limit(shape: Shape, bound: str) -> str:
    return str(shape.get(bound, "not bounded"))


def _default(value: Any) -> str:
    return "none" if value is MISSING else repr(value)
