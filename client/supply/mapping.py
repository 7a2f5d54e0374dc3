"""
A mapping says what the columns of a file of order lines mean. It is a TOML file; its keys are this module's models.

docs/how-to/import-orders.md explains every key to people who write one.
"""

import tomllib
from datetime import UTC, datetime
from functools import cached_property
from importlib import resources
from pathlib import Path
from re import Pattern
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from schemas.errors import BadDefinition

Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]
"""One column, or several: joined where they make an id, the earliest that is known where they are dates."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Columns(_Part):
    """Which column is what. All but `order`, `item` and `quantity` may be left out."""

    order: Names
    item: Names
    quantity: str
    line: str | None = None
    customer: Names = ()
    site: Names = ()
    """Who supplies."""
    receiver: Names = ()
    name: Names = ()
    price: str | None = None
    currency: str | None = None
    ordered_at: Names = ()
    requested_on: Names = ()
    shipped_at: Names = ()
    delivered_at: Names = ()
    shipment: str | None = None


class Defaults(_Part):
    """What holds where a column is not mapped or empty."""

    customer: str = "unknown"
    site: str = "main"
    currency: str = "EUR"
    price: str = "0"


class Format(_Part):
    """How the file is written."""

    delimiter: str = ","
    encoding: str = "utf-8"
    dates: Names = ("%Y-%m-%d",)
    """strptime patterns, tried in order."""
    time_zone: str = "UTC"
    not_known: frozenset[str] = frozenset()
    """Texts that stand where a value is not known."""
    prices: Literal["exact", "round"] = "exact"
    """What to do with a price below the minor unit: refuse its line, or round half to even."""

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone of the file's times."""
        return ZoneInfo(self.time_zone)


class Charges(_Part):
    """Which lines are charges: items that are not stocked, such as postage."""

    items: frozenset[str] = frozenset()
    pattern: Pattern[str] | None = None

    def match(self, item: str) -> bool:
        """Return whether this item is a charge."""
        return item in self.items or bool(self.pattern and self.pattern.search(item))


class Returns(_Part):
    """Which lines take goods of an earlier order back; each finds its order by customer and item, latest first."""

    order_pattern: Pattern[str] | None = None
    """An order number that matches is a cancellation or return, not an order."""
    negative_quantity: bool = False
    """A negative quantity is a return, whatever the order number."""
    needs_customer: bool = True
    """Refuse a return that names no customer, rather than look among orders that name none either."""


class Adjustments(_Part):
    """Which lines correct the stock without an order."""

    negative_without_customer: bool = False
    """A negative quantity with no customer, on a number that is no return, is found missing from the stock."""


class Errors(_Part):
    """What a bad line costs."""

    bad_line: Literal["line", "order"] = "line"
    """Reject the line alone, or every line of its order."""


class Mapping(_Part):
    """What a file's columns mean."""

    columns: Columns
    defaults: Defaults = Defaults()
    format: Format = Format()
    charges: Charges = Charges()
    returns: Returns = Returns()
    adjustments: Adjustments = Adjustments()
    errors: Errors = Errors()

    def date(self, text: str) -> datetime | None:
        """Return a date or time of the file in UTC; None when it says that it is not known."""
        text = text.strip()
        if not text or text in self.format.not_known:
            return None
        for pattern in self.format.dates:
            try:
                return datetime.strptime(text, pattern).replace(tzinfo=self.format.zone).astimezone(UTC)
            except ValueError:
                continue
        raise ValueError(text)


def shipped_mappings() -> list[str]:
    """Return the names of the mappings that come with the project."""
    return sorted(
        file.name.removesuffix(".toml")
        for file in resources.files("client.supply.mappings").iterdir()
        if file.name.endswith(".toml")
    )


def load_mapping(name_or_path: str) -> Mapping:
    """
    Return a mapping by the name of one that comes with the project, or from a TOML file.

    Raises:
        BadDefinition: There is no such mapping, or it has a key or value that cannot be.
    """
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        if not path.is_file():
            raise BadDefinition(f"mapping {path}", "there is no such file")
        text = path.read_text(encoding="utf-8")
    elif name_or_path in shipped_mappings():
        text = (
            resources.files("client.supply.mappings")
            .joinpath(f"{name_or_path}.toml")
            .read_text(encoding="utf-8")
        )
    else:
        known = ", ".join(shipped_mappings())
        raise BadDefinition(f"mapping {name_or_path}", f"give one of {known}, or the path of a .toml file")
    try:
        return Mapping.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadDefinition(f"mapping {name_or_path}", f"is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadDefinition(f"mapping {name_or_path}", f"{where}: {first['msg']}") from error
