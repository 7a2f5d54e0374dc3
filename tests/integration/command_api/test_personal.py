"""Commands with personal fields: decided in the clear, stored sealed, and never decided on what was erased."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest

from command_api.decider import Context, Decider, Rules, States, To
from command_api.keys import fingerprint_of
from command_api.pipeline import Pipeline
from command_api.requests import Answer, CommandRequest
from command_api.scheduled import ScheduledCommands
from command_api.sealed_commands import SealedCommands
from command_api.workflow import Schedule
from command_api.workflow_rounds import Cause, Timer
from event_store.connections import StoreConnection, connect
from event_store.key_ring import LOOK_SECONDS, KeyRing
from event_store.log import StateTail
from event_store.postgres import PostgresLog
from event_store.sealed_log import SealedLog
from event_store.sealed_states import NOT_SAVED_SECONDS, SealedStates
from event_store.sealing import MARK, Sealer
from event_store.subject_keys import SubjectKeys, subject_of
from infra.auth import Principal
from infra.master_key_file import FileMasterKeys, development_file
from infra.master_keys import MasterKeysAway, Wrapped
from infra.pools import open_pool
from schemas import Command, Event, Personal
from schemas.envelope import Metadata
from schemas.errors import IdempotencyKeyReused, StreamsUnreadable
from schemas.messages import ERASED, Id, Text
from schemas.registry import Registry

TENANT = "acme"
CANARY = "canary +49 228 1234"
Phone = Annotated[Text | None, Personal("member_id", erased=ERASED)]


class JoinClub(Command, route="members/{member_id}/join", permission="clerk"):
    member_id: Id
    phone: Phone = None


class MoveHouse(Command, route="members/{member_id}/move", permission="clerk"):
    member_id: Id


class MemberJoined(Event):
    member_id: Id
    phone: Phone = None


class MemberMoved(Event):
    """Copies the phone out of the state: what must not bring back what was erased."""

    member_id: Id
    phone: Phone = None


@dataclass(frozen=True, slots=True)
class Member:
    phone: str | None = None


class Members(Decider[Member]):
    """The rules of members: none."""

    collection, initial = "members", Member()

    def decide(self, command: JoinClub | MoveHouse, states: States, context: Context) -> Sequence[Event | To]:
        if isinstance(command, JoinClub):
            return [MemberJoined(member_id=command.member_id, phone=command.phone)]
        return [MemberMoved(member_id=command.member_id, phone=states[command.stream].phone)]

    def evolve(self, state: Member, event: Any) -> Member:
        return replace(state, phone=event.phone)


REGISTRY = Registry()
REGISTRY.add("club", [sys.modules[__name__]])
CLERK = Principal(TENANT, "ann", ("clerk",))


class Masters(FileMasterKeys):
    """A provider that can be away."""

    away = False

    async def wrap(self, keys: Sequence[bytes]) -> Sequence[Wrapped]:
        if self.away:
            raise MasterKeysAway
        return await super().wrap(keys)


class Club:
    """One process of the club."""

    def __init__(self, url: str, folder: Path) -> None:
        self.now = 0.0
        self.stored = PostgresLog({range(8): url})
        self.keys = SubjectKeys(self.stored.servers)
        self.masters = Masters(development_file(folder))
        ring = KeyRing(self.keys, self.masters, clock=lambda: self.now)
        self.sealer = Sealer(ring)
        self.log = SealedLog(self.stored, self.sealer, REGISTRY)
        self.pipeline = Pipeline(
            self.log, Rules([Members()]), REGISTRY, sealer=self.sealer, events_between_saves=2
        )

    async def send(self, command: Command, key: str | None = None) -> Answer:
        """Carry out a command as a clerk."""
        return await self.pipeline.submit(CommandRequest(command, CLERK, key))

    async def phones(self, member: str) -> list[str | None]:
        """Return the phones in a member's events."""
        return [
            event.phone
            async for recorded in self.log.read_stream(TENANT, f"members/{member}")
            for event in REGISTRY.decode(recorded.type, recorded.schema_version, recorded.data)
            if isinstance(event, MemberJoined | MemberMoved)
        ]


