"""
Checks a log as a whole: its chain, and against signed heads; takes new heads of what was found to be as written.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from event_store.heads import (
    HeadFault,
    Heads,
    SignedHeads,
    compare_heads,
    fault_document,
    has_heads,
    read_heads,
    sign_heads,
    write_heads,
)
from event_store.integrity import LogReport
from event_store.object_store import archive_of
from event_store.postgres import PostgresLog
from event_store.verification import Checked, verify_whole_log
from infra.settings import Settings
from infra.signing import SigningKey, checking_keys, signing_key
from schemas.messages import format_instant

Watch = Callable[[int], Checked]
"""Told how many events there are to check, returns what is told how far it is."""


def unwatched(_events: int) -> Checked:
    """Show nothing."""
    return lambda _partition, _events: None


@dataclass
class LogCheck:
    """What is to be checked, and what was found."""

    against: SignedHeads | None = None
    """Heads that the log must have."""
    since: SignedHeads | None = None
    """Heads up to which the chain was checked when they were made: only what follows is checked again."""
    export: Path | None = None
    key: SigningKey | None = None
    report: LogReport = field(default_factory=lambda: LogReport(True, 0))
    faults: list[HeadFault] = field(default_factory=list)
    seconds: float = 0.0
    exported: Path | None = None

    @classmethod
    def planned(
        cls, settings: Settings, *, against: Path | None, since: Path | None, export: Path | None
    ) -> "LogCheck":
        """
        Read all that is needed before anything is done.

        A series is only gone on with by a log that has what its newest heads name: heads of a restored log, added
        to it, would vouch for the restore.

        Raises:
            BadDefinition: A key is missing or is none.
            HeadsUnreadable: A file is none of signed heads.
        """
        if against is None and export is not None and export.is_dir() and has_heads(export):
            against = export
        return cls(
            read_heads(against) if against else None,
            read_heads(since) if since else None,
            export,
            signing_key(settings) if export else None,
        )

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return self.report.ok and not self.faults

    @property
    def uses_heads(self) -> bool:
        """Whether signed heads were looked at."""
        return self.against is not None or self.since is not None

    async def run(
        self, settings: Settings, log: PostgresLog, *, processes: int | None = None, watch: Watch = unwatched
    ) -> None:
        """Check; heads are exported only where everything holds, and only up to where the chain was recomputed."""
        began = time.monotonic()
        log_id, epoch = await log.identity()
        starts: Mapping[int, Any] = {}
        if self.since is not None:
            self.faults += await faults_of(self.since, settings, log)
            starts = {} if self.faults else self.since.heads.marks
        events = sum(mark.position for mark in (await log.heads()).values())
        checked = watch(events - sum(mark.position for mark in starts.values()))
        self.report = await verify_whole_log(
            log,
            settings.store_urls,
            settings.namespace,
            processes=processes,
            since=starts,
            archive=archive_of(settings),
            checked=checked,
        )
        if self.against is not None:
            found = await faults_of(self.against, settings, log)
            self.faults += [fault for fault in found if fault not in self.faults]
        self.seconds = time.monotonic() - began
        if self.export is not None and self.key is not None and self.ok:
            made_at = datetime.now(UTC)
            heads = Heads(settings.namespace, log_id, epoch, made_at, self.report.marks)
            self.exported = write_heads(self.export, sign_heads(heads, self.key), made_at)

    def log_document(self) -> dict[str, Any]:
        """Return what is said of the chain in JSON."""
        rate = self.report.events / self.seconds if self.seconds else 0.0
        return {
            **self.report.document(),
            "events": self.report.events,
            "seconds": round(self.seconds, 3),
            "events_per_second": round(rate),
        }

    def heads_document(self) -> dict[str, Any] | None:
        """Return what is said of signed heads in JSON; None where none were looked at or made."""
        if not self.uses_heads and self.export is None:
            return None
        heads = self.against or self.since
        return {
            "ok": not self.faults,
            "made_at": format_instant(heads.heads.made_at) if heads else None,
            "findings": [fault_document(fault) for fault in self.faults],
            "exported": str(self.exported) if self.exported else None,
        }


async def faults_of(signed: SignedHeads, settings: Settings, log: PostgresLog) -> list[HeadFault]:
    """Return what is wrong with heads, or with the log by them; unsigned ones say nothing of the log."""
    if fault := signed.fault(checking_keys(settings)):
        return [fault]
    log_id, epoch = await log.identity()
    return await compare_heads(log, settings.namespace, log_id, signed.heads, epoch=epoch)
