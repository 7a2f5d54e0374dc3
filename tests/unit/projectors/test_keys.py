"""A fold that is about several rows by one event is told which row it is about; others are not."""

from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from projectors.projection import Key, Projection, Stream, when
from tests.toy import Deposited

AT = Stream(
    "demo", "accounts/A", 1, 1, "e", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
)


@dataclass(frozen=True)
class Sum:
    name: str
    cents: int

    def encode(self) -> bytes:
        return orjson.dumps(self)

    @classmethod
    def decode(cls, data: bytes) -> "Sum":
        return cls(**orjson.loads(data))


class Sums(Projection[Sum]):
    name, row, key = "sums", Sum, ("name",)

    @when(Deposited, keys=lambda event, stream: [stream.ids, ("all",)])
    def deposited(self, row: Sum | None, event: Deposited, stream: Stream, key: Key) -> Sum:
        return Sum(key[0], (row.cents if row else 0) + event.cents)


def test_a_method_with_a_parameter_key_is_told_the_rows_key() -> None:
    rows: dict[tuple[str, Key], Sum] = {}
    touched = Sums().fold(rows, Deposited(cents=5), AT)
    assert touched == [("rows", ("A",)), ("rows", ("all",))]
    assert list(rows.values()) == [Sum("A", 5), Sum("all", 5)]
