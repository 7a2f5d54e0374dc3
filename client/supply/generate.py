"""
Makes a file of order lines of the shape that real ones have: returns, charges, split deliveries, and bad lines.

The same seed makes the same file.
"""

import csv
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

HEADER = (
    "Invoice", "Line", "Code", "Description", "Quantity", "Price", "Customer", "Depot", "Ward", "Ordered", "Wanted",
    "Delivered", "Delivery note",
)  # fmt: skip
BEGAN = datetime(2026, 1, 5, 7, 0, tzinfo=UTC)
DAYS = 90
CUSTOMERS = 120
DEPOTS = ("north", "south")
GOODS = (
    "Nitrile gloves", "Surgical mask", "Infusion set", "Suture kit", "Syringe 5 ml", "Cannula 20G", "Gauze swab",
    "Saline 500 ml", "Catheter 14 Fr", "Scalpel no. 11", "Oxygen mask", "Blood bag",
)  # fmt: skip
SIZES = ("S", "M", "L", "box of 10", "box of 100")
RETURN_SHARE, CHARGE_SHARE, SPLIT_SHARE, BAD_SHARE, MISSING_SHARE = 0.08, 0.2, 0.1, 0.004, 0.003

Row = tuple[object, ...]


def write_orders(path: Path, *, orders: int, seed: int) -> None:
    """Write a file with so many orders."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(rows(random.Random(seed), orders))


def rows(chance: random.Random, orders: int) -> Iterator[Row]:
    """Return the lines of so many orders, in the order of their time."""
    catalogue = [
        (f"{name[:3].upper()}-{number:02d}", f"{name}, {size}", chance.randint(15, 9_900))
        for number, (name, size) in enumerate((name, size) for name in GOODS for size in SIZES)
    ]
    for number in range(1, orders + 1):
        ordered = BEGAN + timedelta(minutes=number * DAYS * 24 * 60 / orders)
        lines = list(_order(chance, catalogue, number, ordered))
        yield from lines
        if chance.random() < RETURN_SHARE:
            yield _returned(chance, lines[0], number, ordered)
        if chance.random() < MISSING_SHARE:
            code, _, _ = chance.choice(catalogue)
            yield (f"A{number}", "", code, "counted short", -chance.randint(1, 5), "0", "", lines[0][7], "",
                   _time(ordered), "n/a", "n/a", "")  # fmt: skip


def _order(
    chance: random.Random, catalogue: list[tuple[str, str, int]], number: int, ordered: datetime
) -> Iterator[Row]:
    customer, depot = f"C{chance.randint(1, CUSTOMERS):04d}", chance.choice(DEPOTS)
    delivered = ordered + timedelta(days=chance.randint(1, 9))
    split = chance.random() < SPLIT_SHARE
    goods = chance.sample(catalogue, chance.randint(1, 8))
    for line, (code, name, price) in enumerate(goods, start=1):
        quantity = "many" if chance.random() < BAD_SHARE else str(chance.randint(1, 40))
        note = f"DN{number}-2" if split and line > 1 else f"DN{number}-1"
        yield (f"I{number}", line, code, name, quantity, f"{price / 100:.2f}", customer, depot, f"Ward {number % 30}",
               _time(ordered), ordered.date() + timedelta(days=5), delivered.date(), note)  # fmt: skip
    if chance.random() < CHARGE_SHARE:
        yield (f"I{number}", len(goods) + 1, "FREIGHT", "Freight", 1, "9.50", customer, depot, f"Ward {number % 30}",
               _time(ordered), ordered.date() + timedelta(days=5), delivered.date(), f"DN{number}-1")  # fmt: skip


def _returned(chance: random.Random, line: Row, number: int, ordered: datetime) -> Row:
    quantity = -1 if str(line[4]).isdigit() else -99
    return (f"R{number}", 1, line[2], line[3], quantity, line[5], line[6], line[7], line[8],
            _time(ordered + timedelta(days=chance.randint(10, 30))), "n/a", "n/a", "")  # fmt: skip


def _time(value: datetime) -> str:
    return value.strftime("%Y-%m-%d %H:%M")
