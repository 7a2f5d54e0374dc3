"""
The formats of exports: each makes bytes of some thousand items at a time.

Parquet needs pyarrow, which is installed with `everfold[parquet]`; without it nobody is offered Parquet.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from importlib.util import find_spec
from typing import Any, Protocol

from query_api.exports.columns import DAY, FLAG, INSTANT, INTEGER, NUMBER, TEXT, Column

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

Items = Sequence[Mapping[str, Any]]


class Writer(Protocol):
    """Makes a file, part by part."""

    def part(self, items: Items) -> bytes:
        """Return the bytes of some more items."""
        ...

    def end(self) -> bytes:
        """Return the file's last bytes."""
        ...


class CsvWriter:
    """
    RFC 4180 in UTF-8, with a header line.

    Text that a spreadsheet would take for a formula is preceded by an apostrophe, since others may have written it.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._text = io.StringIO(newline="")
        self._lines = csv.writer(self._text)
        self._lines.writerow(column.name for column in columns)

    def part(self, items: Items) -> bytes:
        """Return some more lines, the first time with the header."""
        for item in items:
            self._lines.writerow(_cell(column, column.value_of(item)) for column in self._columns)
        return self._taken()

    def end(self) -> bytes:
        """Return what is left: the header, where there were no items."""
        return self._taken()

    def _taken(self) -> bytes:
        data = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        return data


def _cell(column: Column, value: Any) -> Any:
    if value is None:
        return ""
    if column.kind == FLAG:
        return "true" if value else "false"
    if column.kind == TEXT and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


class ParquetWriter:
    """Parquet with one row group for each part."""

    def __init__(self, columns: Sequence[Column]) -> None:
        # Only where it is asked for: it takes a while, and need not be installed.
        import pyarrow as pa
        from pyarrow import parquet

        self._arrow = pa
        self._columns = columns
        kinds = {
            TEXT: pa.string(), INTEGER: pa.int64(), NUMBER: pa.float64(), FLAG: pa.bool_(),
            DAY: pa.date32(), INSTANT: pa.timestamp("us", tz="UTC"),
        }  # fmt: skip
        self._schema = pa.schema([(column.name, kinds.get(column.kind, pa.string())) for column in columns])
        self._sink = _Sink()
        self._file = parquet.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"), self._schema, compression="zstd"
        )

    def part(self, items: Items) -> bytes:
        """Return a row group."""
        values = [[_parsed(column, column.value_of(item)) for item in items] for column in self._columns]
        arrays = [
            self._arrow.array(column, type=field.type)
            for column, field in zip(values, self._schema, strict=True)
        ]
        self._file.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        return self._sink.taken()

    def end(self) -> bytes:
        """Return the footer."""
        self._file.close()
        return self._sink.taken()


def _parsed(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if column.kind == INSTANT:
        return datetime.fromisoformat(value)
    return date.fromisoformat(value) if column.kind == DAY else value


class _Sink(io.RawIOBase):
    """A file that is taken away as it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def taken(self) -> bytes:
        """Return what has been written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def writers() -> Mapping[str, Callable[[Sequence[Column]], Writer]]:
    """Return the formats that there are, by media type."""
    return {CSV: CsvWriter} | ({PARQUET: ParquetWriter} if find_spec("pyarrow") else {})


ENDINGS = {CSV: "csv", PARQUET: "parquet"}
