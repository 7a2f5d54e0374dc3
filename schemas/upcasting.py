"""
The chain that reads old versions of an event as the newest.

An upcast is a pure function from one version's class to the next; it stands beside the classes. The log is
never rewritten: stored bytes are validated by the class of the version they were written with, then cast.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

Upcast = Callable[[Any], Any]
Function = TypeVar("Function", bound=Upcast)


def upcast(function: Function) -> Function:
    """
    Mark a function as the upcast of its parameter's event class.

    The parameter's annotation names the old class. The result is one event of a newer class, or a list of
    events where one old fact is several today.
    """
    function.__everfold_upcast__ = True  # type: ignore[attr-defined]  # a mark on the function itself
    return function


def upcast_source(function: Upcast) -> type:
    """Return the old event class that an upcast takes."""
    parameter = next(iter(inspect.signature(function).parameters))
    hints: dict[str, type] = get_type_hints(function)
    return hints[parameter]
