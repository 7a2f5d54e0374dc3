"""
Master keys in a file: a line each, `id base64`, the first of which wraps.

Keys are wrapped by RFC 3394. The file is read again when it has changed, so a new master key is known everywhere
without a restart.
"""

import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from infra.master_keys import KEY_OCTETS, MasterKeyMissing, Wrapped, WrongMasterKey
from schemas.errors import BadDefinition

DEVELOPMENT_NAME = "master-key"
ID_OCTETS = 6


class FileMasterKeys:
    """The keys of one file. Keeps `infra.master_keys.MasterKeys`."""

    def __init__(self, path: Path) -> None:
        """
        Read the file.

        Raises:
            BadDefinition: There is no such file, or it holds something else; it names the file and the line.
        """
        self._path = path
        self._state = _state_of(path)
        self._keys = read_keys(path)

    async def current(self) -> str:
        """Return the id on the file's first line."""
        self._read_if_changed()
        return next(iter(self._keys))

    async def wrap(self, keys: Sequence[bytes]) -> Sequence[Wrapped]:
        """Wrap data keys; see `MasterKeys.wrap`."""
        self._read_if_changed()
        master, key = next(iter(self._keys.items()))
        return [Wrapped(master, aes_key_wrap(key, data_key)) for data_key in keys]

    async def unwrap(self, wrapped: Sequence[Wrapped]) -> Sequence[bytes]:
        """Return data keys; see `MasterKeys.unwrap`."""
        if any(one.master not in self._keys for one in wrapped):
            self._read_if_changed()
        return [self._unwrap(one) for one in wrapped]

    def _unwrap(self, wrapped: Wrapped) -> bytes:
        key = self._keys.get(wrapped.master)
        if key is None:
            raise MasterKeyMissing(wrapped.master)
        try:
            return aes_key_unwrap(key, wrapped.octets)
        except InvalidUnwrap as error:
            raise WrongMasterKey(wrapped.master) from error

    def _read_if_changed(self) -> None:
        """Take up what the file says now, once it says something else."""
        state = _state_of(self._path)
        if state is not None and state != self._state:
            self._keys = read_keys(self._path)
            self._state = state

    async def close(self) -> None:
        """Nothing is held."""


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:  # it is being replaced, or gone: what was read stays good
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_keys(path: Path) -> Mapping[str, bytes]:
    """
    Return a file's keys by id, in order.

    Raises:
        BadDefinition: See `FileMasterKeys`.
    """
    try:
        lines = path.read_text().split("\n")
    except OSError as error:
        raise BadDefinition(f"master key file {path}", f"cannot be read: {error.strerror}") from error
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, text = line.strip().partition(" ")
        try:
            key = b64decode(text, validate=True)
        except ValueError:
            key = b""
        if len(key) != KEY_OCTETS or name in keys:
            raise BadDefinition(
                f"master key file {path}, line {number}",
                f"must be an id of its own and the base64 of {KEY_OCTETS} bytes: `everfold keys new` prints one",
            )
        keys[name] = key
    if not keys:
        raise BadDefinition(f"master key file {path}", "holds no key: `everfold keys new` prints one")
    return keys


def new_line() -> str:
    """Return a new master key as a line of a file."""
    return f"{secrets.token_hex(ID_OCTETS)} {b64encode(secrets.token_bytes(KEY_OCTETS)).decode()}"


def development_file(folder: Path) -> Path:
    """Return the file in a data directory, made by whichever process is first."""
    path = folder / DEVELOPMENT_NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f"{DEVELOPMENT_NAME}.{secrets.token_hex(4)}"
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{new_line()}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(made, path)
        except FileExistsError:  # another process was first: its key counts
            pass
        finally:
            made.unlink()
    return path
