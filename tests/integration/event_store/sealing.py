"""Events about members of a club, a log that seals what is personal in them, and short ways to say so."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from event_store.key_ring import KeyRing
from event_store.log import Append, Check, Expect, NewEvent
from event_store.postgres import PostgresLog
from event_store.sealed_log import SealedLog
from event_store.sealing import Sealer
from event_store.subject_keys import SubjectKeys
from infra.master_key_file import FileMasterKeys, development_file
from schemas import Event, Personal
from schemas.envelope import RecordedEvent
from schemas.messages import ERASED, Id, Text
from schemas.registry import Registry
from tests.contract.log.appends import METADATA, TENANT
from tests.contract.log.appends import event as plain_event
from tests.services import PARTITIONS


class MemberJoined(Event):
    member_id: Id
    phone: Annotated[Text | None, Personal("member_id", erased=ERASED)] = None
    note: Text | None = None


class MemberPaid(Event):
    cents: int


REGISTRY = Registry()
REGISTRY.add("club", [sys.modules[__name__]])
CANARY = "canary +49 228 1234"


def joined(member: str, phone: str | None = CANARY, *, tenant: str = TENANT, stream: str = "") -> Append:
    """Return an append of one member's joining, whatever the stream's version."""
    stream = stream or f"members/{member}"
    event = MemberJoined(member_id=member, phone=phone, note='ä\n"')
    new = plain_event(stream)._replace(type=event.type, data=event.encode())
    return Append(tenant, stream, [Check(stream, Expect.ANY)], [new], METADATA)


def paid(member: str) -> Append:
    """Return an append without anything personal."""
    stream = f"members/{member}"
    new: NewEvent = plain_event(stream, b'{"cents":1}', type="MemberPaid")
    return Append(TENANT, stream, [Check(stream, Expect.ANY)], [new], METADATA)


class Process:
    """What one process has: a log, a ring with a clock that tests move, and the log as it sees it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.now = 0.0
        self.stored = PostgresLog({range(PARTITIONS): url})
        self.keys = SubjectKeys(self.stored.servers)
        self.masters = FileMasterKeys(development_file(folder))
        self.ring = KeyRing(self.keys, self.masters, clock=self._clock)
        self.log = SealedLog(self.stored, Sealer(self.ring), REGISTRY)

    def _clock(self) -> float:
        return self.now

    async def append(self, *appends: Append) -> None:
        """Append all of one tenant in one commit."""
        partition = await self.stored.partition_of(appends[0].tenant)
        await self.log.append_batch(partition, appends)

    async def phones(self, member: str) -> list[str | None]:
        """Return what this process reads of a member's events."""
        return [
            today.phone
            async for event in self.log.read_stream(TENANT, f"members/{member}")
            for today in REGISTRY.decode(event.type, event.schema_version, event.data)
            if isinstance(today, MemberJoined)
        ]

    async def bytes_of(self, member: str) -> list[RecordedEvent]:
        """Return a member's events as they are stored."""
        return [event async for event in self.stored.read_stream(TENANT, f"members/{member}")]


@asynccontextmanager
async def process(url: str, folder: Path) -> AsyncIterator[Process]:
    """Keep a process for a block."""
    one = Process(url, folder)
    async with one.stored:
        yield one
