"""Reading files of order lines through mappings: what each cell means, and that no line vanishes."""

import gzip
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.supply.generate import write_orders
from client.supply.lines import OrderLine, Reject, id_of, read_lines
from client.supply.mapping import Mapping, load_mapping, shipped_mappings
from client.supply.plan import PlannedOrder, make_plan
from schemas.errors import BadDefinition

HEADER = (
    "Invoice,Line,Code,Description,Quantity,Price,Customer,Depot,Ward,Ordered,Wanted,Delivered,Delivery note"
)
GOOD = "I1,1,GLO-01,Gloves,3,2.50,C1,north,Ward 1,2026-01-05 07:00,2026-01-10,2026-01-08,DN1"


def lines_of(tmp_path: Path, *rows: str, mapping: Mapping | None = None) -> list[OrderLine | Reject]:
    file = tmp_path / "orders.csv"
    file.write_text("\n".join((HEADER, *rows)) + "\n", encoding="utf-8")
    return list(read_lines(file, mapping or load_mapping("generated")))


def test_a_good_line_is_read_in_our_terms(tmp_path: Path) -> None:
    (line,) = lines_of(tmp_path, GOOD)
    assert isinstance(line, OrderLine)
    assert (line.number, line.kind, line.order_id, line.customer_id, line.site_id) == (
        2,
        "order",
        "I1",
        "C1",
        "north",
    )
    assert (line.quantity, line.price, line.currency, line.is_charge) == (3, 250, "EUR", False)
    assert line.ordered_at == datetime(2026, 1, 5, 7, 0, tzinfo=UTC)
    assert line.shipment_id == "DN1"


@pytest.mark.parametrize(
    ("cell", "value", "reason"),
    [
        ("3", "many", "bad-quantity"),
        ("3", "0", "bad-quantity"),
        ("3", "1.5", "bad-quantity"),
        ("3", "99999999999999999999", "bad-quantity"),
        ("3", "-3", "bad-quantity"),
        ("2.50", "2.505", "bad-price"),
        ("2.50", "-1", "bad-price"),
        ("2.50", "NaN", "bad-price"),
        ("2026-01-10", "soon", "bad-date"),
        ("I1", "", "no-order"),
        ("GLO-01", "", "no-item"),
    ],
)
def test_a_bad_cell_rejects_its_line_with_number_and_reason(
    tmp_path: Path, cell: str, value: str, reason: str
) -> None:
    first, second = lines_of(tmp_path, GOOD.replace(cell, value, 1), GOOD)
    assert isinstance(first, Reject)
    assert (first.number, first.reason) == (2, reason)
    assert isinstance(second, OrderLine)


def test_a_line_with_too_few_cells_and_an_empty_line_are_rejected_not_skipped(tmp_path: Path) -> None:
    found = lines_of(tmp_path, "I1,1,GLO-01", "", GOOD)
    assert [type(line).__name__ for line in found] == ["Reject", "Reject", "OrderLine"]
    assert [line.number for line in found] == [2, 3, 4]


def test_line_numbers_count_the_files_own_lines_over_quoted_breaks(tmp_path: Path) -> None:
    found = lines_of(tmp_path, GOOD.replace("Gloves", '"Gloves,\nlarge"'), GOOD)
    assert [line.number for line in found] == [2, 4]


def test_prices_below_the_minor_unit_are_rounded_where_the_mapping_says_so(tmp_path: Path) -> None:
    mapping = load_mapping("generated")
    rounding = mapping.model_copy(update={"format": mapping.format.model_copy(update={"prices": "round"})})
    (line,) = lines_of(tmp_path, GOOD.replace("2.50", "2.505"), mapping=rounding)
    assert isinstance(line, OrderLine)
    assert line.price == 250


def test_a_mapping_that_names_a_missing_column_says_which_and_what_there_is(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(BadDefinition, match=r"no column 'Invoice' \(columns\.order\); it has: a, b"):
        list(read_lines(file, load_mapping("generated")))


def test_a_gzipped_file_is_read_as_well(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv.gz"
    file.write_bytes(gzip.compress(f"{HEADER}\n{GOOD}\n".encode()))
    assert len(list(read_lines(file, load_mapping("generated")))) == 1


@pytest.mark.parametrize("name", shipped_mappings())
def test_every_shipped_mapping_loads(name: str) -> None:
    assert load_mapping(name).columns.order


def test_an_unknown_mapping_names_those_there_are() -> None:
    with pytest.raises(BadDefinition, match="generated, online-retail, scms"):
        load_mapping("nothing-like-it")


def test_a_mapping_file_with_an_unknown_key_is_refused_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[columns]\norder="a"\nitem="b"\nquantity="c"\nquantitty="d"\n')
    with pytest.raises(BadDefinition, match=r"columns\.quantitty"):
        load_mapping(str(file))


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_texts_never_become_one_id(one: str, other: str) -> None:
    assert (id_of(one) == id_of(other)) == (one == other)
    assert len(id_of(one)) <= 64


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_an_id_is_always_in_the_alphabet(text: str) -> None:
    identity = id_of(text)
    assert identity[0].isascii()
    assert identity[0].isalnum()
    assert all(character.isascii() and (character.isalnum() or character in "._-") for character in identity)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_generated_line_is_used_or_rejected(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "orders.csv"
    write_orders(file, orders=300, seed=seed)
    mapping = load_mapping("generated")
    plan = make_plan(read_lines(file, mapping), mapping)
    used = sum(len(step.lines) if isinstance(step, PlannedOrder) else 1 for step in plan.steps)
    assert used + len(plan.rejects) == plan.lines == len(file.read_text().splitlines()) - 1
    assert Counter(reject.reason for reject in plan.rejects)["bad-quantity"] >= 1
