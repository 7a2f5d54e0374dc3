"""
What happens to whom and when: drawn from a seed, so that a run can be repeated.

Each process has lives. A life ends at a failpoint that is armed for it, or by SIGKILL after a time, whichever comes
first; some stand still for longer than a lease before. Beside that a client does mischief in the broker.
"""

import random
from dataclasses import dataclass
from enum import StrEnum

LIFE_SECONDS_MIN, LIFE_SECONDS_MAX = 0.2, 6.0
"""Counted from when the process answers."""
FREEZE_SECONDS = 8.0
"""Longer than a lease."""
FREEZE_SHARE, FAILPOINT_SHARE = 0.04, 0.6
HIT_MAX = 6
MISCHIEF_PAUSE_SECONDS = 1.5

FAILPOINTS = {
    "relay": ("relay.before_publish", "relay.after_publish", "relay.after_confirm"),
    "projector": (
        "feed.delivered", "projector.before_commit", "projector.after_commit", "projector.before_cache",
    ),
    "workflow": (
        "feed.delivered", "workflow.before_send", "workflow.after_send", "workflow.before_commit",
        "workflow.after_commit", "append.before_send", "append.after_reply",
    ),
}  # fmt: skip


class Mischief(StrEnum):
    """What is done to a feed's queue."""

    PURGE = "purge"
    DELETE = "delete"
    STEAL = "steal"
    """Take messages out of it: lost, or put back late, doubled and in another order."""
    REPEAT = "repeat"
    """Put in messages that were stolen long ago."""
    FORGE = "forge"


@dataclass(frozen=True, slots=True)
class Life:
    """What one life of a process is to meet."""

    failpoint: str | None
    seconds: float
    freezes: bool


def life_of(seed: int, role: str, instance: int, number: int) -> Life:
    """Return what the n-th life of a process is to meet."""
    chance = random.Random(f"{seed}/{role}/{instance}/{number}")
    failpoint = None
    if chance.random() < FAILPOINT_SHARE:
        failpoint = f"{chance.choice(FAILPOINTS[role])}=kill@{chance.randint(1, HIT_MAX)}"
    return Life(failpoint, chance.uniform(LIFE_SECONDS_MIN, LIFE_SECONDS_MAX), chance.random() < FREEZE_SHARE)


def mischief_of(seed: int, number: int, queues: int) -> tuple[Mischief, int]:
    """Return the n-th mischief and the number of the queue that it befalls."""
    chance = random.Random(f"{seed}/mischief/{number}")
    return chance.choice(list(Mischief)), chance.randrange(queues)
