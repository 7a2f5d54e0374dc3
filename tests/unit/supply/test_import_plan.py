"""Planning an import: orders, stock that covers them, and returns that find their orders, latest first."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from client.supply.lines import OrderLine, Reject
from client.supply.mapping import Errors, Mapping, load_mapping
from client.supply.plan import PlannedOrder, PlannedReturn, make_plan

MAPPING = load_mapping("generated")
LINE = OrderLine(
    number=2, kind="order", order_id="I1", line="1", customer_id="C1", site_id="north", site_name="north",
    receiver=None, item_id="GLO-01", name="Gloves", quantity=5, price=250, currency="EUR", is_charge=False,
    ordered_at=None, requested_on=None, shipped_at=None, delivered_at=None, shipment_id="",
)  # fmt: skip


def parts_of(
    *lines: OrderLine | Reject, mapping: Mapping = MAPPING
) -> tuple[list[list[PlannedReturn]], list[Reject]]:
    plan = make_plan(lines, mapping)
    return [step for step in plan.steps if isinstance(step, list)], plan.rejects


def test_stock_is_planned_to_cover_the_orders_and_no_charge() -> None:
    plan = make_plan(
        [LINE, replace(LINE, number=3, quantity=2), replace(LINE, number=4, item_id="F", is_charge=True)],
        MAPPING,
    )
    assert plan.stock == {("north", "GLO-01"): 7}
    assert set(plan.items) == {"GLO-01", "F"}


def test_a_return_takes_from_the_latest_order_of_the_same_customer_and_item_first() -> None:
    (parts,), rejects = parts_of(
        LINE,
        replace(LINE, number=3, order_id="I2"),
        replace(LINE, number=4, order_id="R1", kind="return", quantity=7),
    )
    assert [(part.order_id, part.quantity) for part in parts] == [("I2", 5), ("I1", 2)]
    assert rejects == []


def test_a_return_before_its_order_or_of_another_customer_finds_none() -> None:
    back = replace(LINE, number=1, order_id="R1", kind="return", quantity=1)
    parts, rejects = parts_of(back, LINE, replace(back, number=9, customer_id="C2"))
    assert parts == []
    assert [(reject.number, reject.reason) for reject in rejects] == [
        (1, "no-order-to-return-to"),
        (9, "no-order-to-return-to"),
    ]


def test_a_return_of_more_than_was_ordered_is_rejected_whole_and_takes_nothing() -> None:
    back = replace(LINE, number=3, order_id="R1", kind="return", quantity=6)
    (parts,), rejects = parts_of(LINE, back, replace(back, number=4, quantity=5))
    assert [(part.order_id, part.quantity) for part in parts] == [("I1", 5)]
    assert [(reject.number, reject.reason) for reject in rejects] == [(3, "returns-more-than-ordered")]


def test_a_bad_line_costs_its_whole_order_where_the_mapping_says_so() -> None:
    strict = MAPPING.model_copy(update={"errors": Errors(bad_line="order")})
    plan = make_plan([LINE, Reject(3, "bad-price", "I1"), replace(LINE, number=4, order_id="I2")], strict)
    assert [step.order_id for step in plan.steps if isinstance(step, PlannedOrder)] == ["I2"]
    assert [(reject.number, reject.reason) for reject in plan.rejects] == [
        (2, "order-has-a-bad-line"),
        (3, "bad-price"),
    ]


def test_lines_that_do_not_fit_their_order_are_rejected_alone() -> None:
    plan = make_plan(
        [LINE, replace(LINE, number=3, site_id="south"), replace(LINE, number=4, currency="USD"),
         replace(LINE, number=5, customer_id="C2")],
        MAPPING,
    )  # fmt: skip
    assert [reject.reason for reject in plan.rejects] == [
        "another-site-in-the-same-order",
        "mixed-currencies",
        "another-customer-in-the-same-order",
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(["order", "return"]), st.integers(1, 9), st.integers(0, 2)), max_size=30
    )
)
def test_no_order_gets_back_more_than_it_had(moves: list[tuple[str, int, int]]) -> None:
    lines = [
        replace(
            LINE,
            number=index,
            kind="order" if kind == "order" else "return",
            order_id=f"{kind[0]}{index}",
            quantity=quantity,
            item_id=f"X{item}",
        )
        for index, (kind, quantity, item) in enumerate(moves)
    ]
    plan = make_plan(lines, MAPPING)
    left = {line.order_id: line.quantity for line in lines if line.kind == "order"}
    for step in plan.steps:
        for part in step if isinstance(step, list) else ():
            left[part.order_id] -= part.quantity
    assert all(quantity >= 0 for quantity in left.values())
    used = sum(len(step.lines) if isinstance(step, PlannedOrder) else 1 for step in plan.steps)
    assert used + len(plan.rejects) == len(lines)
