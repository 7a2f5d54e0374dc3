"""
What saved states are worth, and what they cost whoever has none: `python -m tests.bench.loads`.

A stream of 10,000 events is loaded by a loader that knows nothing yet, with its state saved and without, in turns; and
256 short streams are read as before there were saved states, and as they are read now.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

from command_api.app import rules_of
from command_api.loading import StateLoader
from command_api.saved_states import StateForms, StateSaver, form_of
from command_api.state_cache import Known, StateCache, StreamKey
from event_store.log import Append, Check, NewEvent, Snapshot, StateTail, StreamTail
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from infra.domains import load_registry
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.server import running
from schemas.errors import ServiceError
from tests.contract.log.appends import event
from tests.toy import DOMAIN, AccountOpened, Accounts, Deposited

TENANT, LONG = "acme", "accounts/long"
EVENTS, SHORT_STREAMS, SHORT_EVENTS = 10_000, 256, 5
ROUNDS = 15


def stored(stream: str, number: int) -> NewEvent:
    """Return a stream's event."""
    one = Deposited(cents=number) if number else AccountOpened(owner="Ann")
    return event(stream, one.encode(), type=one.type)._replace(schema_version=one.schema_version)


async def fill(log: PostgresLog) -> Snapshot:
    """Make the streams; return the long one's state, to be saved."""
    for first in range(0, EVENTS, 1_000):
        events = [stored(LONG, number) for number in range(first, first + 1_000)]
        (outcome,) = await log.append_batch(0, [Append(TENANT, LONG, [Check(LONG, first)], events)])
    streams = [f"accounts/{number}" for number in range(SHORT_STREAMS)]
    await log.append_batch(
        0,
        [
            Append(TENANT, stream, [Check(stream, 0)], [stored(stream, n) for n in range(SHORT_EVENTS)])
            for stream in streams
        ],
    )
    accounts = Accounts()
    form, state = form_of(accounts), accounts.initial
    for number in range(EVENTS):
        state = accounts.evolve(state, Deposited(cents=number) if number else AccountOpened(owner="Ann"))
    return Snapshot(TENANT, LONG, form.shape, 1, EVENTS, outcome.commit, form.codec.encode(state))


async def load(log: PostgresLog) -> Known:
    """Load the long stream as a process that has just started does."""
    rules, registry = rules_of([DOMAIN]), load_registry([DOMAIN])
    forms = StateForms(rules)
    saver = StateSaver(log, forms, events_between=2**31)
    loader = StateLoader(log, rules, registry, StateCache(), forms, saver)
    found: dict[StreamKey, Known | ServiceError] = {}
    await loader.load(0, [(TENANT, LONG)], found)
    known = found[TENANT, LONG]
    assert isinstance(known, Known)
    return known


async def timed(call: Callable[[], Awaitable[Any]]) -> float:
    """Return how many milliseconds a call takes."""
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1_000


async def measure(url: str) -> dict[str, float]:
    """Return medians, in milliseconds."""
    migrate(url, "everfold", range(1))
    times: dict[str, list[float]] = {"folded": [], "saved": [], "tails": [], "states": []}
    streams = [f"accounts/{number}" for number in range(SHORT_STREAMS)]
    shape = form_of(Accounts()).shape
    async with PostgresLog({range(1): url}) as log:
        snapshot = await fill(log)
        whole = await load(log)
        for _ in range(ROUNDS):
            await log.snapshots.drop()
            times["folded"].append(await timed(lambda: load(log)))
            assert await log.save_states(0, [snapshot]) == 1
            assert (await load(log))[:2] == whole[:2]
            times["saved"].append(await timed(lambda: load(log)))
            times["tails"].append(
                await timed(lambda: log.read_tails(0, [StreamTail(TENANT, one) for one in streams]))
            )
            times["states"].append(
                await timed(lambda: log.read_states(0, [StateTail(TENANT, one, 0, shape) for one in streams]))
            )
    return {name: round(median(values), 3) for name, values in times.items()}


def main() -> None:
    """Print the medians, and how many times quicker a saved state makes a load."""
    with ephemeral_folder() as folder:
        server = PostgresServer(server_folder(folder, "postgres"), free_port(), database="everfold")
        with running(server):
            found = asyncio.run(measure(server.url))
    print(json.dumps(found | {"ratio": round(found["folded"] / found["saved"], 1)}))


if __name__ == "__main__":
    main()