@asynccontextmanager
async def club_at(url: str, folder: Path) -> AsyncIterator[Club]:
    club = Club(url, folder)
    async with club.stored:
        yield club
        await club.pipeline.close()


@pytest.fixture
async def club(store_url: str, tmp_path: Path) -> AsyncIterator[Club]:
    async with club_at(store_url, tmp_path) as one:
        yield one


@pytest.fixture
async def admin(store_url: str) -> AsyncIterator[StoreConnection]:
    connection = await connect(store_url)
    yield connection
    connection.terminate()


async def erase(club: Club, member: str) -> None:
    assert await club.keys.destroy(subject_of(TENANT, member), "ann", "asked to")


async def test_a_repeat_gets_the_first_answer_byte_for_byte(club: Club) -> None:
    command = JoinClub(member_id="m1", phone=f"{CANARY} ä\n\"'/ ")
    first = await club.send(command, "k1")
    again = await club.send(command, "k1")
    assert (first.error, again.error, again.replayed) == (None, None, True)
    assert again.events == first.events
    assert again.objects == first.objects
    assert CANARY.encode() in first.events[0].data
    (stored,) = [event async for event in club.stored.read_stream(TENANT, "members/m1")]
    assert MARK in stored.data
    other = await club.send(JoinClub(member_id="m1", phone="another"), "k1")
    assert isinstance(other.error, IdempotencyKeyReused)
    await erase(club, "m1")
    club.now += LOOK_SECONDS
    erased = await club.send(command, "k1")
    assert erased.replayed
    assert [event.phone for event in erased.objects if isinstance(event, MemberJoined)] == [ERASED]


async def test_the_fingerprint_of_a_key_cannot_be_guessed_from_the_database(
    club: Club, admin: StoreConnection, tmp_path: Path, store_url: str
) -> None:
    request = CommandRequest(JoinClub(member_id="m1", phone=CANARY), CLERK, "k1")
    await club.pipeline.submit(request)
    stored = await admin.fetchval("SELECT fingerprint FROM everfold.idempotency_keys")
    assert len(stored) == 32
    assert stored != fingerprint_of(request)
    async with club_at(store_url, tmp_path) as other:
        assert (await other.pipeline.submit(request)).replayed


async def test_nothing_is_decided_on_a_state_from_before_an_erasure(
    club: Club, store_url: str, tmp_path: Path
) -> None:
    async with club_at(store_url, tmp_path) as other:
        for member in ("m1", "m2", "m3"):
            assert (await club.send(JoinClub(member_id=member, phone=CANARY))).error is None
            assert (await other.send(MoveHouse(member_id=member))).error is None
        await erase(other, "m1")
        assert (await club.send(MoveHouse(member_id="m1"))).error is None  # under the old key, or as erased
        club.now += LOOK_SECONDS
        for _ in range(2):
            assert (await club.send(MoveHouse(member_id="m1"))).error is None
            assert (await other.send(MoveHouse(member_id="m2"))).error is None
        other.now += LOOK_SECONDS
        assert (await other.send(MoveHouse(member_id="m1"))).error is None
        assert set(await club.phones("m1")) == {ERASED}
        assert set(await club.phones("m2")) == {CANARY}


async def test_a_group_is_not_decided_on_a_state_from_before_an_erasure(
    club: Club, store_url: str, tmp_path: Path
) -> None:
    async with club_at(store_url, tmp_path) as other:
        assert (await club.send(JoinClub(member_id="m1", phone=CANARY))).error is None
        await erase(other, "m1")
        club.now += LOOK_SECONDS
        requests = [CommandRequest(MoveHouse(member_id="m1"), CLERK, f"g{number}") for number in range(3)]
        answers = await club.pipeline.submit_many(requests, atomic=True)
        assert [answer.error for answer in answers] == [None] * 3
        assert set(await club.phones("m1")) == {ERASED}


