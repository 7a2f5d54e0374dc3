"""
Where the log stood at a time. Commit times never run backwards, so that is a prefix of every partition.
"""

from datetime import datetime

from event_store.log import EventLog


async def positions_at(log: EventLog, moment: datetime) -> dict[int, int]:
    """Return, by partition, the last position that was recorded at or before a time."""
    return {partition: await _position_at(log, partition, moment) for partition in log.partitions}


async def _position_at(log: EventLog, partition: int, moment: datetime) -> int:
    head = await log.head(partition)
    low, high = 0, head.last_position if head else 0
    while low < high:
        commit = await log.commit_of(partition, low + (high - low + 1) // 2)
        assert commit is not None
        if commit.recorded_at <= moment:
            low = commit.last_position
        else:
            high = commit.first_position - 1
    return low
