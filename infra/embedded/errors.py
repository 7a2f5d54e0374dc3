"""What can go wrong with services of our own: each names the service, the reason, and what to do."""

from dataclasses import dataclass

from schemas.errors import Unavailable


@dataclass(eq=False)
class NoReachableFolder(Unavailable):
    """There is no folder that the server's account can use."""

    folder: str
    remedy: str


@dataclass(eq=False)
class ServerMissing(Unavailable):
    """The server is not installed, and no way to get it works here."""

    server: str
    remedy: str


@dataclass(eq=False)
class ServerDidNotStart(Unavailable):
    """A server that was started here did not come up."""

    server: str
    reason: str


@dataclass(eq=False)
class DataOfOtherVersion(Unavailable):
    """The data directory was written by another major version of the server."""

    folder: str
    written_by: str
    found: str


@dataclass(eq=False)
class DataDirectoryTaken(Unavailable):
    """Another Everfold runs on this data directory; stop it, or set EVERFOLD_DATA_DIR to another folder."""

    folder: str
    process: int | None = None


@dataclass(eq=False)
class PortTaken(Unavailable):
    """Another program listens on a port that is needed; stop it, or set the variable to another port."""

    port: int
    variable: str
