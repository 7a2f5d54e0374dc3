"""
Takes up a log again that was restored, or that has lost its end.

The order is: verify the log, have it keep to its tenants' moves (lost_moves.py), apply what must be applied again
(erasures), set back what follows the log, open a new epoch, and only then add heads of that epoch to the folder, on
which every role goes on to serve. Killed at any step it leaves a log that is still `restored-unverified`; run again it
does the rest.

Other parts take a step of their own by an entry point in the group `everfold.recover`: a function of `Recovery` that
returns what is to stand in the report under its name. It runs once the log is verified and before anything is served,
may run several times, and ends the recovery with an exception if it could not do its work. A file in the folder of
heads that is neither heads nor claimed by a step ends it too: an erasure that nobody can apply must not be passed over.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from getpass import getuser
from importlib.metadata import entry_points
from pathlib import Path
from socket import gethostname
from typing import Any, Protocol

import asyncpg
import orjson

from event_store.heads import (
    FILE_PREFIX,
    Finding,
    HeadFault,
    Heads,
    SignedHeads,
    fault_document,
    read_heads,
    series_in,
    sign_heads,
    write_heads,
)
from event_store.log import Commit
from event_store.log_check import LogCheck, Watch, faults_of, unwatched
from event_store.lost_moves import LostMoves, MovesKept, refusals
from event_store.postgres import PostgresLog
from infra.failpoints import failpoint
from infra.settings import Settings
from infra.signing import SigningKey, checking_keys, signing_key
from infra.sql import load_sql
from schemas.envelope import BEGINNING, CommitMark
from schemas.errors import BadDefinition, Rejection

GROUP = "everfold.recover"
FOLLOWERS = ("workflow", "relay")
"""What is set back; projections are built anew instead, since their rows rest on what was lost."""
REFUSED = frozenset({Finding.UNKNOWN_KEY, Finding.FORGED_SIGNATURE, Finding.FOREIGN_LOG})


@dataclass(eq=False)
class NotRecoverable(Rejection):
    """What was restored is not taken up again: it is not a sound copy of this log, or the heads are not its own."""

    said: str

    def detail(self) -> str:
        """Return what is wrong."""
        return self.said


@dataclass
class Recovery:
    """A recovery under way, as its steps see it."""

    settings: Settings
    log: PostgresLog
    pool: "asyncpg.Pool[Any]"
    """Of the read tables' database."""
    folder: Path
    """Where heads are kept, and beside them whatever else is kept outside of the database."""
    heads: Heads
    ends: Mapping[int, CommitMark]
    """Where each partition of the verified log ends."""
    faults: Sequence[HeadFault]
    kept: Sequence[MovesKept] = ()
    """What was found of tenants that have moved."""
    report: dict[str, Any] = field(default_factory=dict)


class Step(Protocol):
    """Something that must be done again before a restored log is served."""

    claims: Sequence[str]
    """Patterns of the files in the folder that it takes care of, such as `erasures-*.json`."""

    async def __call__(self, recovery: Recovery) -> Any:
        """Do it, and return what is to be reported."""
        ...


def installed_steps() -> Mapping[str, Step]:
    """Return the steps that other parts bring, by name."""
    return {
        entry.name: entry.load() for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    }


Say = Callable[[str], None]


async def recover(
    settings: Settings,
    log: PostgresLog,
    pool: "asyncpg.Pool[Any]",
    folder: Path,
    *,
    reason: str | None,
    steps: Mapping[str, Step],
    watch: Watch = unwatched,
    say: Say = lambda _line: None,
) -> dict[str, Any]:
    """
    Take a restored log up again, and return the report of what was lost and done.

    Raises:
        NotRecoverable: The chain is broken, the heads are another log's or not to be trusted, a file is unclaimed, or a
            tenant that had moved was written in two partitions since the restore.
        BadDefinition: The key to sign the new heads with is missing.
        HeadsUnreadable: The folder holds no heads.
    """
    key, signed = signing_key(settings), read_heads(folder)
    require_trusted(key, settings)
    require_claimed(folder, steps)
    faults = await _verify(settings, log, signed, watch)
    ends = await log.heads()
    work = Recovery(settings, log, pool, folder, signed.heads, ends, faults)
    work.report["heads"] = {"made_at": signed.heads.made_at.isoformat(), "epoch": signed.heads.epoch}
    work.report["lost"] = lost_of(signed.heads, ends, faults)
    say("the log is verified")
    failpoint("recover.verified")
    work.kept = await _keep_to_moves(log)
    work.report["tenants"] = [one.document() for one in work.kept]
    failpoint("recover.moves")
    work.report["steps"] = {name: await step(work) for name, step in steps.items()}
    failpoint("recover.steps")
    work.report["followers"] = await set_back(work, await _common(work))
    failpoint("recover.set_back")
    epoch = await open_epoch(work, reason)
    say(f"epoch {epoch} is open")
    failpoint("recover.epoch")
    log_id, _ = await log.identity()
    made_at = datetime.now(UTC)
    heads = Heads(settings.namespace, log_id, epoch, made_at, ends)
    file = write_heads(folder, sign_heads(heads, key), made_at)
    return {"epoch": epoch, "exported": str(file), **work.report}


