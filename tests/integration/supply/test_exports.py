"""Whole lists as files."""

import csv
import io
from typing import Any

import orjson
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.integration.supply.told import Told

pytestmark = pytest.mark.asyncio(loop_scope="package")

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
LISTS = [
    "/v1/orders", "/v1/orders?status=rejected&status=delivered", "/v1/items", "/v1/sites", "/v1/stock-levels",
    "/v1/lots?site_id=S1", "/v1/recalls", "/v1/dashboards/daily-demand", "/v1/dashboards/top-items",
    "/v1/dashboards/by-status",
]  # fmt: skip


async def exported(told: Told, path: str, media_type: str, **headers: str) -> Any:
    headers = {"everfold-position": told.token, "prefer": "wait=20", "accept": media_type, **headers}
    return await told.client.get(path, headers=headers)


def split(path: str) -> tuple[str, dict[str, Any]]:
    route, _, query = path.partition("?")
    parameters: dict[str, Any] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        parameters.setdefault(name, []).append(value)
    return route, parameters


def flat(item: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """Return an item's values by column; what repeats as JSON."""
    found = {}
    for column in columns:
        value: Any = item
        for name in column.split("."):
            value = value and value.get(name)
        found[column] = orjson.dumps(value).decode() if isinstance(value, list | dict) else value
    return found


@pytest.mark.parametrize("path", LISTS)
async def test_a_csv_file_has_every_item_of_the_list(
    told: Told, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query_api.exports.export.PAGE_ITEMS_MAX", 7)
    route, parameters = split(path)
    items = await told.walk(route, limit=100, **parameters)
    response = await exported(told, path, CSV)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"].endswith('.csv"')
    assert response.headers["everfold-position"]
    lines = list(csv.DictReader(io.StringIO(response.text, newline="")))
    assert len(lines) == len(items)
    for line, item in zip(lines, items, strict=True):
        for column, value in flat(item, list(line)).items():
            text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            assert line[column] == text, column


@pytest.mark.parametrize("path", LISTS)
async def test_a_parquet_file_has_every_item_of_the_list_in_types_of_its_own(
    told: Told, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query_api.exports.export.PAGE_ITEMS_MAX", 7)
    route, parameters = split(path)
    items = await told.walk(route, limit=100, **parameters)
    response = await exported(told, path, PARQUET)
    assert response.headers["content-type"] == PARQUET
    table = parquet.read_table(pa.BufferReader(response.content))
    assert table.num_rows == len(items)
    for row, item in zip(table.to_pylist(), items, strict=True):
        for column, value in flat(item, table.column_names).items():
            if isinstance(row[column], str | int | float | None):
                assert row[column] == value, column
            else:
                assert str(row[column])[:10] == value[:10], column


async def test_times_days_and_amounts_keep_their_types(told: Told) -> None:
    table = parquet.read_table(pa.BufferReader((await exported(told, "/v1/orders", PARQUET)).content))
    assert table.schema.field("ordered_at").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("requested_on").type == pa.date32()
    assert table.schema.field("total.amount").type == pa.int64()
    assert table.schema.field("lines").type == pa.string()


async def test_an_empty_list_has_its_columns(told: Told) -> None:
    response = await exported(told, "/v1/orders?customer_id=NOBODY", CSV)
    assert response.text.startswith("order_id,stream,version,status,")
    assert response.text.count("\r\n") == 1
    table = parquet.read_table(
        pa.BufferReader((await exported(told, "/v1/orders?customer_id=NOBODY", PARQUET)).content)
    )
    assert (table.num_rows, table.column_names[0]) == (0, "order_id")


@pytest.mark.parametrize(
    ("accept", "status", "media_type"),
    [
        ("text/csv, application/json;q=0.5", 200, CSV),
        ("application/json, text/csv;q=0.5", 200, "application/json"),
        ("text/csv;q=0", 406, "application/problem+json"),
        ("text/html", 406, "application/problem+json"),
        ("text/csv;q=0.1, application/vnd.apache.parquet", 200, PARQUET),
    ],
)
async def test_the_format_is_what_the_client_would_rather_have(
    told: Told, accept: str, status: int, media_type: str
) -> None:
    response = await exported(told, "/v1/items", accept)
    assert response.status_code == status
    assert response.headers["content-type"].split(";")[0] == media_type


async def test_an_export_is_the_whole_list_and_of_lists_alone(told: Told) -> None:
    response = await exported(told, "/v1/items?limit=5", CSV)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/limit"
    assert (await exported(told, "/v1/dashboards/order-funnel", CSV)).status_code == 406
    assert (await exported(told, "/v1/items", CSV, authorization="Bearer x")).status_code == 401


async def test_the_answers_head_alone_can_be_asked_for(told: Told) -> None:
    headers = {"accept": CSV, "everfold-position": told.token}
    response = await told.client.head("/v1/items", headers=headers)
    assert (response.status_code, response.content) == (200, b"")
