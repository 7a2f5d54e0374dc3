"""
`make bench`: every benchmark, one table, and `bench/results.json`.

Each path stands beside its ceiling (the same machine doing only the unavoidable part) measured in the same run;
rates are medians of interleaved runs. A path whose check fails (what was acknowledged is stored, positions are
gapless, rows equal their fold) ends the run with exit status 1. `--rounds 1` is the short form.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.server import running
from infra.embedded.valkey import ValkeyServer
from infra.garbage import collect_seldom
from infra.open_files import allow_open_files
from infra.telemetry import start_telemetry
from tests.bench import (
    append,
    commands,
    drift,
    feed,
    following,
    live,
    log_features,
    pipeline,
    queries,
    replay,
    replay_memory,
    traces,
)
from tests.broker import broker

RESULTS = Path("bench/results.json")
PEERS = Path(".venv/peers/bin/python")
CONNECTIONS = 32
SHORT_ROUNDS = 1
GROUPS = (
    "commands", "append", "features", "feed", "replay", "drift", "following", "pipeline", "memory", "queries", "traces",
    "live",
)  # fmt: skip
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One path: ours beside its ceiling, with what was checked."""

    path: str
    unit: str
    ours: float
    ceiling: float | None
    aim: str
    holds: bool
    check: str
    p99_ms: float | None = None
    share: float | None = None
    """The median of the rounds' own ratios, where both were measured in each round."""

    @property
    def ratio(self) -> float | None:
        """Ours as a share of the ceiling."""
        return self.share or (self.ours / self.ceiling if self.ceiling else None)


@contextmanager
def services() -> Iterator[tuple[str, str]]:
    """A durable PostgreSQL and a Valkey of the run's own: their addresses."""
    with ephemeral_folder() as folder:
        postgres = PostgresServer(server_folder(folder, "postgres"), free_port())
        with running(postgres), running(ValkeyServer(folder / "valkey", free_port())) as valkey:
            yield postgres.url, valkey.url


def commands_lines(rounds: int) -> Iterator[Line]:
    """Commands over HTTP with every role running."""
    options = argparse.Namespace(
        rounds=rounds, seconds=3.0, connections=CONNECTIONS, commands=20_000 * rounds, broker="log"
    )
    found = asyncio.run(commands.run(options))
    same = found.stored == found.acknowledged
    check = f"acknowledged {found.acknowledged:,} = stored {found.stored:,}"
    ours, bare = (median(run["per_second"] for run in runs) for runs in (found.ours, found.bare))
    p99 = median(run["p99_ms"] for run in found.ours)
    one = f"stock.receive over HTTP, {CONNECTIONS} connections"
    yield Line(one, "commands/s", ours, bare, "≥ 0.6 of bare, p99 ≤ 25 ms", same, check, p99, found.ratio())
    rate = found.batch_commands / found.batch_seconds
    yield Line("stock.receive through /v1/commands", "commands/s", rate, None, "≥ 5,000", same, check)
    caught_up = found.caught_up_seconds
    yield Line("… and the read side caught up after", "s", caught_up, None, "≤ 10", same, "lag 0 everywhere")


def append_lines(url: str, rounds: int) -> Iterator[Line]:
    """The log's own interface beside a plain insert of the same rows."""
    found = {measured.name: measured.document() for measured in uvloop.run(append.measure(url, 1.0, rounds))}
    best = max(facts["median"] for name, facts in found.items() if name.startswith("ceiling"))
    for name, facts in found.items():
        if name.startswith("append, "):
            yield _append_line(name, facts, best, "≥ 15,000 at 32, ≥ 20,000 at 256")
        elif name.startswith("append_batch"):
            size = name.split()[2].rstrip(",")
            ceiling = found[f"ceiling: plain insert of {size} rows a commit"]["median"]
            yield _append_line(name, facts, ceiling, "")


def _append_line(name: str, facts: dict[str, Any], ceiling: float, aim: str) -> Line:
    rate = facts["median"]
    return Line(
        name, facts["unit"], rate, ceiling, aim, True, "stored = acknowledged, gapless", facts.get("p99_ms")
    )


def feature_lines(url: str, rounds: int) -> Iterator[Line]:
    """The log beside the bare function, its features beside the log without them, and peers."""
    peers = str(PEERS) if PEERS.exists() else None
    paths = uvloop.run(log_features.measure(url, rounds, 1.0, peers))
    for name, ours, other, aim in log_features.AIMS:
        path, rival = paths[ours], paths[other]
        check = "stored = acknowledged, gapless" if rival.rates else f"{rival.name} is not installed"
        share = path.share_of(rival) if rival.rates else None
        yield Line(name, "appends/s", path.rate, rival.rate or None, f"≥ {aim}", True, check, share=share)


