"""
Puts the keys of persons under another master key. Events stay as they are: they are encrypted with persons' keys.
"""

from collections.abc import Callable
from getpass import getuser
from socket import gethostname

from event_store.subject_keys import SubjectKeys
from infra.failpoints import failpoint
from infra.master_keys import MasterKeys

KEYS_TOGETHER_MAX = 500

Progress = Callable[[int], None]
"""Told how many keys have been rewrapped."""


async def rewrap_all(
    keys: SubjectKeys, masters: MasterKeys, reason: str, *, progress: Progress = lambda _done: None
) -> int:
    """
    Wrap every living key with the current master key, some at a time, and return how many there were.

    What is rewrapped does not come again, so an interrupted run goes on where it was.

    Raises:
        MasterKeyMissing: Keys are wrapped with a master key that is not configured any more.
    """
    await keys.record(f"{getuser()}@{gethostname()}", "keys rotate", "", reason)
    done = 0
    while True:
        current = await masters.current()
        found = await keys.wrapped_otherwise(current, KEYS_TOGETHER_MAX)
        if not found:
            return done
        clear = await masters.unwrap([key.wrapped for key in found if key.wrapped is not None])
        failpoint("keys.before_rewrap")
        done += await keys.rewrap(found, await masters.wrap(clear))
        progress(done)
