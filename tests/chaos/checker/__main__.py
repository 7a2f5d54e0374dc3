"""
`python -m tests.chaos.checker FOLDER`: one line for each invariant and the first counterexamples; status 1 if any.

`FOLDER/run.json` says where to look: `store_url`, `namespace`, `side`, `consumers`.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from tests.chaos.checker import domain_checks, flow_checks, log_checks
from tests.chaos.checker.evidence import Evidence, read_database, read_run

SHOWN_MAX = 3
CHECKS: dict[str, Callable[[Evidence], Iterator[str]]] = {
    "I01 no acknowledged event is lost": log_checks.acknowledged_is_stored,
    "I02 nothing happens twice": log_checks.nothing_twice,
    "I03 rejected means absent": log_checks.rejected_is_absent,
    "I04 positions are gapless": log_checks.positions_are_gapless,
    "I05 stream versions are contiguous": log_checks.versions_are_contiguous,
    "I06 a command is atomic": log_checks.commands_are_atomic,
    "I07 one order, and it respects time": log_checks.order_respects_time,
    "I08 history is immutable": log_checks.history_is_immutable,
    "I09 read model = fold of the log": domain_checks.tables_are_the_fold,
    "I10 it converges": flow_checks.it_converges,
    "I12 nothing from the future": flow_checks.nothing_from_the_future,
    "I16 the domain's own laws": domain_checks.the_laws_hold,
    "I17 the broker is clean": flow_checks.the_broker_is_clean,
    "I21 the relay skips nothing": flow_checks.the_relay_skips_nothing,
}


def check(evidence: Evidence) -> dict[str, list[str]]:
    """Return by invariant what does not hold."""
    return {name: list(islice(one(evidence), SHOWN_MAX)) for name, one in CHECKS.items()}


async def read(folder: Path) -> Evidence:
    """Return a run's evidence."""
    run = json.loads((folder / "run.json").read_text())
    evidence = read_run(folder)
    consumers = [(kind, name) for kind, name in run["consumers"]]
    await read_database(evidence, run["store_url"], run["namespace"], side=run["side"], consumers=consumers)
    return evidence


def main() -> int:
    """Check one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    began = time.monotonic()
    evidence = asyncio.run(read(folder))
    found = check(evidence)
    for name, problems in found.items():
        print(f"{name:<38} {'NOT' if problems else 'holds'}")
        for problem in problems:
            print(f"    {problem[:1000]}")
    print(
        f"{len(evidence.calls):,} commands, {len(evidence.events):,} events, {len(evidence.commits):,} commits, "
        f"{sum(map(len, evidence.live.values())):,} rows checked in {time.monotonic() - began:.1f} s"
    )
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
