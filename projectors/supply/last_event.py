"""
Remembers what was made of the last event, for folds that touch many rows by one event.

An order of a thousand items touches a thousand rows; without this each of them would add up the whole order again.
"""

from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


def once_per_event(function: Callable[[Any], Result]) -> Callable[[Any], Result]:
    """Return a pure function of an event that is not called twice in a row for the same event object."""
    last: tuple[Any, Any] = (None, None)

    def remembered(event: Any) -> Result:
        nonlocal last
        known, result = last
        if known is not event:
            result = function(event)
            last = event, result
        return result  # type: ignore[no-any-return]  # what `function` returned for this event

    return remembered
