"""
Erasures of persons as operations: the key is destroyed at once, and the copies that were made of what it had encrypted
are scrubbed in steps, each of which is put down when it is done. Killed anywhere, an erasure is taken up where it was.

A person is named here by the hash that the key has, so that neither the rows nor the file of erasures hold an id. The
hash of an id that can be guessed can be guessed too: it keeps ids from being read, not from being looked for.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from event_store.key_ring import LOOK_SECONDS
from event_store.servers import Servers
from event_store.subject_keys import SYSTEM_TENANT, KeyName, Subject, SubjectKeys
from infra.failpoints import failpoint
from infra.sql import load_sql
from schemas.errors import MalformedRequest
from schemas.messages import ERASED, format_instant

FORGOTTEN_SECONDS = LOOK_SECONDS + 1.0
"""So long after a key is destroyed no process has it any more; the second is for clocks that do not run alike."""
FILE_NAME = "erasures.jsonl"
LINE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True)
class Erasure:
    """One person's erasure, and how far it is."""

    subject: Subject
    generation: int
    """The last generation of the key that was destroyed."""
    erased_at: datetime
    actor: str
    reason: str
    steps: Mapping[str, Any] = field(default_factory=dict)
    """What each step that is done has found."""
    ended_at: datetime | None = None
    age: timedelta = timedelta()
    """By the database's clock."""

    def line(self) -> bytes:
        """Return the erasure as a line of a file: what is needed to apply it again, and no personal data."""
        document = {
            "tenant": self.subject.tenant,
            "subject": self.subject.hash.hex(),
            "generation": self.generation,
            "erased_at": format_instant(self.erased_at),
            "actor": self.actor,
            "reason": self.reason,
        }
        return orjson.dumps(document) + b"\n"

    @property
    def forgotten_in_seconds(self) -> float:
        """How long to wait until no process has the key any more."""
        return max(0.0, FORGOTTEN_SECONDS - self.age.total_seconds())


class Erasures:
    """The operations, on the log's first server."""

    def __init__(self, servers: Servers) -> None:
        self.keys = SubjectKeys(servers)
        self._servers = servers
        self._first = servers.firsts()[0]

    async def begin(self, subject: Subject, actor: str, reason: str) -> None:
        """Destroy a person's key, in one transaction with the operation's row."""
        failpoint("erasure.before_destroy")
        await self.keys.destroy(subject, actor, reason)
        failpoint("erasure.after_destroy")

    async def apply(self, erasure: Erasure) -> None:
        """Destroy keys as an earlier erasure had, in a database that was restored."""
        await self.keys.destroy(
            erasure.subject,
            erasure.actor,
            erasure.reason,
            generation=erasure.generation,
            erased_at=erasure.erased_at,
        )

    async def of(self, subject: Subject) -> Sequence[Erasure]:
        """Return a person's erasures, oldest first."""
        return [_erasure(row) for row in await self._fetch("erasures", *subject, True)]

    async def all(self, *, ended: bool = True) -> Sequence[Erasure]:
        """Return all erasures, oldest first; or those that have not ended."""
        return [_erasure(row) for row in await self._fetch("erasures", None, None, ended)]

    async def note(
        self, erasure: Erasure, step: str, found: Mapping[str, Any], *, is_last: bool = False
    ) -> None:
        """Put down that a step is done."""
        await self._fetch(
            "note_erasure", *erasure.subject, erasure.generation, step, orjson.dumps(found).decode(), is_last
        )

    async def sweep(self) -> None:
        """Have the database take destroyed keys out of its pages; its write-ahead log and backups go with time."""
        sql = self._servers.sql("vacuum_subject_keys")
        await self._servers.read(self._first, lambda connection: connection.execute(sql))

    async def _fetch(self, query: str, *arguments: Any) -> Any:
        sql = self._servers.sql(query)
        return await self._servers.read(self._first, lambda connection: connection.fetch(sql, *arguments))


async def scrub_errors(
    pool: "asyncpg.Pool[Any]", namespace: str, tenant: str, streams: Sequence[str], commands: Sequence[str]
) -> dict[str, int]:
    """Take away what errors say that may quote a person's data; return how many there were, by where."""
    sql = partial(load_sql, "event_store", namespace=namespace)
    parked = await pool.fetch(sql("sql/queries/scrub_parked.sql"), tenant, list(streams), ERASED)
    scheduled = await pool.fetch(sql("sql/queries/scrub_scheduled.sql"), tenant, list(commands), ERASED)
    return {"dead_letters": len(parked), "scheduled_commands": len(scheduled)}


def write_down(folder: Path, erasure: Erasure) -> Path:
    """Add an erasure to the file in a folder, on disk when this returns; a line that is there twice does no harm."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, erasure.line())  # one call: lines of two processes do not mix
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path


def last_erasure(path: Path) -> Erasure | None:
    """
    Return the last erasure that a file holds; None where there is no file, or nothing whole in it yet.

    It stands for all of them: a database that has this one has those before it, as they were made one after another.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LINE_BYTES_MAX))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    return _read_line(lines[-1], path, "last") if lines and lines[-1] else None


async def is_lost(servers: Servers, erasure: Erasure) -> bool:
    """Say whether a database does not know of an erasure, because it was put back to before it."""
    last = KeyName(*erasure.subject, erasure.generation)
    found = await SubjectKeys(servers).find([last])
    return not found or found[0].wrapped is not None


def read_erasures(path: Path) -> Iterator[Erasure]:
    """
    Return the erasures that a file holds.

    Raises:
        MalformedRequest: A line is none; it is named. A last line that was cut short by a crash counts as none too.
        FileNotFoundError: There is no such file.
    """
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), b""), 1):
            yield _read_line(line, path, str(number))


def _read_line(line: bytes, path: Path, number: str) -> Erasure:
    try:
        members = orjson.loads(line)
        subject = Subject(str(members["tenant"]), bytes.fromhex(members["subject"]))
        if len(subject.hash) != 32 or subject.tenant == SYSTEM_TENANT:
            raise ValueError("no person")
        return Erasure(
            subject,
            int(members["generation"]),
            datetime.fromisoformat(members["erased_at"]),
            str(members["actor"]),
            str(members["reason"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedRequest(f"{path}, line {number} is no erasure: {error}") from error


async def apply_erasures(erasures: Erasures, path: Path) -> Sequence[Erasure]:
    """
    Destroy again what a file says was erased, and return what has to be scrubbed; see `everfold erase --from`.

    It is for a database that was restored to before an erasure. It may be done any number of times.
    """
    subjects = set()
    for erasure in read_erasures(path):
        subjects.add(erasure.subject)
        await erasures.apply(erasure)
    failpoint("erasure.after_apply")
    return [erasure for erasure in await erasures.all(ended=False) if erasure.subject in subjects]


def _erasure(row: Any) -> Erasure:
    return Erasure(
        Subject(row["tenant"], row["subject"]),
        row["generation"],
        row["erased_at"],
        row["actor"],
        row["reason"],
        orjson.loads(row["steps"]),
        row["ended_at"],
        row["age"],
    )
