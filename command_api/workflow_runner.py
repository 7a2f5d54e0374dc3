"""
Runs workflows on the log: a page's events become reactions, their steps become commands, and what is left to
write is committed together with the checkpoint.

A crash anywhere takes the page again. Commands that were accepted then answer as they did the first time, because
their keys are derived from (workflow, event, step); refusals and reads are told again from notes; timers and the
checkpoint are one transaction. So each effect happens once. Effects happen only here, never in a replay of
projections, which knows nothing of workflows.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from command_api.outgoing import write_messages
from command_api.scheduled import DUE_MAX, SEEN_SECONDS_MAX, Due, Firing, ScheduledCommands
from command_api.sealed_commands import SealedCommands
from command_api.timekeeper import Timekeeper
from command_api.workflow import Trigger, Workflow
from command_api.workflow_carrier import PipelineCarrier, Sender
from command_api.workflow_rounds import Cause, Effects, Rounds, Take
from command_api.workflow_store import Loaded, WorkflowStore
from event_store.arrivals import has_moves
from event_store.checkpoints import Checkpoint, Checkpoints, Connection
from event_store.consumer import Held, Member, pass_over, recorded_at_of
from event_store.feed import until
from event_store.log import EventLog, Page
from event_store.role import STANDS_STILL
from event_store.sealing import Sealer
from infra.failpoints import failpoint
from infra.telemetry import Counter, log, span
from schemas import Event
from schemas.envelope import Metadata, RecordedEvent
from schemas.errors import StoreUnavailable, UnknownEvent
from schemas.moves import TenantLeft
from schemas.registry import Registry

KIND = "workflow"
Decoded = tuple[RecordedEvent, Sequence[Event]]
"""An event as the log has it, and as what it is read today."""
REACTIONS = Counter("everfold_workflow_reactions_total", "Reactions of workflows", ["workflow", "outcome"])


@dataclass(frozen=True)
class Surroundings:
    """What all workflows of a process work with."""

    event_log: EventLog
    sender: Sender
    registry: Registry
    pool: "asyncpg.Pool[Any]"
    namespace: str
    checkpoints: Checkpoints
    timekeeper: Timekeeper
    sealer: Sealer | None = None
    """What personal fields of scheduled commands are sealed with."""
    told: Callable[[], None] = lambda: None
    """Called when messages to the outside world are committed."""


class WorkflowMember(Member):
    """One workflow in one partition."""

    def __init__(self, workflow: Workflow, partition: int, around: Surroundings) -> None:
        self.workflow, self.workflow_name, self.partition = workflow, workflow.name, partition
        self.checkpoint = Checkpoint(KIND, workflow.name, partition)
        self.checkpoints = around.checkpoints
        self._around = around
        self._store = WorkflowStore(around.pool, around.namespace, workflow, partition)
        sealed = None if around.sealer is None else SealedCommands(around.sealer, around.registry)
        self._timers = ScheduledCommands(around.pool, around.namespace, workflow.name, partition, sealed)
        self._firing = Firing(workflow, self._timers, around.sender, around.registry)
        self._busy = asyncio.Lock()
        """Pages, timers and released events take turns, so that no timer overtakes the event that forgets it."""
        self._concerned: dict[tuple[str, int], bool] = {}
        around.timekeeper.join(self)

    def idle(self, page: Page) -> bool:
        """Say whether the workflow reacts to nothing in a page, and this program knows all of it."""
        return not any(map(self._concerns, page.events))

    async def take(self, page: Page) -> None:
        """
        React to a page's events, and move the checkpoint to its end.

        Raises:
            Held: An event is in it that this program does not know; what comes before it has been taken.
        """
        decoded, unknown = self._decode(page)
        if unknown is not None:
            page = until(page, unknown.position - 1)
            decoded = [(event, facts) for event, facts in decoded if event.position <= page.end.position]
        if page.end.position > page.after.position:
            async with self._busy:
                await self._take(page, decoded)
        if unknown is not None:
            raise unknown

    def _decode(self, page: Page) -> tuple[Sequence[Decoded], Held | None]:
        """Return the events that the workflow reacts to, up to the first that this program does not know."""
        decoded: list[Decoded] = []
        for event in page.events:
            if self._concerns(event):
                try:
                    facts = self._around.registry.decode(event.type, event.schema_version, event.data)
                except UnknownEvent as unknown:
                    return decoded, Held(self.workflow_name, self.partition, event.position, str(unknown))
                decoded.append((event, facts))
        return decoded, None

    def _concerns(self, event: RecordedEvent) -> bool:
        """Say whether the workflow may react to a stored event: to what it is read as today, or it is not known."""
        place = event.type, event.schema_version
        concerned = self._concerned.get(place)
        if concerned is None:
            today = self._around.registry.today(*place)
            concerned = today is None or not today.isdisjoint(self.workflow.reactions)
            self._concerned[place] = concerned
        return concerned

    async def _take(self, page: Page, decoded: Sequence[Decoded]) -> None:
        effects, noted, now = Effects(), set[int](), None
        if decoded:
            loaded = await self._store.load(decoded[0][0].position, decoded[-1][0].position)
            now = loaded.now
            with span("workflow", workflow=self.workflow_name, partition=self.partition, events=len(decoded)):
                effects, noted = await self._react(list(self._takes(decoded, loaded.now)), loaded)
        failpoint("workflow.before_commit")
        await self._commit(page, effects, noted)
        self.checkpoint.mark = page.end
        failpoint("workflow.after_commit")
        self._note(effects, now)

    async def _commit(self, page: Page, effects: Effects, noted: Set[int]) -> None:
        """Write what reactions leave behind with the checkpoint's move; mostly they leave nothing."""
        pool, checkpoints = self._around.pool, self._around.checkpoints
        if not (effects.leaves_something or noted or has_moves(page)):
            await checkpoints.advance(pool, self.checkpoint, page.end, recorded_at_of(page))
            return
        async with pool.acquire() as connection, connection.transaction():
            await self._write(connection, effects, noted)
            if has_moves(page):
                await self._follow_moves(connection, page)
            await checkpoints.advance(connection, self.checkpoint, page.end, recorded_at_of(page))

    async def _follow_moves(self, connection: Connection, page: Page) -> None:
        """
        Hand the timers of tenants over that leave, and take those over of who arrives, with the checkpoint's move.

        In between nobody fires them: who has not taken up what came before could not know what would forget them.
        """
        for event in page.events:
            if event.type == TenantLeft.type:
                to_partition = TenantLeft.model_validate_json(event.data).to_partition
                await self._hand_over(connection, event.tenant, to_partition)
        if (arrival := page.arrival) is not None:
            await self._timers.take_over(connection, arrival.tenant)

    async def _hand_over(self, connection: Connection, tenant: str, to_partition: int) -> None:
        """Hand a tenant's timers over to another partition, to be fired once its arrival there is taken."""
        stay = (await self._around.event_log.residences_of(tenant)).of(to_partition)
        await self._timers.hand_over(connection, tenant, to_partition, stay and stay.first_position)

    async def _hand_on(self, connection: Connection, tenants: Set[str]) -> None:
        """
        Hand on the timers that reactions to events of before a tenant's move have set after it.

        Raises:
            StoreUnavailable: A tenant is on its way; it is not known yet where its timers belong.
        """
        for tenant in sorted(tenants):
            residences = await self._around.event_log.residences_of(tenant)
            if residences.is_moving:
                raise StoreUnavailable
            if residences.present.partition != self.partition:
                await self._hand_over(connection, tenant, residences.present.partition)

    async def _write(self, connection: Connection, effects: Effects, noted: Set[int]) -> None:
        """Write what reactions leave behind, in the connection's transaction."""
        await self._timers.write(connection, effects.timers)
        if effects.messages:
            await write_messages(
                connection, self._around.namespace, self.partition, self.workflow_name, effects.messages
            )
        await self._store.write(connection, effects, sorted(noted))

    def _takes(self, decoded: Sequence[Decoded], now: datetime) -> Iterator[Take]:
        for event, facts in decoded:
            metadata = Metadata.decode(event.metadata)
            for part, today in enumerate(facts):
                if today.type in self.workflow.reactions:
                    trigger = Trigger(
                        today, event.stream, event.version, event.position, event.recorded_at,
                        metadata.occurred_at, now, event.tenant,
                    )  # fmt: skip
                    yield Take(Cause(event, metadata, part), trigger)

    async def _react(self, takes: Sequence[Take], loaded: Loaded) -> tuple[Effects, set[int]]:
        """Carry the reactions through; return what is to be written, and the events that have notes."""
        around = self._around
        carrier = PipelineCarrier(
            self.workflow_name, self.partition, around.sender, around.event_log, around.registry,
            self._store, loaded.notes,
        )  # fmt: skip
        effects = await Rounds(self.workflow, carrier, held=loaded.held).run(takes)
        noted = carrier.noted
        if loaded.notes:
            noted = noted | {take.cause.recorded.position for take in takes}
        return effects, noted

    def _note(self, effects: Effects, now: datetime | None) -> None:
        """Tell whom it concerns what was committed; `now`: when what was taken up was."""
        due = [timer.schedule.at for timer in effects.timers.values() if timer is not None]
        if due and now is not None:
            self._around.timekeeper.set_for((min(due) - now).total_seconds())
        if effects.messages:
            self._around.told()
        if effects.done:
            REACTIONS.labels(self.workflow_name, "done").inc(len(effects.done))
        for aside in effects.set_aside:
            REACTIONS.labels(self.workflow_name, "failed" if aside.error else "waiting").inc()
            if aside.error is not None:
                log.error(
                    "reaction failed, its key is on hold",
                    workflow=self.workflow_name, tenant=aside.take.trigger.tenant, key=aside.key,
                    position=aside.take.trigger.position, exc_info=aside.error,
                )  # fmt: skip

    # -- timers, and what was set aside -------------------------------------------------------------------

    async def fire_due(self, now: datetime) -> bool:
        """Fire what is due at a time; False when some of it has to wait until the workflow has caught up."""
        async with self._busy:
            while True:
                head = await self._around.event_log.head(self.partition)
                up_to_date = head is None or self.checkpoint.mark.position >= head.last_position
                due = await self._see_due(now, up_to_date=up_to_date)
                if due and not await self._firing.fire(due, seen_at=time.monotonic()):
                    return False
                if len(due) < DUE_MAX:
                    return up_to_date

    async def _see_due(self, now: datetime, *, up_to_date: bool) -> Sequence[Due]:
        """Return what is due; asked again where this process may have stood still while it was asked."""
        asked_at = time.monotonic()
        due = await self._timers.due(now, up_to_date=up_to_date)
        if time.monotonic() - asked_at > SEEN_SECONDS_MAX:
            due = await self._timers.due(now, up_to_date=up_to_date)
        return due

    async def take_released(self) -> bool:
        """Take up set-aside events that an operator lets go on, key by key, oldest first."""
        async with self._busy:
            released = await self._store.released()
            if not released:
                return True
            positions = sorted({parked.position for parked in released})
            places = {parked.place for parked in released}
            loaded = await self._store.load(positions[0], positions[-1])
            decode = self._around.registry.decode
            decoded = [
                (event, decode(event.type, event.schema_version, event.data))
                for position in positions
                for event in await self._around.event_log.read_range(self.partition, position, position)
            ]
            takes = [
                take
                for take in self._takes(decoded, loaded.now)
                if (take.trigger.tenant, self.workflow.key(take.trigger)) in places
            ]
            loaded = loaded._replace(held=loaded.held - places)
            effects, noted = await self._react(takes, loaded)
            failpoint("released.before_commit")
            async with self._around.pool.acquire() as connection, connection.transaction():
                await self._store.hold(connection, self.checkpoint)
                await self._store.unpark(connection, effects.done, sorted(places))
                await self._write(connection, effects, noted)
                await self._hand_on(connection, {tenant for tenant, _ in effects.timers})
            self._note(effects, loaded.now)
            return True

    async def close(self) -> None:
        """Let go of the timers."""
        self._around.timekeeper.leave(self)


class WorkflowMembers:
    """The workflows of the loaded domains, the same for as long as the process lives."""

    def __init__(self, workflows: Sequence[Workflow], around: Surroundings) -> None:
        self._workflows, self._around = workflows, around

    def generation(self) -> int:
        """Return the same number always."""
        return 0

    def of(self, partition: int) -> Sequence[Member]:
        """Return a member for each workflow."""
        return [WorkflowMember(workflow, partition, self._around) for workflow in self._workflows]

    async def pass_over(self, idle: Sequence[Member], page: Page) -> Collection[Checkpoint]:
        """Move checkpoints in one statement."""
        return await pass_over(self._around.checkpoints, idle, page)

    async def epoch_changed(self, member: Member) -> str:
        """Say what people must do: its effects may be lost as well, so the workflow stands still."""
        return STANDS_STILL
