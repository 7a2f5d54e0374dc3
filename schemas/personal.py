"""
Which fields of a message are personal, whose they are, and where their values stand in its JSON.

The bytes around a personal value are never touched: a value is cut out and another put in its place, so what is
encrypted and decrypted again is byte for byte what it was. Everything that can be wrong with the marks is found when
the registry is put together.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from json.decoder import scanstring  # type: ignore[attr-defined]  # public by its documented use, if not by its stub
from typing import Any, NamedTuple, get_args, get_origin

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from schemas.errors import BadDefinition
from schemas.messages import Personal

_SPACE = " \t\n\r"
_value_at = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # parses one value, and says where it ends


class Mark(NamedTuple):
    """What is known of one personal field."""

    subject: str
    of_message: bool
    """Whether the subject is a field of the whole message, not of the model that the field is in."""
    erased: bytes
    """As JSON."""


class PersonalFields(NamedTuple):
    """The personal fields of a model, and the models in it that have some."""

    own: Mapping[str, Mark]
    inner: Mapping[str, "PersonalFields"]


class Found(NamedTuple):
    """A personal value in a message's JSON; null is none."""

    path: str
    """Names and places on the way to it: `lines/0/name`."""
    subject: str
    """The person's id."""
    start: int
    end: int
    value: Any
    erased: bytes


@lru_cache(maxsize=4_096)
def personal_fields(message: type[BaseModel]) -> PersonalFields | None:
    """
    Return a message's personal fields, at any depth; None where it has none.

    Raises:
        BadDefinition: A mark names no required text field, its erased value is none of the field's, or the field
            stands where it cannot be found again: under an alias, in a mapping, in one of several models.
    """
    is_recursive: list[bool] = []
    found = _fields_of(message, message, (), is_recursive)
    if found is not None and is_recursive:
        raise BadDefinition(message.__name__, "has personal fields, so no model in it may hold itself")
    return found


def is_personal(field: FieldInfo) -> bool:
    """Say whether a field is marked, alone or inside of what it holds."""
    return _mark_of(field) is not None


def find_personal(fields: PersonalFields, text: str) -> Sequence[Found]:
    """
    Return the personal values in a message's JSON, in order.

    Raises:
        ValueError: It is not the JSON of such a message.
    """
    try:
        return list(_find(fields, text, _begin(text, 0, "{"), "", {})[0])
    except (IndexError, StopIteration, KeyError) as error:
        raise ValueError("not the JSON of a message") from error


def replaced(text: str, changes: Sequence[tuple[Found, str]]) -> bytes:
    """Return a message's JSON with other values in place of personal ones; the rest is as it was."""
    parts: list[str] = []
    at = 0
    for found, value in changes:
        parts += text[at : found.start], value
        at = found.end
    parts.append(text[at:])
    return "".join(parts).encode()


# -- the marks of a model ------------------------------------------------------------------------------


def _fields_of(
    model: type[BaseModel],
    message: type[BaseModel],
    above: tuple[type[BaseModel], ...],
    is_recursive: list[bool],
) -> PersonalFields | None:
    if model in above:
        is_recursive.append(True)
        return None
    own: dict[str, Mark] = {}
    inner: dict[str, PersonalFields] = {}
    for name, field in model.model_fields.items():
        mark = _mark_of(field)
        if mark is not None:
            own[name] = _checked(mark, name, field, model, message)
            continue
        parts = {
            part: found
            for part in models_in(field.annotation)
            if (found := _fields_of(part, message, (*above, model), is_recursive)) is not None
        }
        if parts:
            if len(parts) > 1 or len(set(models_in(field.annotation))) > 1:
                raise BadDefinition(
                    f"{model.__name__}.{name}",
                    "may be of several models, and one of them has personal fields",
                )
            if field.alias is not None or not _is_plain(field.annotation):
                raise BadDefinition(
                    f"{model.__name__}.{name}", "holds personal fields in a mapping or under an alias"
                )
            (inner[name],) = parts.values()
    return PersonalFields(own, inner) if own or inner else None


