"""The rules of sites, and when a day ends at one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from command_api.decider import Context, Decider, States, To
from schemas import Event
from schemas.supply.rejections import AlreadyExists
from schemas.supply.sites import RegisterSite, SiteRegistered

DAYS_CACHED = 65_536
END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SiteState:
    """As much of a site as rules need."""

    time_zone: str | None = None
    """None: it is not registered."""


class Sites(Decider[SiteState]):
    """Sites are registered once."""

    collection = "sites"
    initial = SiteState()

    def decide(self, command: RegisterSite, states: States, context: Context) -> Sequence[Event | To]:
        """Return the site's first event, or refuse."""
        if states[command.stream].time_zone is not None:
            raise AlreadyExists(command.stream)
        return [SiteRegistered(name=command.name, time_zone=command.time_zone)]

    def evolve(self, state: SiteState, event: Any) -> SiteState:
        """Add one fact."""
        return SiteState(event.time_zone) if isinstance(event, SiteRegistered) else state


@lru_cache(maxsize=DAYS_CACHED)
def end_of_day(day: date, time_zone: str) -> datetime:
    """Return when a day is over in a time zone; a day at the end of the calendar never is."""
    if day >= END_OF_TIME.date() - timedelta(days=1):
        return END_OF_TIME
    return datetime.combine(day + timedelta(days=1), time.min, ZoneInfo(time_zone)).astimezone(UTC)