def feed_lines(url: str, rounds: int) -> Iterator[Line]:
    """How fast the read side follows."""
    figures = feed.run(url, 20_000 * rounds)
    for name, unit, aim in (
        ("catch_up_events_per_second", "events/s", "≥ 20,000, through all projections"),
        ("lag_ms_p50", "ms", "≤ 10"),
        ("replay_stock-levels_events_per_second", "events/s", "≥ 50,000"),
        ("replay_lot-traces_events_per_second", "events/s", "≥ 50,000"),
    ):
        yield Line(
            name.replace("_", " "), unit, figures[name], None, aim, figures["equal"], "rows equal their fold"
        )


def replay_lines(url: str, rounds: int) -> Iterator[Line]:
    """A read model built anew, beside the raw scan of the same events and a peer's projection runner."""
    peers = str(PEERS) if PEERS.exists() else None
    events = 100_000 if rounds == SHORT_ROUNDS else 1_000_000
    found = replay.run(url, events, rounds, peers)
    check = f"{found.rows:,} rows are what {events:,} events add up to"
    fresh = f"into a fresh generation, {found.processes} processes"
    for name, rates, aim in (
        ("live, a checkpoint a page", found.checkpointed, 0.3),
        (fresh, found.fresh, 0.6),
    ):
        rate, scan, share = median(rates), median(found.scan), found.share(rates)
        path = f"replay of {replay.PROJECTION}: {name}"
        yield Line(path, "events/s", rate, scan, f"≥ {aim} of the raw scan", found.equal, check, share=share)
        if found.peer is not None:
            yield Line(
                path, "events/s", rate, found.peer, "≥ 40 × eventsourcing's runner", found.equal, check
            )


def following_lines(url: str, broker_url: str, rounds: int) -> Iterator[Line]:
    """Followers under a steady load, and the relay."""
    seconds, events = (5.0, 100_000) if rounds == SHORT_ROUNDS else (20.0, 500_000)
    kept = following.run_live(url, 10_000, seconds)
    behind, check = kept.behind_seconds(0.5), f"rows of {len(following.LIVE)} projections equal their fold"
    name = f"five projections live: behind {kept.rate:,.0f} appended a second"
    p99 = kept.behind_seconds(0.99) * 1000
    yield Line(name, "ms", behind * 1000, None, "p99 ≤ 1 s, at 10,000/s", kept.equal, check, p99)
    relayed = following.run_relay(url, broker_url, events)
    rate, whole = relayed.events / relayed.seconds, relayed.found == relayed.events
    check = f"{relayed.found:,} of {relayed.events:,} in the queues, in order"
    yield Line("relay to RabbitMQ, confirmed", "events/s", rate, None, "≥ 50,000", whole, check)


def pipeline_lines(broker_url: str, rounds: int) -> Iterator[Line]:
    """From commit to readable row through RabbitMQ, and after the projector has stood still."""
    seconds = 5.0 if rounds == SHORT_ROUNDS else 30.0
    found = pipeline.measure(argparse.Namespace(seconds=seconds, rate=500, broker=broker_url))
    same = f"acknowledged {found.acknowledged:,} = stored {found.stored:,}, rows equal their fold"
    name, aim = "commit to readable row, 500 commands/s, RabbitMQ", "p50 ≤ 8 ms, p99 ≤ 50 ms"
    yield Line(name, "ms", found.lag_ms(0.5), None, aim, found.holds, same, found.lag_ms(0.99))
    rate = found.stopped_events / found.caught_up_seconds
    yield Line(
        "catching up after 10 s of standing still", "events/s", rate, None, "≥ 20,000", found.holds, same
    )


def memory_lines(rounds: int) -> Iterator[Line]:
    """What a replay takes; the full size takes too long for every run, see replay_memory.py."""
    sizes = [50_000, 100_000] if rounds == SHORT_ROUNDS else [250_000, 1_000_000]
    found = replay_memory.measure(sizes, 20_000, replay.PROJECTION)
    name, small = (
        f"replay of {sizes[-1]:,} events: memory",
        found.most_bytes <= replay_memory.MEMORY_BYTES_MAX,
    )
    yield Line(name, "MB", found.most_bytes / 2**20, None, "≤ 300", small, "process at its largest")


def drift_lines(url: str, rounds: int) -> Iterator[Line]:
    """One changed row among many."""
    rows, sweep = (100_000, 20.0) if rounds == SHORT_ROUNDS else (1_000_000, 60.0)
    found = drift.run(url, rows, sweep)
    name, aim = (
        f"drift: one changed row of {found.rows:,} is found",
        f"≤ {found.bound_seconds:.0f} (sweep and slice)",
    )
    yield Line(name, "s", found.seconds, None, aim, found.holds, "that row alone, and mended")


