"""
Reads a file of order lines through a mapping: each line becomes an `OrderLine` or a `Reject`, and none vanishes.

Pure but for reading the file; the same file and mapping always give the same lines, so an import can be resumed.
"""

import csv
import gzip
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from hashlib import sha256
from pathlib import Path
from typing import Literal

from client.supply.mapping import Mapping
from schemas.errors import BadDefinition

MINOR_UNITS = 100
QUANTITY_MAX = 2**53
ID_CHARACTERS_MAX = 64
TEXT_CHARACTERS_MAX = 1_000

Kind = Literal["order", "return", "adjustment"]


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One line of a file, in our terms."""

    number: int
    """The line of the file that it begins on; the header is line 1."""
    kind: Kind
    order_id: str
    line: str
    customer_id: str | None
    """None where the file names none."""
    site_id: str
    site_name: str
    receiver: str | None
    item_id: str
    name: str
    quantity: int
    """At least 1; what it means is `kind`'s."""
    price: int
    """Of one unit, in minor units."""
    currency: str
    is_charge: bool
    ordered_at: datetime | None
    requested_on: datetime | None
    shipped_at: datetime | None
    delivered_at: datetime | None
    shipment_id: str


@dataclass(frozen=True, slots=True)
class Reject:
    """A line that could not be used, and why."""

    number: int
    reason: str
    order_id: str = ""
    detail: str = ""


