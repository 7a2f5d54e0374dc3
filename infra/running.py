"""
Where a running system's services are, for commands that are typed beside `everfold up`.

`everfold up` leaves a note in the data directory, readable by its user alone, and takes it away when it stops.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from pydantic import SecretStr

from infra.settings import Settings
from schemas.errors import BadDefinition

NOTE = "running.json"
ADDRESSES = ("store_url", "read_url", "archive_url", "archive_key", "redis_url", "broker_url")


@contextmanager
def noted(settings: Settings) -> Iterator[None]:
    """Leave the note for a block."""
    note = settings.data_dir / NOTE
    addresses = {
        name: value.get_secret_value() for name in ADDRESSES if (value := getattr(settings, name)) is not None
    }
    note.touch(mode=0o600)
    note.write_bytes(orjson.dumps(addresses))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def require_store(settings: Settings) -> Settings:
    """
    Return the settings of a command that works on a running system's databases.

    What is not configured is taken from the note of the `everfold up` that runs on the same data directory.

    Raises:
        BadDefinition: Neither says where the log is.
    """
    if settings.store_url is not None:
        return settings
    note = settings.data_dir / NOTE
    if not note.is_file():
        raise BadDefinition(
            "EVERFOLD_STORE_URL",
            f"is not set, and no `everfold up` runs on {Path(settings.data_dir).absolute()}: start one, or set it",
        )
    addresses = {name: SecretStr(value) for name, value in orjson.loads(note.read_bytes()).items()}
    return settings.model_copy(update=addresses)
