"""Sites: one row each, made from its stream."""

from dataclasses import dataclass

from projectors.projection import Projection, Stream, when
from projectors.supply.documents import Document
from schemas.supply.sites import SiteRegistered


@dataclass(frozen=True, slots=True)
class Site(Document):
    """A place that holds stock."""

    site_id: str
    stream: str
    version: int
    name: str
    time_zone: str


class Sites(Projection[Site]):
    """Every site."""

    name, version, row, key = "sites", 1, Site, ("site_id",)

    @when(SiteRegistered)
    def registered(self, row: Site | None, event: SiteRegistered, stream: Stream) -> Site:
        """Put the site on the list."""
        return Site(stream.ids[0], stream.name, stream.version, event.name, event.time_zone)