def query_lines(url: str, redis_url: str, rounds: int) -> Iterator[Line]:
    """Queries beside bare routes."""
    found = queries.run(url, redis_url, rounds, 3.0)
    for line in queries.COMPARED:
        runs = found[line.ours]
        rate, p99 = (median(run[key] for run in runs) for key in ("per_second", "p99_ms"))
        other = median(run["per_second"] for run in found[line.other])
        share = queries.share_of(found, line.ours, line.other)
        good = queries.is_good(line.ours, runs)
        yield Line(line.name, "requests/s", rate, other, line.aim, good, "every answer good", p99, share)


def trace_lines(url: str) -> Iterator[Line]:
    """The trace of a lot that went everywhere."""
    found = asyncio.run(traces.measure(url))
    name = f"a page of a lot's {traces.MOVEMENTS:,} movements, out of PostgreSQL"
    check = f"{len(found.seconds)} pages, each movement once"
    p50, p99 = found.percentile_ms(0.5), found.percentile_ms(0.99)
    yield Line(name, "ms", p50, None, "p99 ≤ 50 ms", found.is_whole, check, p99)


def live_lines(url: str) -> Iterator[Line]:
    """Live streams: how soon the last of many is told, and what idle ones take."""
    allow_open_files()
    found = asyncio.run(live.fan_out(live.FAN_OUT_STREAMS, live.CHANGES))
    name = f"a change to the last of {found.streams:,} live streams"
    whole = (found.changes, found.lost) == (live.CHANGES, 0)
    check = f"{found.changes} of {live.CHANGES} changes told to all"
    yield Line(name, "ms", found.p50_ms, None, "p99 ≤ 250 ms", whole, check, found.p99_ms)
    idle = asyncio.run(live.measure_idle(url, live.IDLE_STREAMS))
    held = f"{idle.streams - idle.lost:,} of {idle.streams:,} stayed open"
    name = f"{idle.streams:,} idle live streams on one process"
    yield Line(name, "MB", idle.with_streams_mb, None, "≤ 300", idle.lost == 0, held)


def show(lines: list[Line]) -> None:
    """Print the table."""
    table = Table(title="bench: medians, this machine, this run", title_justify="left")
    for column, justify in (
        ("path", "left"), ("ours", "right"), ("ceiling", "right"), ("ratio", "right"), ("p99 ms", "right"),
        ("unit", "left"), ("aim", "left"), ("check", "left"),
    ):  # fmt: skip
        table.add_column(column, justify=justify)  # type: ignore[arg-type]  # rich's own literals
    for line in lines:
        table.add_row(
            line.path, f"{line.ours:,.1f}", f"{line.ceiling:,.0f}" if line.ceiling else "",
            f"{line.ratio:.2f}" if line.ratio else "", f"{line.p99_ms:.1f}" if line.p99_ms else "", line.unit,
            line.aim, line.check if line.holds else f"FAILS: {line.check}",
        )  # fmt: skip
    Console(width=170).print(table)


def main() -> int:
    """Measure, print, write, and say whether every check holds."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--seed", type=int, default=0, help="taken for the sake of make; nothing here is random"
    )
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP", help=f"of {', '.join(GROUPS)}"
    )
    given = parser.parse_args()
    rounds, chosen = given.rounds, set(given.only)
    start_telemetry(role="bench", level="WARNING")
    collect_seldom()
    lines = list(commands_lines(rounds)) if "commands" in chosen else []
    with services() as (postgres_url, redis_url), ExitStack() as stack:
        broker_url = ""
        if chosen & {"following", "pipeline"}:
            broker_url = stack.enter_context(broker(Path(tempfile.gettempdir())))
        groups: dict[str, Callable[[], Iterator[Line]]] = {
            "append": lambda: append_lines(postgres_url, rounds),
            "features": lambda: feature_lines(postgres_url, rounds),
            "feed": lambda: feed_lines(postgres_url, rounds),
            "replay": lambda: replay_lines(postgres_url, rounds),
            "drift": lambda: drift_lines(postgres_url, rounds),
            "following": lambda: following_lines(postgres_url, broker_url, rounds),
            "pipeline": lambda: pipeline_lines(broker_url, rounds),
            "memory": lambda: memory_lines(rounds),
            "queries": lambda: query_lines(postgres_url, redis_url, rounds),
            "traces": lambda: trace_lines(postgres_url),
            "live": lambda: live_lines(postgres_url),
        }
        for name, measured in groups.items():
            if name in chosen:
                for line in measured():
                    print(f"{line.path}: {line.ours:,.1f} {line.unit}", file=sys.stderr, flush=True)
                    lines.append(line)
    show(lines)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([{**asdict(line), "ratio": line.ratio} for line in lines], indent=2) + "\n")
    return 0 if all(line.holds for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
