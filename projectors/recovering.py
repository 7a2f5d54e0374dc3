"""
Erases again whom a restored database has forgotten to have erased: the step that `everfold recover` takes for persons.

Keys are destroyed first, all of them, and then what the database has copied of their data is scrubbed. Read tables that
rest on lost events cannot be folded anew before they are rebuilt, and a rebuild reads the log with the keys that are
left; the scrubbing of the rest is then taken up by `everfold erase --unfinished`, and the report says so.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from event_store.erasures import FILE_NAME, Erasure, Erasures, apply_erasures
from event_store.recovery import Recovery
from projectors.erasure import LATE_SECONDS, Office
from projectors.read_side import open_read_side
from schemas.errors import EpochChanged


class ErasingAgain:
    """Keeps `event_store.recovery.Step`."""

    claims: Sequence[str] = (FILE_NAME, "erasures-*.jsonl")

    def __init__(self, late_seconds: float = LATE_SECONDS) -> None:
        self._late_seconds = late_seconds

    async def __call__(self, recovery: Recovery) -> dict[str, Any]:
        """Destroy again the keys that files say were destroyed, and scrub."""
        files = self._files(recovery)
        async with open_read_side(recovery.settings, name="recover") as side:
            erasures = Erasures(side.log.servers)
            forgotten: dict[tuple[Any, int], Erasure] = {}
            for file in files:
                for erasure in await apply_erasures(erasures, file):
                    forgotten[erasure.subject, erasure.generation] = erasure
            office, waiting = Office(side, erasures, late_seconds=self._late_seconds), 0
            for erasure in forgotten.values():
                try:
                    await office.carry_out(erasure)
                except EpochChanged:
                    waiting += 1
        return {"files": [str(file) for file in files], "erased": len(forgotten), "to_be_scrubbed": waiting}

    def _files(self, recovery: Recovery) -> Sequence[Path]:
        """Return the files of erasures: those beside the heads, and the one that erasures are written to."""
        found = [file for pattern in self.claims for file in sorted(recovery.folder.glob(pattern))]
        folder = recovery.settings.erasures_dir
        if folder is not None and (folder / FILE_NAME).exists():
            found.append(folder / FILE_NAME)
        return list({file.resolve(): file for file in found}.values())


STEP = ErasingAgain()
