"""A fold in memory: what it touches, what it sets aside, and what it remembers."""

from collections.abc import Sequence
from typing import Any

import pytest

from event_store.log import Commit, Page
from projectors.decoding import Decoder
from projectors.folding import Folding, Place
from projectors.projection import Projection, Stream, when
from projectors.tables import Column, UnwritableValue, array_literal
from schemas.envelope import BEGINNING, RecordedEvent
from schemas.registry import Registry
from tests import toy
from tests.integration.projectors.accounts import METADATA, NOW
from tests.toy import AccountBalances, AccountView, Deposited, DepositedV1, Withdrawn


class Movements(Projection[AccountView]):
    """One row for each deposit, made once."""

    name, row, key = "movements", AccountView, ("at",)

    @when(Deposited, keys=lambda event, stream: [(str(stream.position),)], makes_row=True)
    def deposited(self, row: AccountView | None, event: Deposited, stream: Stream) -> AccountView:
        assert row is None
        return AccountView(account_id=stream.ids[0], stream=stream.name, version=stream.version)


class Splitting(Projection[AccountView]):
    """Cannot always say which rows an event is about."""

    name, row, key = "splitting", AccountView, ("account_id",)

    @when(Deposited, keys=lambda event, stream: [(stream.ids[0],)] if event.cents else 1 / 0)  # type: ignore[arg-type,return-value]  # fails on purpose
    def deposited(self, row: AccountView | None, event: Deposited, stream: Stream) -> AccountView:
        return AccountView(account_id=stream.ids[0], stream=stream.name, version=stream.version)


@pytest.fixture
def registry() -> Registry:
    found = Registry()
    found.add("toy", [toy])
    return found


def page_of(events: Sequence[tuple[str, Any]], *, first: int = 1) -> Page:
    """Return events, each in a commit of its own."""
    recorded = [
        RecordedEvent(
            0, position, "t", f"accounts/{account}", position, f"id-{position}", event.type, event.schema_version,
            event.encode(), METADATA, NOW,
        )
        for position, (account, event) in enumerate(events, first)
    ]  # fmt: skip
    commits = [
        Commit(0, event.position, event.position, NOW, bytes([event.position]) * 32, bytes(32))
        for event in recorded
    ]
    return Page(0, BEGINNING, recorded, commits[-1].mark, commits)


def fold(folding: Folding, registry: Registry, page: Page) -> None:
    """Fold a page whose rows are all at hand."""
    folding.fold(folding.plan(Decoder(registry, [folding.projection]).decode(page).events))


def at(account: str) -> Place:
    """Return the row of an account."""
    return Place("rows", "t", (account,))


def test_only_what_somebody_folds_is_decoded(registry: Registry) -> None:
    decoded = Decoder(registry, [Movements()]).decode(
        page_of([("a", Deposited(cents=1)), ("a", Withdrawn(cents=1)), ("a", DepositedV1(cents=2))])
    )
    assert [one.stream.position for one in decoded.events] == [1, 3]
    assert decoded.events[1].events == (Deposited(cents=2, source="unknown"),)


def test_an_unknown_version_ends_what_is_decoded(registry: Registry) -> None:
    page = page_of([("a", Deposited(cents=1)), ("a", Deposited(cents=2)), ("b", Deposited(cents=3))])
    unknown = page.events[1]._replace(schema_version=9)
    decoded = Decoder(registry, [Movements()]).decode(
        Page(0, page.after, [page.events[0], unknown, page.events[2]], page.end, page.commits)
    )
    assert [one.stream.position for one in decoded.events] == [1]
    assert decoded.held == (2, "a program that can read Deposited version 9")


def test_what_was_renamed_or_split_is_folded_as_what_it_is_today(registry: Registry) -> None:
    page = page_of(
        [
            ("a", toy.AccountOpenedWithV1(owner="Ann", cents=7)),
            ("a", toy.AccountPolished()),
            ("b", toy.AccountOpenedWithV1(owner="Bob", cents=1)),
            ("b", toy.AccountShutV1()),
        ]
    )
    decoded = Decoder(registry, [AccountBalances()]).decode(page)
    assert [one.stream.position for one in decoded.events] == [1, 3, 4]
    assert decoded.types == {"AccountOpened", "Deposited", "AccountClosed"}
    folding = Folding(AccountBalances(), complete=True)
    fold(folding, registry, page)
    assert folding.rows[at("a")].balance_cents == 7
    assert folding.rows[at("b")] is None


