"""What exported values become."""

from typing import Any, Literal

from query_api.exports.columns import columns_of
from query_api.exports.formats import CsvWriter
from schemas.messages import Day, Instant, Message, Money, View


class Inner(Message):
    text: str


class Thing(View):
    name: str
    kind: Literal["a", "b"]
    price: Money | None
    inner: Inner
    many: tuple[Inner, ...]
    on: Day | None
    at: Instant
    yes: bool
    number: int | None


def test_members_of_members_have_columns_of_their_own_and_what_repeats_is_json() -> None:
    assert [(column.name, column.kind) for column in columns_of(Thing)] == [
        ("name", "text"), ("kind", "text"), ("price.amount", "integer"), ("price.currency", "text"),
        ("inner.text", "text"), ("many", "json"), ("on", "day"), ("at", "instant"), ("yes", "flag"),
        ("number", "integer"),
    ]  # fmt: skip


def test_text_that_would_be_a_formula_is_made_text() -> None:
    writer = CsvWriter(columns_of(Inner))
    items = [{"text": text} for text in ("=1+1", "-x", "@a", "plain", 'a "b", c', "two\nlines", "")]
    data = (writer.part(items) + writer.end()).decode()
    assert data == 'text\r\n\'=1+1\r\n\'-x\r\n\'@a\r\nplain\r\n"a ""b"", c"\r\n"two\nlines"\r\n""\r\n'


def test_what_is_null_is_empty_and_numbers_keep_their_sign() -> None:
    writer = CsvWriter(columns_of(Thing))
    item: dict[str, Any] = {
        "name": "n",
        "kind": "a",
        "price": None,
        "inner": {"text": "t"},
        "many": [],
        "number": -5,
        "yes": True,
    }
    assert writer.part([item]).decode().split("\r\n")[1] == "n,a,,,t,[],,,true,-5"
