"""
What the command line does with an operation: write it down, watch it, and say how far it is.

Where no projector lives to carry it out, or the operator wants it so, this process does.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from event_store.operations import Asked, Operation, Operations, operator
from projectors.carrier import Carrier
from projectors.read_side import GROUP, ReadSide
from schemas.messages import format_instant

LOOK_SECONDS = 0.25
IMPATIENT_SECONDS = 10.0


async def operate(
    side: ReadSide, asked: Asked, console: Console, *, here: bool = False, is_silent: bool = False
) -> Operation:
    """Have an operation carried out, and return it when it has ended."""
    operations = Operations(side.pool.fetch, side.settings.namespace)
    carrying: asyncio.Task[None] | None = None
    if here:
        carrier = Carrier(side)
        operation = await carrier.take(asked, operator())
        carrying = asyncio.create_task(carrier.carry(operation))
    else:
        operation = await operations.ask(asked, operator())
    waited = 0.0
    with _bar(console, is_silent=is_silent) as bar:
        try:
            while not operation.has_ended:
                if carrying is not None and carrying.done():
                    await carrying
                if carrying is not None and carrying.done():
                    carrying = None  # it was handed back, to be taken up by anybody
                is_free = operation.state == "waiting" and carrying is None
                if is_free and not await operations.carriers(GROUP):
                    console.print("no projector runs: carried out in this process")
                    carrier = Carrier(side)
                    carrying = asyncio.create_task(carrier.carry_one(operation.id, asked.kind))
                if is_free and waited < IMPATIENT_SECONDS <= waited + LOOK_SECONDS:
                    console.print(_how_it_waits(operation))
                waited += LOOK_SECONDS
                await asyncio.sleep(LOOK_SECONDS)
                operation = await operations.find(operation.id)
                bar.show(operation)
        except asyncio.CancelledError:
            console.print(
                f"it goes on without you: everfold operations show {operation.id}; "
                f"everfold operations cancel {operation.id} ends it"
            )
            raise
        finally:
            if carrying is not None:
                carrying.cancel()
                await asyncio.gather(carrying, return_exceptions=True)
    return operation


def sentence_of(operation: Operation) -> str:
    """Return in words what became of an operation that is no replay."""
    if operation.state != "done":
        return f"{operation.asked.kind} has {operation.state}: {operation.error or 'its end was asked for'}"
    result = operation.result
    if "keys" in result:
        return "\n".join(f"{name}: {what}" for name, what in result["keys"].items()) or "nothing is parked"
    return str(result.get("done", "done"))


def _how_it_waits(operation: Operation) -> str:
    since = operation.times["asked_at"]
    return (
        f"waits for a projector to take it up since {since and format_instant(since)}: they may be busy, or older than "
        "this program; --here carries it out in this process"
    )


class _Bar:
    """A bar for whichever projection is worked on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, object] = {}

    def show(self, operation: Operation) -> None:
        """Show how far an operation is."""
        said = operation.progress
        if "projection" not in said:
            return
        name = said["projection"]
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = self._progress.add_task(name, total=said["of"], rate="", left="")
        is_done = operation.has_ended or any(one["name"] == name for one in said.get("done", ()))
        rate, left = said["events_per_second"], said["seconds_left"]
        self._progress.update(
            task,  # type: ignore[arg-type]  # what add_task returned
            completed=said["events"],
            total=max(said["of"], said["events"]),
            rate="" if rate is None else f"{rate:,}/s",
            left="" if left is None or is_done else f"{left:,.0f} s left",
        )


@contextmanager
def _bar(console: Console, *, is_silent: bool) -> Iterator[_Bar]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}/{task.total:,} events"),
        TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[left]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=is_silent) as progress:
        yield _Bar(progress)
