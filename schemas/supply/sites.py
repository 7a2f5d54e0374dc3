"""Sites: the places that hold stock and supply customers. A site's time zone says when its days end."""

from functools import lru_cache
from importlib import resources
from typing import Annotated

from pydantic import AfterValidator, Field, Strict, StringConstraints

from schemas.messages import Command, Event, Id, Text


@lru_cache(maxsize=1)
def _time_zones() -> frozenset[str]:
    """Return the names in the IANA database as `tzdata` has them, which is the same on every machine."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text().split())


def _is_time_zone(name: str) -> str:
    if name not in _time_zones():
        raise ValueError("must be a time zone of the IANA database, such as Europe/Berlin")
    return name


TimeZone = Annotated[
    str,
    Strict(),
    StringConstraints(max_length=64),
    AfterValidator(_is_time_zone),
    Field(examples=["Europe/Berlin"]),
]


class RegisterSite(Command, route="sites/{site_id}/register", permission="clerk"):
    """Make a site known."""

    site_id: Id
    name: Text
    time_zone: TimeZone


class SiteRegistered(Event):
    """A site is known."""

    name: Text
    time_zone: Annotated[str, Strict(), StringConstraints(max_length=64)]