class _Bad(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def id_of(text: str) -> str:
    """
    Return a text as an id, the same for the same text and another for another.

    A text that is an id stays as it is; else what may not stand in an id becomes `-`, and a mark of the whole
    text is added, so that two texts never become one id.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        return text
    mark = sha256(text.encode()).hexdigest()[:8]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    plain = plain[: ID_CHARACTERS_MAX - len(mark) - 1].rstrip("-._")
    return f"{plain}-{mark}" if plain else f"x{mark}"


def text_of(text: str) -> str:
    """Return a text without control characters, and no longer than a text may be."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text).strip()[:TEXT_CHARACTERS_MAX]


def read_lines(path: Path, mapping: Mapping) -> Iterator[OrderLine | Reject]:
    """
    Return the file's lines in its order.

    Raises:
        BadDefinition: The file cannot be read as the mapping says, or lacks a column that the mapping names.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding=mapping.format.encoding, newline="") as file:
            reader = csv.reader(file, delimiter=mapping.format.delimiter)
            header = next(reader, [])
            columns = {name: index for index, name in enumerate(header)}
            _check_columns(path, mapping, columns)
            yield from _lines(reader, columns, mapping)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadDefinition(f"file {path}", str(error)) from error


def _check_columns(path: Path, mapping: Mapping, columns: dict[str, int]) -> None:
    for key, value in mapping.columns:
        for name in (value,) if isinstance(value, str) else value or ():
            if name not in columns:
                there = ", ".join(columns)
                raise BadDefinition(
                    f"file {path}", f"has no column {name!r} (columns.{key}); it has: {there}"
                )


def _lines(
    reader: Iterable[list[str]], columns: dict[str, int], mapping: Mapping
) -> Iterator[OrderLine | Reject]:
    previous_end = 1
    for row in reader:
        number = previous_end + 1
        previous_end = int(reader.line_num)  # type: ignore[attr-defined]  # csv.reader's own counter
        if not row:
            yield Reject(number, "empty-line")
            continue
        if len(row) != len(columns):
            yield Reject(number, "wrong-number-of-columns", detail=f"{len(row)} rather than {len(columns)}")
            continue
        cells = {name: row[index] for name, index in columns.items()}
        try:
            yield _line(number, cells, mapping)
        except _Bad as bad:
            order = _joined(cells, mapping.columns.order)
            yield Reject(number, bad.reason, id_of(order) if order else "", bad.detail)


def _line(number: int, cells: dict[str, str], mapping: Mapping) -> OrderLine:
    names = mapping.columns
    order = _joined(cells, names.order) or _missing("no-order", names.order)
    item = _joined(cells, names.item) or _missing("no-item", names.item)
    quantity = _quantity(cells[names.quantity])
    customer = _known(_joined(cells, names.customer), mapping)
    kind = _kind(order, quantity, customer, mapping)
    site = _known(_joined(cells, names.site), mapping) or mapping.defaults.site
    receiver = _known(_joined(cells, names.receiver), mapping)
    name = text_of(_joined(cells, names.name)) or item
    currency = (cells[names.currency].strip() if names.currency else "") or mapping.defaults.currency
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise _Bad("bad-currency", currency)
    return OrderLine(
        number=number,
        kind=kind,
        order_id=id_of(order),
        line=cells[names.line].strip() if names.line else "",
        customer_id=id_of(customer) if customer else None,
        site_id=id_of(site),
        site_name=text_of(site),
        receiver=text_of(receiver) if receiver else None,
        item_id=id_of(item),
        name=name,
        quantity=abs(quantity),
        price=_price(cells[names.price] if names.price else "", mapping),
        currency=currency,
        is_charge=mapping.charges.match(item),
        ordered_at=_earliest(cells, names.ordered_at, mapping),
        requested_on=_earliest(cells, names.requested_on, mapping),
        shipped_at=_earliest(cells, names.shipped_at, mapping),
        delivered_at=_earliest(cells, names.delivered_at, mapping),
        shipment_id=id_of(shipment)
        if (shipment := cells[names.shipment].strip() if names.shipment else "")
        else "",
    )


def _kind(order: str, quantity: int, customer: str, mapping: Mapping) -> Kind:
    if mapping.returns.order_pattern and mapping.returns.order_pattern.search(order):
        return "return"
    if quantity > 0:
        return "order"
    if mapping.adjustments.negative_without_customer and not customer:
        return "adjustment"
    if mapping.returns.negative_quantity:
        return "return"
    raise _Bad("bad-quantity", str(quantity))


def _joined(cells: dict[str, str], names: tuple[str, ...]) -> str:
    return " ".join(part for name in names if (part := cells[name].strip()))


def _known(text: str, mapping: Mapping) -> str:
    return "" if text in mapping.format.not_known else text


def _missing(reason: str, names: tuple[str, ...]) -> str:
    raise _Bad(reason, f"{' and '.join(names)} is empty")


def _quantity(text: str) -> int:
    try:
        quantity = Decimal(text.strip().replace(",", ""))
    except InvalidOperation:
        raise _Bad("bad-quantity", text) from None
    if (
        not quantity.is_finite()
        or quantity != quantity.to_integral_value()
        or not 0 < abs(quantity) <= QUANTITY_MAX
    ):
        raise _Bad("bad-quantity", text)
    return int(quantity)


def _price(text: str, mapping: Mapping) -> int:
    try:
        minor = Decimal(text.strip().replace(",", "") or mapping.defaults.price) * MINOR_UNITS
    except InvalidOperation:
        raise _Bad("bad-price", text) from None
    if not minor.is_finite() or not 0 <= minor <= QUANTITY_MAX:
        raise _Bad("bad-price", text)
    rounded = minor.quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    if rounded != minor and mapping.format.prices == "exact":
        raise _Bad("bad-price", f"{text} is not a whole number of minor units")
    return int(rounded)


_dates: dict[tuple[int, str], datetime | None] = {}
DATES_KEPT_MAX = 100_000


def _date(text: str, mapping: Mapping) -> datetime | None:
    """Return a date, read once: files repeat few dates many times, and strptime is slow."""
    key = (id(mapping), text)
    if key not in _dates:
        if len(_dates) >= DATES_KEPT_MAX:
            _dates.clear()
        _dates[key] = mapping.date(text)
    return _dates[key]


def _earliest(cells: dict[str, str], names: tuple[str, ...], mapping: Mapping) -> datetime | None:
    try:
        known = [date for name in names if (date := _date(cells[name], mapping)) is not None]
    except ValueError as error:
        raise _Bad("bad-date", str(error)) from None
    return min(known, default=None)
