"""
States of deciders to bytes and back, by what their types say; nothing else can come out of the bytes.

A state is a dataclass of plain values: numbers, text, times, enumerations, tuples, sets, mappings, other dataclasses,
messages of the language. A class of another kind says with `to_stored` and `from_stored` how it is stored, as
something that is; the annotation of what `to_stored` returns is its type.

Every type has a shape in words, down to the names of its fields, so that no type's bytes are read as another's.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from schemas.errors import BadDefinition

FORMAT = 1
"""Raise it when the bytes of any type change."""

Convert = Callable[[Any], Any]
TypeArguments = Mapping[Any, Any]


class Codec(NamedTuple):
    """How the values of one type are stored."""

    shape: str
    encode: Convert | None
    """To what JSON has; None: it is that already."""
    decode: Convert | None
    kind: type
    """The class that its values are of."""


class StateCodec:
    """How the states of one type are stored."""

    def __init__(self, state_type: Any) -> None:
        """
        Work out how states are stored.

        Raises:
            BadDefinition: A part of the state is of a type that cannot be stored.
        """
        self._codec = _Types().codec(state_type, {})
        self.shape = f"{FORMAT} {self._codec.shape}"

    def encode(self, state: Any) -> bytes:
        """
        Return a state's bytes.

        Raises:
            TypeError, ValueError: The state is not what its type says.
        """
        return json.dumps(_call(self._codec.encode, state), separators=(",", ":")).encode()

    def decode(self, data: bytes) -> Any:
        """Return the state that `encode` wrote."""
        return _call(self._codec.decode, json.loads(data))


def _call(convert: Convert | None, value: Any) -> Any:
    return value if convert is None else convert(value)


class _Types:
    """Codecs of types, each worked out once; a type may hold itself."""

    def __init__(self) -> None:
        self._under_way: dict[Any, list[Codec]] = {}

    def codec(self, hint: Any, arguments: TypeArguments) -> Codec:
        """Return how values of a type are stored; `arguments` are what type variables stand for."""
        while get_origin(hint) is Annotated or isinstance(hint, TypeVar) or hasattr(hint, "__supertype__"):
            if isinstance(hint, TypeVar):
                if hint not in arguments:
                    raise _unfit(hint)
                hint = arguments[hint]
            else:
                hint = getattr(hint, "__supertype__", None) or get_args(hint)[0]
        if hint in PLAIN:
            return PLAIN[hint]
        if hint is None:
            return PLAIN[NoneType]
        origin = get_origin(hint) or hint
        parts = [_substituted(part, arguments) for part in get_args(hint)]
        if origin is Literal:
            return _literal(get_args(hint))
        if origin in (Union, UnionType):
            return self._union(parts, arguments)
        if origin in (tuple, list, set, frozenset, dict, Mapping, AbstractSet) and parts:
            return self._collection(origin, parts, arguments)
        if isinstance(origin, type):
            return self._class(hint, origin, parts)
        raise _unfit(hint)

    # -- several values --------------------------------------------------------------------------------

    def _collection(self, origin: Any, parts: Sequence[Any], arguments: TypeArguments) -> Codec:
        if origin is tuple and not (len(parts) == 2 and parts[1] is Ellipsis):
            return self._fixed([self.codec(part, arguments) for part in parts], tuple, tuple, "tuple")
        if origin in (dict, Mapping):
            return self._mapping(*(self.codec(part, arguments) for part in parts))
        item = self.codec(parts[0], arguments)
        kind = frozenset if origin is AbstractSet else origin
        shape = f"{kind.__name__}[{item.shape}]"
        encode, decode = item.encode, item.decode
        return Codec(
            shape,
            list if encode is None else lambda values: [encode(value) for value in values],
            kind if decode is None else lambda stored: kind([decode(value) for value in stored]),
            kind,
        )

    @staticmethod
    def _mapping(key: Codec, value: Codec) -> Codec:
        """Pairs, since keys need not be text."""
        encode_key, encode_value = key.encode or _same, value.encode or _same
        decode_key, decode_value = key.decode or _same, value.decode or _same
        return Codec(
            f"map[{key.shape}: {value.shape}]",
            lambda values: [(encode_key(key), encode_value(value)) for key, value in values.items()],
            lambda stored: {decode_key(key): decode_value(value) for key, value in stored},
            Mapping,
        )

    @staticmethod
    def _fixed(items: Sequence[Codec], kind: type, make: Convert, name: str) -> Codec:
        encoders = [item.encode or _same for item in items]
        decoders = [item.decode or _same for item in items]

        def encode(values: Any) -> Any:
            return [encode(value) for encode, value in zip(encoders, values, strict=True)]

        def decode(stored: Any) -> Any:
            return make([decode(value) for decode, value in zip(decoders, stored, strict=True)])

        return Codec(f"{name}({', '.join(item.shape for item in items)})", encode, decode, kind)

    # -- one of several --------------------------------------------------------------------------------

    def _union(self, parts: Sequence[Any], arguments: TypeArguments) -> Codec:
        codecs = [self.codec(part, arguments) for part in parts if part not in (None, NoneType)]
        has_none = len(codecs) < len(parts)
        if len(codecs) == 1:
            return _optional(codecs[0])
        kinds = [codec.kind for codec in codecs]
        if len(set(kinds)) < len(kinds):
            raise BadDefinition(
                f"state with {' | '.join(map(str, parts))}", "cannot be told apart by their classes"
            )

        def encode(value: Any) -> Any:
            exact = [n for n, kind in enumerate(kinds) if type(value) is kind]
            number = next(iter(exact or [n for n, kind in enumerate(kinds) if isinstance(value, kind)]), None)
            if number is None:
                raise TypeError(f"{value!r} is none of {kinds}")
            return [number, _call(codecs[number].encode, value)]

        def decode(stored: Any) -> Any:
            number, value = stored
            return _call(codecs[number].decode, value)

        union = Codec(f"one of ({', '.join(codec.shape for codec in codecs)})", encode, decode, object)
        return _optional(union) if has_none else union

    # -- classes ---------------------------------------------------------------------------------------

    def _class(self, hint: Any, cls: type, parts: Sequence[Any]) -> Codec:
        place = (cls, tuple(map(str, parts)))
        if place in self._under_way:
            return _later(self._under_way[place], cls)
        done = self._under_way[place] = []
        arguments = dict(zip(getattr(cls, "__parameters__", ()), parts, strict=False))
        done.append(self._made(hint, cls, arguments))
        del self._under_way[place]
        return done[0]

    def _made(self, hint: Any, cls: type, arguments: TypeArguments) -> Codec:
        name = f"{cls.__module__}.{cls.__qualname__}"
        if issubclass(cls, Enum):
            members = ", ".join(f"{member.name}={member.value!r}" for member in cls)
            return Codec(f"{name}[{members}]", lambda member: member.name, cls.__getitem__, cls)
        if hasattr(cls, "to_stored") and hasattr(cls, "from_stored"):
            return self._by_its_word(cls, name, arguments)
        if issubclass(cls, BaseModel):
            schema = json.dumps(cls.model_json_schema(), sort_keys=True)
            return Codec(
                f"{name}{schema}", lambda model: model.model_dump_json(), cls.model_validate_json, cls
            )
        if is_dataclass(cls):
            return self._dataclass(cls, name, arguments)
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            hints = get_type_hints(cls, include_extras=True)
            items = [self.codec(hints[field], arguments) for field in cls._fields]
            labels = ", ".join(cls._fields)
            return self._fixed(items, cls, cls._make, f"{name}[{labels}]")  # type: ignore[attr-defined]  # named tuples have it
        raise _unfit(hint)

    def _by_its_word(self, cls: Any, name: str, arguments: TypeArguments) -> Codec:
        returned = get_type_hints(cls.to_stored, include_extras=True).get("return", Any)
        stored = self.codec(_substituted(returned, arguments), arguments)
        return Codec(
            f"{name}<{stored.shape}>",
            lambda value: _call(stored.encode, value.to_stored()),
            lambda data: cls.from_stored(_call(stored.decode, data)),
            cls,
        )

    def _dataclass(self, cls: Any, name: str, arguments: TypeArguments) -> Codec:
        hints = get_type_hints(cls, include_extras=True)
        own: Sequence[Field[Any]] = fields(cls)
        if any(not field.init for field in own):
            raise BadDefinition(f"state with {name}", "has a field that cannot be given to it")
        names = [field.name for field in own]
        codecs = [self.codec(hints[name], arguments) for name in names]
        encoders = [(name, codec.encode or _same) for name, codec in zip(names, codecs, strict=True)]
        decoders = [(name, codec.decode or _same) for name, codec in zip(names, codecs, strict=True)]
        positional = not any(field.kw_only is True for field in own if field.kw_only is not MISSING)

        def encode(value: Any) -> Any:
            if type(value) is not cls:
                raise TypeError(f"{value!r} is no {name}")
            return [encode(getattr(value, field)) for field, encode in encoders]

        def decode(stored: Any) -> Any:
            pairs = zip(decoders, stored, strict=True)
            if positional:
                return cls(*[decode(value) for (_, decode), value in pairs])
            return cls(**{field: decode(value) for (field, decode), value in pairs})

        parts = ", ".join(f"{field}: {codec.shape}" for field, codec in zip(names, codecs, strict=True))
        return Codec(f"{name}({parts})", encode, decode, cls)


def _same(value: Any) -> Any:
    return value


def _optional(codec: Codec) -> Codec:
    """Return the codec with None added; no other value is stored as null."""
    encode, decode = codec.encode, codec.decode
    return Codec(
        f"{codec.shape}?",
        None if encode is None else lambda value: None if value is None else encode(value),
        None if decode is None else lambda stored: None if stored is None else decode(stored),
        codec.kind,
    )


def _later(done: list[Codec], cls: type) -> Codec:
    """Return the codec of a type that holds itself, which is there when it is used."""
    return Codec(
        f"again {cls.__qualname__}",
        lambda value: _call(done[0].encode, value),
        lambda stored: _call(done[0].decode, stored),
        cls,
    )


def _literal(values: Sequence[Any]) -> Codec:
    kinds = {type(value) for value in values}
    if not kinds <= {str, int, bool, NoneType}:
        raise _unfit(Literal[tuple(values)])
    return Codec(f"literal{values!r}", None, None, kinds.pop() if len(kinds) == 1 else object)


def _substituted(hint: Any, arguments: TypeArguments) -> Any:
    """Return a type with its type variables replaced."""
    if isinstance(hint, TypeVar):
        return arguments.get(hint, hint)
    variables = getattr(hint, "__parameters__", ()) if get_origin(hint) else ()
    return hint[tuple(arguments.get(one, one) for one in variables)] if variables else hint


def _unfit(hint: Any) -> BadDefinition:
    return BadDefinition(
        f"state with {hint}",
        "cannot be saved; give it a type that can, or set `saves_states = False` on its decider",
    )


def _instant(value: datetime) -> str:
    if isinstance(value.tzinfo, ZoneInfo):
        raise ValueError(f"{value} is in a time zone; states hold UTC")  # its value is wrong, not its type
    return value.isoformat()


PLAIN: Mapping[Any, Codec] = {
    NoneType: Codec("none", None, None, NoneType),
    bool: Codec("bool", None, None, bool),
    int: Codec("int", None, None, int),
    float: Codec("float", None, None, float),
    str: Codec("str", None, None, str),
    bytes: Codec("bytes", lambda value: b64encode(value).decode(), b64decode, bytes),
    Decimal: Codec("decimal", str, Decimal, Decimal),
    UUID: Codec("uuid", str, UUID, UUID),
    datetime: Codec("datetime", _instant, datetime.fromisoformat, datetime),
    date: Codec("date", date.isoformat, date.fromisoformat, date),
    time: Codec("time", time.isoformat, time.fromisoformat, time),
    timedelta: Codec(
        "timedelta",
        lambda value: (value.days, value.seconds, value.microseconds),
        lambda stored: timedelta(*stored),
        timedelta,
    ),
}
"""Text and numbers are stored as JSON has them; Python's own reader takes numbers of any size."""
