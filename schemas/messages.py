"""
What messages share: frozen models that refuse unknown fields, and the bounded types they are made of.

A command's ids stand in its route and are fields of the class; its body is the other fields. A bound that is
not stated here or on the field is a bound that an attacker chooses.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property, lru_cache
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    StringConstraints,
)
from pydantic.functional_serializers import PlainSerializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

INTEGER_MAX = 2**53
TEXT_CHARACTERS_MAX = 1_000

NO_DAY = "must be a date, such as 2026-01-31"
_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Personal:
    """
    Marks a field that holds personal data: `contact: Annotated[Text | None, Personal("customer_id")]`.

    Its values are encrypted with a key of the person they are about, and cannot be read any more once that
    person is erased; see personal.py.
    """

    subject: str
    """The field that holds the person's id: of the same model, else of the message that it is part of."""
    erased: Any = None
    """What the field reads as once the person is erased; it must be one of the field's values."""


ERASED = "[erased]"
"""What erased text reads as, where a domain wants it told from text that was never given."""


def _clean(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("control characters are not allowed")
    return text


def _instant(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(
        r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", value
    ):
        raise ValueError("must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z")
    if not isinstance(value, str | datetime):
        raise ValueError("must be an RFC 3339 time")
    return value


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("must have an offset")
    return value.astimezone(UTC)


def _day(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_DAY, value):
        raise ValueError(NO_DAY)
    if isinstance(value, datetime) or not isinstance(value, str | date):
        raise ValueError("must be a date")
    return value


@lru_cache(maxsize=1_024)  # all commands of a batch are decided at one time
def format_instant(value: datetime) -> str:
    """Return a time as RFC 3339 in UTC with `Z`: seconds, and microseconds where there are any."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


Id = Annotated[str, Strict(), StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""An id that a client chose: 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit."""

Text = Annotated[
    str, Strict(), StringConstraints(min_length=1, max_length=TEXT_CHARACTERS_MAX), AfterValidator(_clean)
]
"""Text for people: 1 to 1,000 characters, no control characters but tab and line breaks."""

Count = Annotated[int, Strict(), Field(ge=0, le=INTEGER_MAX)]
Quantity = Annotated[int, Strict(), Field(ge=1, le=INTEGER_MAX)]
Delta = Annotated[int, Strict(), Field(ge=-INTEGER_MAX, le=INTEGER_MAX)]
Amount = Annotated[int, Strict(), Field(ge=0, le=INTEGER_MAX)]
Flag = Annotated[bool, Strict()]

Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    AfterValidator(_utc),
    PlainSerializer(format_instant, return_type=str, when_used="json"),
]
"""A point in time: RFC 3339 with an offset, kept and written in UTC."""


class _DayForm:
    """What text a date is written as. In JSON it is checked without a call to Python: a replay has millions."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        day = handler(source)
        form = core_schema.custom_error_schema(
            core_schema.str_schema(pattern=_DAY, strict=True),
            "value_error",
            custom_error_context={"error": NO_DAY},
        )
        return core_schema.json_or_python_schema(
            core_schema.chain_schema([form, day]), core_schema.no_info_before_validator_function(_day, day)
        )

    @staticmethod
    def __get_pydantic_json_schema__(schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(core_schema.date_schema())


Day = Annotated[date, _DayForm]


class Message(BaseModel):
    """A value that goes between parts: frozen, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, revalidate_instances="never")


class Money(Message):
    """An amount in a currency's minor units."""

    amount: Amount
    currency: Annotated[str, Strict(), StringConstraints(pattern=r"^[A-Z]{3}$")]


class Command(Message):
    """
    What a client asks for.

    `route` is the address under `/v1/`: `orders/{order_id}/place`. Its first part is the collection, its last
    the verb, the braces name the id fields. `permission` is the role that may send it (`admin` always may);
    `system` belongs to workflows alone. Batches call it by its `command_name`: `orders.place`.
    """

    route: ClassVar[str] = ""
    permission: ClassVar[str] = ""
    command_name: ClassVar[str] = ""
    collection: ClassVar[str] = ""
    verb: ClassVar[str] = ""
    id_fields: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, *, route: str = "", permission: str = "", **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if route:
            cls.route, cls.permission = route, permission
            cls.collection, *middle, cls.verb = route.split("/")
            cls.id_fields = tuple(part.strip("{}") for part in middle)
            cls.command_name = f"{cls.collection}.{cls.verb}"

    def __init_subclass__(cls, *, route: str = "", permission: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

    @cached_property
    def stream(self) -> str:
        """The stream that the command is about: `orders/INV-1`."""
        return "/".join((self.collection, *(getattr(self, field) for field in self.id_fields)))


class Event(Message):
    """
    A fact. Its type is the class's name unless `type` says otherwise; its version starts at 1.

    `class OrderPlaced(Event, version=2)` stands beside `class OrderPlacedV1(Event, type="OrderPlaced")`
    and an `@upcast` function from the one to the other.
    """

    type: ClassVar[str] = ""
    schema_version: ClassVar[int] = 1
    is_past: ClassVar[bool] = False
    """Whether what is stored of the class is read as something else today: nothing new is said with it."""

    @classmethod
    def __pydantic_init_subclass__(cls, *, type: str | None = None, version: int = 1, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.type, cls.schema_version, cls.is_past = type or cls.__name__, version, False

    def __init_subclass__(cls, *, type: str | None = None, version: int = 1, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

    def encode(self) -> bytes:
        """Return the bytes that the log keeps."""
        return self.__pydantic_serializer__.to_json(self)


class Notice(Message):
    """
    What a workflow tells the outside world: an operator routes its `channel` to a webhook or to mail.

    `type` is its name there, such as `orders.ApprovalReminder.v1`, and its fields are the data: both are promises to
    receivers, so a field that goes or changes is a new type. None of its fields may be personal, as nothing
    that has left can be erased.
    """

    channel: ClassVar[str] = ""
    type: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, *, channel: str = "", type: str = "", **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.channel, cls.type = channel or cls.channel, type or cls.type

    def __init_subclass__(cls, *, channel: str = "", type: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

    def summary(self) -> str:
        """Return it as one sentence for people, which is a mail's subject."""
        return self.type


class View(Message):
    """What a query answers: a read model's document. `name` is the view's name in live streams and status."""
