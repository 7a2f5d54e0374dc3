"""
`make chaos ROUNDS=n SEED=s`: rounds of load during which every role is killed outright at random moments.

A round ends with heal, quiesce and the checks; the first that does not hold ends the run with exit status 1, and
what is needed to repeat it (seed and plan) is printed. It runs on loopback and stops by itself.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from infra.system import RunningSystem
from tests.acceptance.checks import events_in_log, gaps_in_log, missing_and_doubled
from tests.acceptance.kills import kill
from tests.load import Connection, Ledger, Request, run_clients
from tests.queues import tidy_system
from tests.system import caught_up, facts, settings_for

CLIENTS = 32
ITEMS = 16
KILLS_PER_ROUND = 6
ROUND_SECONDS = 12.0
ROUNDS_SHORT = 1


@dataclass(frozen=True, slots=True)
class Kill:
    """One fault of the plan: when, after the round began, and which role."""

    at_seconds: float
    role: str


def plan_of(seed: int, round_number: int, roles: Sequence[str]) -> list[Kill]:
    """Return a round's faults: every role once at least, in random order, at random moments."""
    chance = random.Random(f"{seed}/{round_number}")
    chosen = [*roles, *(chance.choice(roles) for _ in range(max(0, KILLS_PER_ROUND - len(roles))))]
    chance.shuffle(chosen)
    return [
        Kill(at, role)
        for at, role in zip(sorted(chance.uniform(0.3, ROUND_SECONDS) for _ in chosen), chosen, strict=True)
    ]


async def run_round(
    system: RunningSystem, number: int, plan: Sequence[Kill]
) -> tuple[Ledger, dict[str, str]]:
    """Load the system while the plan is carried out, and return the ledger and what does not hold."""
    mark = f"c{number}"
    await _register(system, mark)
    killing = asyncio.create_task(_carry_out(system, plan))

    def next_request(client: int, count: int) -> Request | None:
        if killing.done():
            return None
        path = f"/v1/stock/{mark}/{mark}-{(client + count) % ITEMS}/receive"
        return Request(path, {"quantity": 1}, f"{mark}-{client}-{count}")

    ledger = await run_clients(
        host="127.0.0.1", port=system.ports["command-api"], token=system.token(), clients=CLIENTS,
        next_request=next_request,
    )  # fmt: skip
    await killing
    return ledger, await _check(system, mark, ledger)


async def _register(system: RunningSystem, mark: str) -> None:
    commands = [
        {"command": "sites.register", "id": {"site_id": mark}, "data": {"name": mark, "time_zone": "UTC"}},
        *(
            {
                "command": "items.register",
                "id": {"item_id": f"{mark}-{item}"},
                "data": {"name": "Item", "tracking": {"lot": False, "expiry": False}},
            }
            for item in range(ITEMS)
        ),
    ]
    connection = Connection("127.0.0.1", system.ports["command-api"], system.token())
    answer = await connection.request("POST", "/v1/commands", orjson.dumps({"commands": commands}))
    assert answer.status == 200, answer.body
    connection.close()


async def _carry_out(system: RunningSystem, plan: Sequence[Kill]) -> None:
    began = time.monotonic()
    for fault in plan:
        await asyncio.sleep(max(0.0, began + fault.at_seconds - time.monotonic()))
        await kill(system, fault.role)


async def _check(system: RunningSystem, mark: str, ledger: Ledger) -> dict[str, str]:
    """Return each invariant that does not hold, with what was found."""
    await caught_up(system, seconds_max=120)
    stored = await events_in_log(system)
    missing, doubled = missing_and_doubled(ledger.acknowledged.values(), stored)
    received = [event for event in stored if event.stream.startswith(f"stock/{mark}/")]
    _, proof = await facts(system, "verify")
    reader = Connection("127.0.0.1", system.ports["query-api"], system.token())
    levels = (await reader.request("GET", f"/v1/stock-levels?site_id={mark}&limit=500")).json()["items"]
    reader.close()
    on_hand = sum(level["on_hand"] for level in levels)
    twice = doubled or len(received) != len(ledger.acknowledged)
    found = {
        "I01 acknowledged is stored": f"missing: {sorted(missing)[:3]}" if missing else "",
        "I02 nothing twice": f"{doubled} doubled, {len(received)} stored" if twice else "",
        "I03 every outcome is known": f"{len(ledger.unknown)} unknown" if ledger.unknown else "",
        "I04 positions are gapless": f"partitions {gaps}" if (gaps := await gaps_in_log(system)) else "",
        "I08, I09 chain and tables": "" if proof["ok"] else str(proof),
        "I10 it converges": "" if on_hand == len(ledger.acknowledged) else f"{on_hand} on hand",
        "I19 nothing was refused": str(dict(list(ledger.rejected.items())[:3])) if ledger.rejected else "",
    }
    return {name: problem for name, problem in found.items() if problem}


async def main(rounds: int, seed: int, broker_url: str) -> int:
    """Run the rounds and return the exit status."""
    console = Console()
    table = Table(title=f"chaos, seed {seed}", title_justify="left")
    for column in ("round", "kills", "commands", "attempts", "p99 ms", "holds"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        async with tidy_system(settings_for(Path(folder), broker_url=broker_url)) as system:
            for number in range(1, rounds + 1):
                plan = plan_of(seed, number, list(system.ports))
                ledger, problems = await run_round(system, number, plan)
                table.add_row(
                    str(number), str(len(plan)), f"{len(ledger.acknowledged):,}", f"{ledger.attempts:,}",
                    f"{ledger.percentile_ms(0.99):.1f}", "all" if not problems else "NOT",
                )  # fmt: skip
                if problems:
                    console.print(table)
                    console.print(f"[red]seed {seed}, round {number}, plan {plan}[/]")
                    for name, problem in problems.items():
                        console.print(f"[red]{name}[/]: {problem}")
                    return 1
    console.print(table)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--rounds", type=int, default=ROUNDS_SHORT)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--broker", default="log", help="log, or an amqp:// URL")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.rounds, given.seed, given.broker)))
