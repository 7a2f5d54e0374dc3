"""
Remembers what was made of the last events, for folds that need the same of an event for several rows.

An order of a thousand items touches a thousand rows, and a receipt touches four rows of two projections; without this
each of them would work the event out again, for its keys and for its change.
"""

from collections.abc import Callable
from typing import Any, TypeVar

EVENTS_MAX = 1_024
"""As many as a page of the log has; all are forgotten at once when there are more."""

Result = TypeVar("Result")


def once_per_event(function: Callable[[Any], Result]) -> Callable[[Any], Result]:
    """Return a pure function of an event that is not called again for one of the last event objects."""
    known: dict[int, tuple[Any, Result]] = {}

    def remembered(event: Any) -> Result:
        found = known.get(id(event))
        if found is not None and found[0] is event:
            return found[1]
        result = function(event)
        if len(known) >= EVENTS_MAX:
            known.clear()
        known[id(event)] = event, result
        return result

    return remembered
