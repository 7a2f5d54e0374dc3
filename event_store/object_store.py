"""
Where archived events go: named pieces of bytes that are written once and read whole or in part.

`DirectoryStore` keeps them in a folder (of a mounted disk, say), `azure_blobs.py` in Azure Blob Storage. Names are
paths with `/`. Whatever keeps this interface passes tests/contract/test_object_store.py.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from event_store.azure_blobs import AzureBlobs
from event_store.object_errors import ArchiveUnavailable, ObjectMissing
from infra.settings import Settings
from schemas.errors import BadDefinition

PARTIAL = ".partial"


class ArchiveAddress(NamedTuple):
    """Where an archive is, and the key to it where the address has none."""

    url: str | None = None
    key: str | None = None


NOWHERE = ArchiveAddress()


class ObjectStore(Protocol):
    """Named pieces of bytes."""

    async def put(self, name: str, content: bytes) -> None:
        """
        Keep bytes under a name, durably; what was there before is replaced as a whole.

        Raises:
            ArchiveUnavailable: They could not be kept.
        """
        ...

    async def get(self, name: str, start: int = 0, octets: int | None = None) -> bytes:
        """
        Return what is kept under a name: all of it, or so many bytes from a place on.

        Raises:
            ObjectMissing: Nothing is.
            ArchiveUnavailable: It could not be read.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class DirectoryStore:
    """A folder that keeps each object as a file."""

    folder: Path

    async def put(self, name: str, content: bytes) -> None:
        """Write a file beside its place, bring it to disk, and move it there."""
        try:
            await asyncio.to_thread(self._write, self.folder / name, content)
        except OSError as error:
            raise ArchiveUnavailable(name, _words(error)) from error

    async def get(self, name: str, start: int = 0, octets: int | None = None) -> bytes:
        """Read a file, or a part of it."""
        try:
            return await asyncio.to_thread(self._read, self.folder / name, start, octets)
        except FileNotFoundError as error:
            if self.folder.is_dir():
                raise ObjectMissing(name) from error
            raise ArchiveUnavailable(name, f"{self.folder} is not there") from error
        except OSError as error:
            raise ArchiveUnavailable(name, _words(error)) from error

    async def close(self) -> None:
        """Nothing is held."""

    def _write(self, path: Path, content: bytes) -> None:
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder} is not there; make it, or mount it")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @staticmethod
    def _read(path: Path, start: int, octets: int | None) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return file.read() if octets is None else file.read(octets)


class NoStore:
    """Stands where no archive is configured: who needs what is archived is told what to set."""

    PROBLEM = "EVERFOLD_ARCHIVE_URL is not set"

    async def put(self, name: str, content: bytes) -> None:
        """Refuse."""
        raise ArchiveUnavailable(name, self.PROBLEM)

    async def get(self, name: str, start: int = 0, octets: int | None = None) -> bytes:
        """Refuse."""
        raise ArchiveUnavailable(name, self.PROBLEM)

    async def close(self) -> None:
        """Nothing is held."""


def object_store_of(settings: Settings) -> ObjectStore:
    """
    Return the archive that the settings name.

    Raises:
        BadDefinition: The address is of no kind that is known.
    """
    return object_store_at(archive_of(settings))


def archive_of(settings: Settings) -> ArchiveAddress:
    """Return where the settings say that the archive is."""
    url, key = settings.archive_url, settings.archive_key
    return ArchiveAddress(url.get_secret_value() if url else None, key.get_secret_value() if key else None)


def object_store_at(address: ArchiveAddress) -> ObjectStore:
    """
    Return the archive at an address.

    Raises:
        BadDefinition: The address is of no kind that is known.
    """
    url, key = address
    if url is None:
        return NoStore()
    parts = urlsplit(url)
    match parts.scheme:
        case "file":
            return DirectoryStore(Path(unquote(parts.path)))
        case "https" | "http":
            return AzureBlobs(url, key)
    raise BadDefinition(
        "EVERFOLD_ARCHIVE_URL", "must be file:///a/folder or the https:// address of an Azure container"
    )


def _words(error: OSError) -> str:
    return error.strerror or str(error)