def require_trusted(key: SigningKey, settings: Settings) -> None:
    """
    See that who checks will believe the heads that are to be signed.

    Raises:
        BadDefinition: The key's public half is not among those to check with.
    """
    if key.public.id not in checking_keys(settings):
        raise BadDefinition(
            "EVERFOLD_HEADS_PUBLIC_KEYS", f"lacks the key {key.public.id} that heads are signed with"
        )


def require_claimed(folder: Path, steps: Mapping[str, Step]) -> None:
    """
    See that every file beside the heads is taken care of by some step.

    Raises:
        NotRecoverable: One is not: what it asks for would not be done again.
    """
    for file in sorted(folder.iterdir()):
        known = file.name.startswith((FILE_PREFIX, "."))
        if not known and not any(file.match(pattern) for step in steps.values() for pattern in step.claims):
            raise NotRecoverable(
                f"{file.name} stands beside the heads, and no installed step of the recovery takes care of it"
            )


async def _verify(
    settings: Settings, log: PostgresLog, signed: SignedHeads, watch: Watch
) -> Sequence[HeadFault]:
    faults = await faults_of(signed, settings, log)
    if refused := [fault for fault in faults if fault.finding in REFUSED]:
        raise NotRecoverable(f"{refused[0].finding}: {refused[0].said}")
    check = LogCheck()
    await check.run(settings, log, watch=watch)
    if bad := check.report.first_bad:
        raise NotRecoverable(
            f"partition {bad.partition}, position {bad.position}: {bad.reason}; restore a copy whose chain holds"
        )
    return faults


async def _keep_to_moves(log: PostgresLog) -> Sequence[MovesKept]:
    """Put up again what servers have lost of tenants' moves, before anybody asks where a tenant lives."""
    moves = LostMoves(log, actor=_who(), reason="lost in a restore, and put up again")
    kept = await moves.put_up_again()
    if refused := refusals(kept):
        raise NotRecoverable("; ".join(refused))
    return kept


def _who() -> str:
    return f"{getuser()}@{gethostname()}"


def lost_of(
    heads: Heads, ends: Mapping[int, CommitMark], faults: Sequence[HeadFault]
) -> list[dict[str, Any]]:
    """Return by partition what is known to be lost: more may be, as the log had grown after the heads were made."""
    return [
        fault_document(fault)
        | {
            "log_ends_at": ends[fault.partition].position,
            "heads_ended_at": heads.marks[fault.partition].position,
        }
        for fault in faults
        if fault.partition is not None
    ]


async def _common(work: Recovery) -> Mapping[int, Commit | None]:
    """
    Return by partition the last commit that is known to be of both histories, the log's and what followed it.

    Where nothing was written since, that is the log's end. Where something was, it is the newest head of the
    series that the log has; without one it is the log's end too, and the report says that it was not known.
    """
    rewritten = {fault.partition for fault in work.faults if fault.finding is Finding.REWRITTEN}
    common: dict[int, Commit | None] = {}
    for partition, end in work.ends.items():
        mark = end
        if partition in rewritten:
            known = await _newest_kept(work, partition)
            work.report.setdefault("rewritten", {})[str(partition)] = known.position if known else None
            mark = known or end
        common[partition] = await work.log.commit_of(partition, mark.position) if mark.position else None
    return common


async def _newest_kept(work: Recovery, partition: int) -> CommitMark | None:
    keys = checking_keys(work.settings)
    for file in reversed(series_in(work.folder)):
        signed = read_heads(file)
        mark = signed.heads.marks.get(partition, BEGINNING)
        if signed.fault(keys) is None and mark.position:
            commit = await work.log.commit_of(partition, mark.position)
            if commit is not None and commit.mark == mark:
                return mark
    return None


