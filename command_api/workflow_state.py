"""
Where workflows stand, for people: how far, what they wait for, what they have before them, what failed.

A workflow keeps no state of its own beside the log: what it knows of one matter is that matter's events up to its
checkpoint, and what is left to do are its timers, the events it has set aside, and messages on their way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg

from command_api.workflow import Workflow
from command_api.workflow_steps import subject_of
from event_store.log import EventLog
from event_store.status import read_status
from infra.sql import load_sql
from schemas.envelope import Metadata, RecordedEvent
from schemas.errors import NotFound
from schemas.messages import format_instant
from schemas.registry import Registry

LIST_MAX = 200
"""Timers, events and messages that are shown of each."""
Reached = Mapping[int, int]
"""By partition, how far a workflow is."""
Aside = Mapping[tuple[int, int], str]
"""By partition and position, why an event is set aside."""
COUNTS = ("timers", "timers_failing", "messages_waiting", "messages_dead")


@dataclass(frozen=True)
class WorkflowDesk:
    """What is looked at to tell where workflows stand."""

    workflows: Mapping[str, Workflow]
    log: EventLog
    registry: Registry
    pool: "asyncpg.Pool[Any]"
    namespace: str
    uses_broker: bool

    async def all(self) -> Sequence[dict[str, Any]]:
        """Return all workflows, those of other programs too that have run here."""
        sql = load_sql("command_api", "sql/workflow_counts.sql", namespace=self.namespace)
        counts = {row["workflow"]: row for row in await self.pool.fetch(sql)}
        status = await read_status(self.log, self.pool, self.namespace, uses_broker=self.uses_broker)
        stands = {one["name"]: one for one in status["workflows"]}
        return [
            self._line(name, stands.get(name), counts.get(name))
            for name in sorted({*self.workflows, *stands, *counts})
        ]

    def _line(self, name: str, stands: Mapping[str, Any] | None, counts: Any) -> dict[str, Any]:
        workflow = self.workflows.get(name)
        next_due_at = None if counts is None else counts["next_due_at"]
        return {
            "name": name,
            "version": workflow.version if workflow else None,
            "lag_events": stands["lag_events"] if stands else None,
            "lag_seconds": stands["lag_seconds"] if stands else None,
            "waiting_for": stands["waiting_for"] if stands else "its process, which has not run yet",
            "set_aside": stands["dead_letters"] if stands else 0,
            **{count: (0 if counts is None else counts[count] or 0) for count in COUNTS},
            "next_due_at": format_instant(next_due_at) if next_due_at else None,
        }

    async def one(self, name: str, tenant: str, stream: str | None = None) -> dict[str, Any]:
        """
        Return where a workflow stands with a tenant's matters, or with those of one stream.

        Raises:
            NotFound: There is no such workflow, or no such stream.
        """
        line = next((one for one in await self.all() if one["name"] == name), None)
        if line is None:
            raise NotFound(f"workflow {name}")
        workflow = self.workflows.get(name)
        residences = await self.log.residences_of(tenant)
        partition = residences.present.partition
        sql = partial(load_sql, "command_api", namespace=self.namespace)
        aside = await self.pool.fetch(sql("sql/workflow_aside.sql"), name, tenant, stream, LIST_MAX)
        events = None
        if stream is not None and workflow is not None:
            reached = {stay.partition: await self._reached(name, stay.partition) for stay in residences}
            states = {
                (row["partition"], row["position"]): row["error"] or "waits behind another" for row in aside
            }
            events = await self._events(workflow, tenant, stream, reached, states)
        causes = None if events is None else [event["event_id"] for event in events]
        timers = await self.pool.fetch(
            sql("sql/workflow_timers.sql"), name, tenant, causes, LIST_MAX, partition
        )
        messages = await self.pool.fetch(sql("sql/workflow_messages.sql"), name, tenant, stream, LIST_MAX)
        return {
            **line,
            "reacts_to": sorted(workflow.reactions) if workflow else None,
            "sends": sorted(kind.command_name for kind in workflow.commands) if workflow else None,
            "tells": sorted(kind.type for kind in workflow.notices) if workflow else None,
            "tenant": tenant,
            "stream": stream,
            "events": events,
            "timers": [_with_instants(row, "due_at", "try_at") for row in timers],
            "aside": [_without_partition(_with_instants(row, "parked_at")) for row in aside],
            "messages": [_with_instants(row, "created_at") for row in messages],
        }

    async def _reached(self, name: str, partition: int) -> int:
        statement = load_sql("command_api", "sql/workflow_reached.sql", namespace=self.namespace)
        return int(await self.pool.fetchval(statement, name, partition) or 0)

    async def _events(
        self, workflow: Workflow, tenant: str, stream: str, reached: Reached, aside: Aside
    ) -> list[dict[str, Any]]:
        """Return the events of a stream that a workflow reacts to, and what of the stream followed from each."""
        recorded = [event async for event in self.log.read_stream(tenant, stream)]
        if not recorded:
            raise NotFound(stream)
        followed: dict[str, list[str]] = {}
        for event in recorded:
            metadata = Metadata.decode(event.metadata)
            if metadata.actor == subject_of(workflow.name) and metadata.causation_id:
                followed.setdefault(metadata.causation_id, []).append(event.type)
        return [
            {
                "event_id": event.id,
                "type": event.type,
                "version": event.version,
                "position": event.position,
                "recorded_at": format_instant(event.recorded_at),
                "state": _state_of(event, reached, aside),
                "error": aside.get((event.partition, event.position)),
                "led_to": followed.get(event.id, []),
            }
            for event in recorded
            if self._concerns(workflow, event)
        ]

    def _concerns(self, workflow: Workflow, event: RecordedEvent) -> bool:
        today = self.registry.today(event.type, event.schema_version)
        return today is None or not today.isdisjoint(workflow.reactions)


def _state_of(event: RecordedEvent, reached: Reached, aside: Aside) -> str:
    if (event.partition, event.position) in aside:
        return "set aside"
    return "taken up" if event.position <= reached.get(event.partition, 0) else "not yet taken up"


def _without_partition(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "partition"}


def _with_instants(row: Any, *instants: str) -> dict[str, Any]:
    return {**row, **{name: format_instant(row[name]) for name in instants}}
