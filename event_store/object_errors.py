"""What can be wrong with an archive: it is away, or what it holds is not what was put there."""

from dataclasses import dataclass

from schemas.errors import Unavailable


@dataclass(eq=False)
class ArchiveUnavailable(Unavailable):
    """The archive of old events cannot be reached; nothing is lost, and newer events are served."""

    retry_after_seconds = 10
    object: str
    problem: str


@dataclass(eq=False)
class ArchiveDamaged(Unavailable):
    """
    The archive of old events does not hold what was put there.

    Restore the named object from a copy of the archive; what the database holds is not touched by this.
    """

    retry_after_seconds = 60
    object: str
    problem: str


@dataclass(eq=False)
class ObjectMissing(ArchiveDamaged, slug=ArchiveDamaged.slug):
    """The archive of old events lacks an object that was put there."""

    problem: str = "it is missing"
