"""
Carries out the erasure of a person whose key has been destroyed: scrubs what was copied while it could be read.

The steps, in this order; each is put down when it is done, and may be taken again:

  written_down  where a folder is configured: the erasure stands in a file outside of the databases
  forgotten     no process has the key in memory any more, so nothing readable is made any more
  read_tables   rows of all generations are folded anew
  errors        what errors say of parked events and scheduled commands is taken away
  snapshots     saved states of the person's streams are dropped
  replicas      the replicas of the read tables have what was written
  cache         documents and lists in Redis are dropped, twice: what was read before the rows were scrubbed may be on
                its way there, for as long as a query may take
  swept         destroyed keys and former rows are taken out of the tables' pages
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from event_store.erasures import Erasure, Erasures, scrub_errors, write_down
from infra.documents import DOCUMENTS, DocumentWriter, Place
from infra.failpoints import failpoint
from infra.patient_redis import PatientRedis
from projectors.read_side import ReadSide
from projectors.replicas import replicated
from projectors.scrub import Scrubbed, Traces, fence_workflows, find_traces, places_in, scrub_rows
from projectors.scrub import generations_of as all_generations
from schemas.messages import format_instant

ROWS_TOGETHER_MAX = 500
ERA_PARTS = 5
"""The parts of a document's key up to the era."""
LATE_SECONDS = 15.0
"""How long what was read from the tables before may be on its way to Redis: a query's time and a fill's."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Office:
    """What erasures are carried out with."""

    side: ReadSide
    erasures: Erasures
    say: Say = lambda _what: None
    late_seconds: float = LATE_SECONDS

    async def carry_out(self, erasure: Erasure) -> Erasure:
        """
        Take the steps of an erasure that are still to be taken, and return it as it then is.

        Raises:
            CacheAway, ReplicaBehind, StoreUnavailable: What is done stays done; to be run again.
        """
        side, subject, steps = self.side, erasure.subject, dict(erasure.steps)

        async def take(step: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> None:
            if step not in steps:
                self.say(step)
                steps[step] = await work()
                await self.erasures.note(erasure, step, steps[step])
                failpoint("erasure.after_step")

        await take("written_down", lambda: self._write_down(erasure))
        await take("forgotten", lambda: self._wait(erasure.forgotten_in_seconds))
        traces = await find_traces(side, subject, lambda at, end: self.say(f"log {at} of {end}"))
        await take("read_tables", lambda: self._rows(traces))
        await take("errors", lambda: self._errors(traces))
        await take("snapshots", lambda: self._snapshots(traces))
        await take("replicas", self._replicas)
        await take("cache", lambda: self._cache(traces))
        await take("cache_again", lambda: self._cache(traces, after_seconds=self.late_seconds))
        self.say("swept")
        await self.erasures.sweep()
        await self._sweep_rows()
        await self.erasures.note(erasure, "swept", {}, is_last=True)
        return next(one for one in await self.erasures.of(subject) if one.generation == erasure.generation)

    async def _write_down(self, erasure: Erasure) -> dict[str, Any]:
        folder = self.side.settings.erasures_dir
        if folder is None:
            return {"file": None}
        return {"file": str(await asyncio.to_thread(write_down, folder, erasure))}

    @staticmethod
    async def _wait(seconds: float) -> dict[str, Any]:
        await asyncio.sleep(seconds)
        return {}

    async def _rows(self, traces: Traces) -> dict[str, Any]:
        scrubbed = await scrub_rows(self.side, traces)
        workflows = await fence_workflows(self.side, traces.partitions)
        return {
            "events": len(traces.events),
            "streams": len(traces.streams),
            "generations": [_generation(one) for one in scrubbed],
            "workflows_fenced": workflows,
        }

    async def _errors(self, traces: Traces) -> dict[str, Any]:
        side = self.side
        commands = [command.command_name for command in side.registry.personal_commands]
        return await scrub_errors(
            side.pool, side.settings.namespace, traces.subject.tenant, traces.streams, commands
        )

    async def _snapshots(self, traces: Traces) -> dict[str, Any]:
        return {"states": await self.side.log.forget_states(traces.subject.tenant, traces.streams)}

    async def _replicas(self) -> dict[str, Any]:
        urls = self.side.settings.replica_urls
        await replicated(self.side.pool, urls)
        return {"replicas": len(urls)}

    async def _cache(self, traces: Traces, *, after_seconds: float = 0.0) -> dict[str, Any]:
        url, namespace = self.side.settings.redis_url, self.side.settings.namespace
        if url is None or not traces.events:
            return {"documents": 0, "lists": 0}
        await asyncio.sleep(after_seconds)
        documents = 0
        live = await self.side.generations.live()
        async with PatientRedis(url.get_secret_value()) as redis:
            writer = DocumentWriter(redis, namespace)
            heads = await self.side.log.heads()
            for generation, kind, _ in await all_generations(self.side):
                if kind is None or kind.document is None:
                    continue
                places = await places_in(self.side, kind, traces)
                rows = [(place.tenant, place.key) for place in places if place.table == kind.document]
                era = live[kind.name].era if kind.name in live else ""
                for first in range(0, len(rows), ROWS_TOGETHER_MAX):
                    part = rows[first : first + ROWS_TOGETHER_MAX]
                    for partition in traces.partitions:
                        await writer.doubt(
                            kind.name, generation.number, partition,
                            checkpoint=heads[partition], rows=part, era=era,
                        )  # fmt: skip
                documents += len(rows)
                cached = Place(namespace, kind.name, generation.number, era)
                now = {
                    cached.document(partition, *row).encode()
                    for row in rows
                    for partition in traces.partitions
                }
                await redis.delete_matching(f"{namespace}:{DOCUMENTS}:{kind.name}:*", _of_other_eras(now))
            lists = await redis.delete_matching(f"{namespace}:l:*")
        return {"documents": documents, "lists": lists}

    async def _sweep_rows(self) -> None:
        """Have the database take former rows out of the pages of the read tables."""
        for generation, kind, _ in await all_generations(self.side):
            for table in kind.tables if kind is not None else ():
                await self.side.pool.execute(f'VACUUM "{generation.schema}"."{table}"')


def _of_other_eras(now: Collection[bytes]) -> Callable[[bytes], bool]:
    """Return what says whether a key is one of some documents', as it was in another life of the tables' database."""
    rows = {_row_of(key) for key in now}
    return lambda key: key not in now and _row_of(key) in rows


def _row_of(key: bytes) -> tuple[bytes, ...]:
    """Return what a document's key says but for the era: namespace, letter, projection, generation; tenant and key."""
    parts = key.split(b":", ERA_PARTS)
    return (*parts[: ERA_PARTS - 1], parts[-1])


def _generation(scrubbed: Scrubbed) -> dict[str, Any]:
    generation = scrubbed.generation
    return {
        "projection": generation.projection,
        "generation": generation.number,
        "rows": len(scrubbed.places),
        "dropped": scrubbed.kind is None,
    }


def document_of(erasure: Erasure) -> dict[str, Any]:
    """Return an erasure as `everfold erase --json` prints it."""
    return {
        "tenant": erasure.subject.tenant,
        "subject": erasure.subject.hash.hex(),
        "generation": erasure.generation,
        "erased_at": format_instant(erasure.erased_at),
        "actor": erasure.actor,
        "reason": erasure.reason,
        "steps": erasure.steps,
        "ended_at": None if erasure.ended_at is None else format_instant(erasure.ended_at),
    }