def test_bytes_that_do_not_fit_hold_like_an_unknown_event_and_say_why(registry: Registry) -> None:
    page = page_of([("a", Deposited(cents=1)), ("a", Deposited(cents=2))])
    bad = page.events[1]._replace(data=b'{"cents":"many"}')
    decoded = Decoder(registry, [Movements()]).decode(
        Page(0, page.after, [page.events[0], bad], page.end, page.commits)
    )
    assert [one.stream.position for one in decoded.events] == [1]
    why = "a program that can read Deposited version 2 (cents: Input should be a valid integer)"
    assert decoded.held == (2, why)


def test_rows_carry_the_last_event_that_changed_them(registry: Registry) -> None:
    folding = Folding(AccountBalances(), complete=True)
    fold(
        folding,
        registry,
        page_of([("a", Deposited(cents=1)), ("b", Deposited(cents=2)), ("a", Deposited(cents=3))]),
    )
    assert folding.rows[at("a")].balance_cents == 4
    assert folding.changes[at("a")].stream.position == 3
    assert folding.changes[at("a")].commit_hash == bytes([3]) * 32
    assert folding.tenants == {"t": 3}


def test_rows_that_are_not_at_hand_are_asked_for_once(registry: Registry) -> None:
    folding = Folding(AccountBalances())
    page = page_of([("a", Deposited(cents=1)), ("a", Deposited(cents=2)), ("b", Deposited(cents=3))])
    steps = folding.plan(Decoder(registry, [folding.projection]).decode(page).events)
    assert folding.missing(steps) == {"rows": {at("a"), at("b")}}


def test_rows_let_go_are_asked_for_again(registry: Registry) -> None:
    folding = Folding(AccountBalances(), complete=True)
    fold(
        folding,
        registry,
        page_of([("a", Deposited(cents=1)), ("b", Deposited(cents=2)), ("c", Deposited(cents=3))]),
    )
    folding.settled(2)
    steps = folding.plan(
        Decoder(registry, [folding.projection]).decode(page_of([("a", Deposited(cents=1))], first=4)).events
    )
    assert folding.missing(steps) == {"rows": {at("a")}}


def test_rows_that_are_made_once_are_neither_asked_for_nor_remembered(registry: Registry) -> None:
    folding = Folding(Movements())
    page = page_of([("a", Deposited(cents=1)), ("a", Deposited(cents=2))])
    steps = folding.plan(Decoder(registry, [folding.projection]).decode(page).events)
    assert folding.missing(steps) == {}
    folding.fold(steps)
    assert len(folding.changes) == 2
    folding.settled(1_000)
    assert folding.rows == {}


def test_an_event_whose_rows_cannot_be_told_holds_its_stream_alone(registry: Registry) -> None:
    folding = Folding(Splitting(), complete=True)
    fold(
        folding,
        registry,
        page_of([("a", Deposited(cents=0)), ("a", Deposited(cents=2)), ("b", Deposited(cents=3))]),
    )
    assert [(one.event.position, one.error is None) for one in folding.parking] == [(1, False), (2, True)]
    assert set(folding.rows) == {at("b")}


def test_values_travel_as_one_text(registry: Registry) -> None:
    text = Column("name", "text", is_array=False)
    assert text.joined([]) == ""
    assert text.joined([""]) == "\x1f"
    assert text.joined(["a", None, "b"]) == "\x1fa\x1f\x1e\x1fb"
    assert Column("n", "bigint", is_array=False).joined([1, None]) == "\x1f1\x1f\x1e"
    assert Column("doc", "bytea", is_array=False).joined([b"{}"]) == "\x1f{}"
    assert Column("hash", "bytea", is_array=False).joined([b"\x00\xff"]) == "\x1f00ff"
    assert array_literal(['a"b', None, "c\\d"]) == '{"a\\"b",NULL,"c\\\\d"}'


@pytest.mark.parametrize("value", ["a\x1fb", "\x1e"])
def test_a_value_that_holds_a_separator_is_refused(value: str) -> None:
    with pytest.raises(UnwritableValue):
        Column("name", "text", is_array=False).joined([value])
