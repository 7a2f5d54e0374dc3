"""Order lines through the whole system: every line accounted for, resumable, and equal however often it is asked."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from client.supply.generate import write_orders
from infra.system import RunningSystem
from tests.system import caught_up, client_of, facts, tool

pytestmark = pytest.mark.asyncio(loop_scope="session")  # where the system's supervisor runs

ORDERS = 60


@pytest.mark.timeout(240)
async def test_every_line_of_a_file_is_used_or_rejected_with_its_reason(
    system: RunningSystem, tmp_path: Path
) -> None:
    file, rejects, state = tmp_path / "orders.csv", tmp_path / "rejects.csv", tmp_path / "state.json"
    write_orders(file, orders=ORDERS, seed=7)
    lines = len(file.read_text().splitlines()) - 1
    arguments = (
        "import", "orders", str(file), "--mapping", "generated", "--url", system.command_url,
        "--query-url", system.query_url, "--rejects", str(rejects), "--state", str(state), "--json",
    )  # fmt: skip

    before = await dashboard(system, "order-funnel")
    status, out, err = await tool(system, *arguments)

    assert status == 0, err
    summary = json.loads(out.strip().splitlines()[-1])
    assert summary["lines"] == lines == summary["used"] + summary["rejected"]
    assert sum(summary["reasons"].values()) == summary["rejected"]
    with rejects.open() as written:
        rows = list(csv.DictReader(written))
    assert len(rows) == summary["rejected"]
    assert all(row["line"] and row["reason"] for row in rows)
    assert not any(reason.startswith(("not-shipped", "internal")) for reason in summary["reasons"]), summary

    again, out, err = await tool(system, *arguments)
    assert again == 0, err
    assert json.loads(out.strip().splitlines()[-1])["commands"] == summary["commands"]

    await caught_up(system)
    funnel = await dashboard(system, "order-funnel")
    by_status = (await dashboard(system, "by-status"))["items"]
    assert funnel["placed"] == sum(row["orders"] for row in by_status) >= before["placed"] + ORDERS - 5
    assert funnel["rejected"] == before["rejected"]
    status, proof = await facts(system, "verify")
    assert (status, proof["ok"]) == (0, True), proof


async def dashboard(system: RunningSystem, name: str) -> Any:
    """Return a dashboard: of all orders, also those of tests before."""
    await caught_up(system)
    async with client_of(system) as client:
        return await client.get(f"/v1/dashboards/{name}")


async def test_an_import_with_its_state_lost_changes_nothing_the_second_time(
    system: RunningSystem, tmp_path: Path
) -> None:
    file = tmp_path / "orders.csv"
    write_orders(file, orders=10, seed=11)
    summaries = []
    for attempt in ("first", "second"):
        state = tmp_path / f"{attempt}.json"
        status, out, err = await tool(
            system, "import", "orders", str(file), "--mapping", "generated", "--url", system.command_url,
            "--query-url", system.query_url, "--state", str(state), "--tenant", "twice", "--json",
        )  # fmt: skip
        assert status == 0, err
        summaries.append(json.loads(out.strip().splitlines()[-1]))
    assert summaries[0]["used"] == summaries[1]["used"]
    assert summaries[0]["reasons"] == summaries[1]["reasons"]
    async with client_of(system, "twice") as client:
        funnel = await client.get("/v1/dashboards/order-funnel")
    assert funnel["placed"] == 10