async def set_back(work: Recovery, common: Mapping[int, Commit | None]) -> dict[str, Any]:
    """
    Put back what rests on lost events, in one transaction; projections are only told that they are to be built anew.
    """

    def sql(name: str) -> str:
        return load_sql("event_store", f"sql/queries/{name}.sql", namespace=work.settings.namespace)

    done: dict[str, Any] = {"set_back": [], "rebuilt": [], "forgotten": {}}
    lost_partitions: set[int] = set()
    async with work.pool.acquire() as connection, connection.transaction():
        for row in await connection.fetch(sql("checkpoints_of_log")):
            partition, mark = row["partition"], CommitMark(row["position"], row["commit_hash"])
            commit = await work.log.commit_of(partition, mark.position)
            if commit is not None and commit.mark == mark:
                continue
            kind, consumer, generation = row["kind"], row["consumer"], row["generation"]
            where = f"{kind} {consumer} in partition {partition}"
            lost_partitions.add(partition)
            if kind in FOLLOWERS:
                to = common[partition]
                place = to.mark if to else BEGINNING
                await connection.execute(
                    sql("set_back_checkpoint"), kind, consumer, generation, partition,
                    place.position, place.hash, to.recorded_at if to else None,
                )  # fmt: skip
                done["set_back"].append(f"{where}: from {mark.position} to {place.position}")
            elif kind == "projection":
                words = (
                    f"it rests on the commit at {mark.position}, which is lost: it is built anew from the log"
                )
                await connection.execute(sql("note_void"), consumer, generation, partition, words)
                done["rebuilt"].append(f"{consumer} generation {generation} in partition {partition}")
        for partition in sorted(lost_partitions):
            await _forget(work, connection, partition, common[partition], done["forgotten"])
        for kept in work.kept:
            for left in kept.torn:
                await _forget_taken_along(work, connection, kept, common[left], done["forgotten"])
    return done


async def _forget(
    work: Recovery, connection: Any, partition: int, common: Commit | None, forgotten: dict[str, int]
) -> None:
    """Forget what stands for lost events: other events may come to stand at their positions."""
    namespace = work.settings.namespace
    last = common.last_position if common else 0
    for table in ("workflow_answers", "parked_events", "skipped_events", "outgoing_messages"):
        statement = load_sql("event_store", f"sql/queries/forget_lost_{table}.sql", namespace=namespace)
        if rows := await connection.fetch(statement, partition, last):
            forgotten[table] = forgotten.get(table, 0) + len(rows)
    await _forget_timers(work, connection, partition, _end_of(common), [partition], forgotten)


async def _forget_taken_along(
    work: Recovery, connection: Any, kept: MovesKept, common: Commit | None, forgotten: dict[str, int]
) -> None:
    """
    Forget timers that lost events had set, and that went along with their tenant to where it lives.

    Where events since then may be archived already, timers stay: which events had set them is not known then.
    """
    since, lived = _end_of(common), [stay.partition for stay in await work.log.residences_of(kept.tenant)]
    for partition in lived:
        if end := await work.log.archived_to(partition):
            commit = await work.log.commit_of(partition, end)
            if commit is None or commit.recorded_at >= since:
                return
    for partition in (kept.partition, -1 - kept.partition):  # on their way they stand below zero
        await _forget_timers(work, connection, partition, since, lived, forgotten, tenant=kept.tenant)


async def _forget_timers(
    work: Recovery,
    connection: Any,
    partition: int,
    since: datetime,
    known_in: Sequence[int],
    forgotten: dict[str, int],
    *,
    tenant: str | None = None,
) -> None:
    """Forget a partition's timers of which no event of some partitions is the cause; all of them, or one tenant's."""
    sql = partial(load_sql, "event_store", namespace=work.settings.namespace)
    rows = await connection.fetch(sql("sql/queries/timers_since.sql"), partition, since)
    timers = [row for row in rows if tenant in (None, row["tenant"])]
    known: set[str] = set()
    for one in known_in:
        known |= await work.log.known_events(one, [row["causation_id"] for row in timers])
    for row in timers:
        if row["causation_id"] not in known:
            place = partition, row["workflow"], row["tenant"], row["key"]
            await connection.execute(sql("sql/queries/forget_timer.sql"), *place)
            forgotten["timers"] = forgotten.get("timers", 0) + 1


def _end_of(common: Commit | None) -> datetime:
    return common.recorded_at if common else datetime.fromtimestamp(0, UTC)


async def open_epoch(work: Recovery, reason: str | None) -> int:
    """Open the next epoch on every server of the log and in the read tables' database, all with one number."""
    settings = work.settings
    statement = load_sql("event_store", "sql/queries/open_epoch.sql", namespace=settings.namespace)
    urls = dict.fromkeys([*settings.store_urls.values(), settings.read_url_or_store])
    connections = [await asyncpg.connect(url) for url in urls]
    try:
        last = f"SELECT coalesce(max(epoch), 0) FROM {settings.namespace}.epochs"
        epochs = [await connection.fetchval(last) for connection in connections]
        epoch: int = max(*epochs, work.heads.epoch) + 1
        report = orjson.dumps(work.report, default=str).decode()
        for connection in connections:
            await connection.execute(statement, epoch, _who(), reason, report, None)
    finally:
        for connection in connections:
            await connection.close()
    return epoch
