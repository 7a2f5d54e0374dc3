"""
What tells whether the cache speaks of the log's own history, and what is done where it does not.

After a restore the read tables may agree with the log and the cache with neither: it holds what was written from the
part that is lost. A new epoch makes a new era of the tables, and keys of the cache carry the era.
"""

from event_store.log import EventLog
from projectors.generations import Generations


class CacheHistory:
    """Keeps `projectors.documents.History` for a log and the database of its read tables."""

    def __init__(self, log: EventLog, generations: Generations) -> None:
        self._log = log
        self._generations = generations

    async def hash_prefix(self, partition: int, position: int) -> str | None:
        """Return the first digits of the hash of a position's commit; None when the log does not have it."""
        commit = await self._log.commit_of(partition, position)
        return commit.hash[:4].hex() if commit else None

    async def open_epoch(self, reason: str, era: str) -> None:
        """Have an era of the read tables end."""
        await self._generations.open_epoch(reason, era)
