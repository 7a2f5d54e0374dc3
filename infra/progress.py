"""
How far long work is, for whoever watches it: a bar on the error output, with a rate and the time that is left.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Advance = Callable[[int], None]
"""Told how many more are done."""


class Rate(ProgressColumn):
    """Events a second so far."""

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()

    def render(self, task: Task) -> Text:
        """Return the rate as text."""
        seconds = task.elapsed or (time.monotonic() - self._started)
        return Text(f"{task.completed / seconds if seconds else 0:,.0f}/s")


@contextmanager
def events_bar(what: str, events: int, *, is_silent: bool = False) -> Iterator[Advance]:
    """Show a bar for a block that goes through so many events."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} events"),
        Rate(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=is_silent) as progress:
        task = progress.add_task(what, total=events)
        yield lambda done: progress.advance(task, done)