def _checked(
    mark: Personal, name: str, field: FieldInfo, model: type[BaseModel], message: type[BaseModel]
) -> Mark:
    place = f"{model.__name__}.{name}"
    of_message = mark.subject not in model.model_fields
    holder = message if of_message else model
    subject = holder.model_fields.get(mark.subject)
    if subject is None:
        raise BadDefinition(place, f"is personal of `{mark.subject}`, which is no field of {holder.__name__}")
    if subject.annotation is not str or not subject.is_required() or is_personal(subject):
        raise BadDefinition(
            place, f"is personal of `{mark.subject}`, which must be a required text that is not personal"
        )
    if field.alias is not None or subject.alias is not None:
        raise BadDefinition(place, "neither it nor its subject may have an alias")
    erased = orjson.dumps(mark.erased)
    try:
        TypeAdapter(field.rebuild_annotation()).validate_json(erased)
    except ValidationError as error:
        raise BadDefinition(place, f"cannot read as {mark.erased!r} once it is erased: {error}") from error
    return Mark(mark.subject, of_message, erased)


def _mark_of(field: FieldInfo) -> Personal | None:
    marks = (*field.metadata, *_metadata(field.annotation))
    return next((mark for mark in marks if isinstance(mark, Personal)), None)


def _metadata(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for argument in get_args(annotation):
        yield from _metadata(argument)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Return the models that an annotation names, alone or inside of others."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def _is_plain(annotation: Any) -> bool:
    """Say whether what an annotation allows stands in JSON as itself or in lists of it."""
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return False
    return all(_is_plain(argument) for argument in get_args(annotation))


# -- values in JSON ------------------------------------------------------------------------------------


def _find(
    fields: PersonalFields, text: str, at: int, path: str, above: Mapping[str, str]
) -> tuple[Iterator[Found], int]:
    """Return the personal values of the object that opens before `at`, and where it ends."""
    spans: dict[str, tuple[int, int, Any]] = {}
    inner: list[tuple[str, int]] = []
    at = _past_space(text, at)
    while text[at] != "}":
        name, at = scanstring(text, at + 1)
        at = _past_space(text, _begin(text, at, ":"))
        value, end = _value_at(text, at)
        if name in fields.inner and value is not None:
            inner.append((name, at))
        spans[name] = at, end, value
        at = _past_space(text, end)
        if text[at] == ",":
            at = _past_space(text, at + 1)
    message = above or {name: value for name, (_, _, value) in spans.items() if isinstance(value, str)}

    def found() -> Iterator[Found]:
        places = [(spans[name][0], name, True) for name in fields.own if name in spans]
        places += [(start, name, False) for name, start in inner]
        for start, name, is_own in sorted(places):
            if not is_own:
                yield from _find_inner(fields.inner[name], text, start, f"{path}{name}/", message)
                continue
            mark = fields.own[name]
            _, end, value = spans[name]
            if value is not None:
                subject = message[mark.subject] if mark.of_message else spans[mark.subject][2]
                yield Found(f"{path}{name}", subject, start, end, value, mark.erased)

    return found(), at + 1


def _find_inner(
    fields: PersonalFields, text: str, at: int, path: str, message: Mapping[str, str]
) -> Iterator[Found]:
    """Return the personal values of an object, or of the objects in a list."""
    if text[at] == "{":
        yield from _find(fields, text, at + 1, path, message)[0]
    elif text[at] == "[":
        at, number = _past_space(text, at + 1), 0
        while text[at] != "]":
            yield from _find_inner(fields, text, at, f"{path}{number}/", message)
            _, end = _value_at(text, at)
            number, at = number + 1, _past_space(text, end)
            if text[at] == ",":
                at = _past_space(text, at + 1)


def _begin(text: str, at: int, sign: str) -> int:
    at = _past_space(text, at)
    if text[at] != sign:
        raise ValueError(f"{sign} expected at {at}")
    return at + 1


def _past_space(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