async def test_a_saved_state_is_encrypted_and_does_not_count_after_an_erasure(
    club: Club, store_url: str, tmp_path: Path, admin: StoreConnection
) -> None:
    await club.send(JoinClub(member_id="m1", phone=CANARY))
    for _ in range(3):
        await club.send(MoveHouse(member_id="m1"))
    async with asyncio.timeout(20):
        while not (states := await admin.fetch("SELECT state, version FROM everfold.snapshots")):
            await asyncio.sleep(0.05)
    assert CANARY.encode() not in states[0]["state"]
    partition = await club.log.partition_of(TENANT)
    tail = StateTail(TENANT, "members/m1", 0, await admin.fetchval("SELECT shape FROM everfold.snapshots"))
    read = await club.log.read_states(partition, [tail])
    assert CANARY.encode() in read.saved[0].state
    assert len(read.events) == 4 - states[0]["version"]
    async with club_at(store_url, tmp_path) as other:
        assert (await other.send(MoveHouse(member_id="m1"))).error is None
        assert await other.phones("m1") == [CANARY] * 5
    await erase(club, "m1")
    async with club_at(store_url, tmp_path) as late:
        read = await late.log.read_states(partition, [tail])
        assert (read.saved, len(read.events)) == ([], 5)
        assert (await late.send(MoveHouse(member_id="m1"))).error is None
        assert await late.phones("m1") == [ERASED] * 6
    assert await club.log.forget_states(TENANT, ["members/m1"]) == 1


async def test_no_state_is_saved_for_a_while_after_an_erasure(club: Club) -> None:
    now = 0.0
    states = SealedStates(club.sealer.ring, clock=lambda: now)
    assert states.may_save(1)
    states.moved(1)
    now = NOT_SAVED_SECONDS
    assert not states.may_save(1)
    assert states.may_save(2)
    now += 1
    assert states.may_save(1)


async def test_without_the_master_key_only_what_is_personal_waits(club: Club) -> None:
    club.masters.away = True
    commands = [JoinClub(member_id=f"m{number}", phone=CANARY if number % 2 else None) for number in range(6)]
    answers = await asyncio.gather(*map(club.send, commands))
    assert [type(answer.error) for answer in answers] == [type(None), MasterKeysAway] * 3
    club.masters.away = False
    assert (await club.send(commands[1])).error is None


async def test_a_value_that_does_not_open_makes_only_its_own_stream_unreadable(
    club: Club, store_url: str, tmp_path: Path, admin: StoreConnection
) -> None:
    for member in ("m1", "m2"):
        assert (await club.send(JoinClub(member_id=member, phone=CANARY))).error is None
    await admin.execute("DELETE FROM everfold.subject_keys WHERE subject = $1", subject_of(TENANT, "m1").hash)
    async with club_at(store_url, tmp_path) as other:
        moves = [MoveHouse(member_id=member) for member in ("m1", "m2")]
        answers = await other.pipeline.submit_many([CommandRequest(move, CLERK) for move in moves])
        assert [type(answer.error) for answer in answers] == [StreamsUnreadable, type(None)]


async def test_a_scheduled_command_is_kept_sealed_and_reads_as_erased(
    club: Club, store_url: str, admin: StoreConnection
) -> None:
    now = datetime.now(UTC)
    await club.send(JoinClub(member_id="m0"))
    (recorded,) = [event async for event in club.stored.read_stream(TENANT, "members/m0")]
    cause = Cause(recorded, Metadata("ann", (), "c", now, "x"))
    pool = await open_pool(store_url, name="test", size_max=2)
    timers = ScheduledCommands(pool, "everfold", "w", 0, SealedCommands(club.sealer, REGISTRY))
    command = JoinClub(member_id="m1", phone=CANARY)
    async with pool.acquire() as connection:
        await timers.write(connection, {(TENANT, "t"): Timer(Schedule("t", now, command), cause, 1)})
    kept = await admin.fetchval("SELECT fields FROM everfold.scheduled_commands")
    assert MARK in kept
    assert CANARY.encode() not in kept
    later = now + timedelta(seconds=1)
    (due,) = await timers.due(later, up_to_date=True)
    assert JoinClub.model_validate_json(due.fields) == command
    await erase(club, "m1")
    club.now += LOOK_SECONDS
    (due,) = await timers.due(later, up_to_date=True)
    assert JoinClub.model_validate_json(due.fields) == command.model_copy(update={"phone": ERASED})
    await pool.close()
