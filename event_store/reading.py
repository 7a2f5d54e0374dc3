"""
Reading a partition event by event, as far as it goes, without holding more than a page of it.

Who has to go on later where it stopped takes `EventLog.read_filtered`, and keeps the mark that it ends with.
"""

from collections.abc import AsyncIterator

from event_store.log import EVERYTHING, EventLog, Filter
from schemas.envelope import BEGINNING, CommitMark, RecordedEvent

READ_EVENTS_MAX = 500


async def read_partition(
    log: EventLog,
    partition: int,
    filter: Filter = EVERYTHING,
    *,
    after: CommitMark = BEGINNING,
    events_max: int = READ_EVENTS_MAX,
) -> AsyncIterator[RecordedEvent]:
    """
    Return a partition's events that match, oldest first, until there are no more; `events_max` are held at a time.

    Raises:
        EpochChanged: The log does not have the commit that was reached.
    """
    while True:
        matches = await log.read_filtered(partition, after, filter, events_max=events_max)
        for event in matches.events:
            yield event
        if matches.end == after:
            return
        after = matches.end
