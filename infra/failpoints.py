"""
Named places where a test may make this process die, fail or stand still. No-ops unless armed.

`EVERFOLD_FAILPOINTS=relay.after_confirm=kill@3,runner.before_commit=raise~0.05` is read at start. An action is
`kill` (SIGKILL, as a power cut would), `raise` (`FailpointReached`), `pause:seconds` (the whole process stands
still, as under SIGSTOP) or `barrier:file` (stands still until the file exists). `@n` acts at the n-th hit only,
`~p` with a chance of p, drawn from EVERFOLD_FAILPOINTS_SEED. Production refuses to start with failpoints armed.
"""

import os
import random
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import BadDefinition, ServiceError

VARIABLE = "EVERFOLD_FAILPOINTS"
BARRIER_SECONDS_MAX = 60.0
_FORM = re.compile(
    r"(?P<name>[a-z_.]+)=(?P<action>kill|raise|pause|barrier)(:(?P<argument>[^@~,]+))?"
    r"(@(?P<hit>\d+))?(~(?P<chance>[\d.]+))?"
)


@dataclass(eq=False)
class FailpointReached(ServiceError):
    """A test made this step fail."""

    name: str


@dataclass(frozen=True, slots=True)
class Action:
    """What a failpoint does, and when."""

    name: str
    action: str
    argument: str = ""
    hit: int | None = None
    chance: float | None = None


_armed: dict[str, Action] = {}
_hits: Counter[str] = Counter()
_chance = random.Random(os.environ.get("EVERFOLD_FAILPOINTS_SEED", "1"))


def failpoint(name: str) -> None:
    """Be a place where a test may strike."""
    if _armed:
        _reach(name)


def arm(text: str) -> None:
    """
    Set failpoints from their text form, in place of those that were set.

    Raises:
        BadDefinition: It is not in the form that the module's docstring states.
    """
    _armed.clear()
    _hits.clear()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = _FORM.fullmatch(part)
        if match is None:
            raise BadDefinition(VARIABLE, f"{part!r} is not name=action[:argument][@hit][~chance]")
        _armed[match["name"]] = Action(
            match["name"],
            match["action"],
            match["argument"] or "",
            int(match["hit"]) if match["hit"] else None,
            float(match["chance"]) if match["chance"] else None,
        )


def armed() -> bool:
    """Say whether any failpoint is set."""
    return bool(_armed)


def _reach(name: str) -> None:
    action = _armed.get(name)
    if action is None:
        return
    _hits[name] += 1
    if action.hit is not None and _hits[name] != action.hit:
        return
    if action.chance is not None and _chance.random() >= action.chance:
        return
    match action.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise FailpointReached(name)
        case "pause":
            time.sleep(float(action.argument or 1))
        case _:
            _wait_for(Path(action.argument))


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + BARRIER_SECONDS_MAX
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


if os.environ.get(VARIABLE) and os.environ.get("EVERFOLD_MODE") == "production":
    raise BadDefinition(VARIABLE, "must not be set in production")
arm(os.environ.get(VARIABLE, ""))
