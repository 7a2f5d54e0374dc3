"""
Folders for embedded servers: one that stays, beside the project, and ones that go with a test run.

A folder that goes is locked for as long as its maker lives, so what a killed run left behind is
recognised, and removed by the next.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.embedded.account import Account, may_enter, open_root, server_account
from infra.embedded.outside import PASSING_ROOTS, data_outside

EPHEMERAL_PREFIX = f"everfold-run-{os.geteuid()}-"
BEGUN_PREFIX = f"everfold-begun-{os.geteuid()}-"
LOCK_NAME = "lock"


def durable_folder(data_directory: Path, name: str) -> Path:
    """
    Return a server's folder inside the data directory, made if it isn't there.

    Where the account that servers run as cannot get there, the folder lies outside, and the data
    directory holds a link to it.
    """
    data_directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder = data_directory / name
    account = server_account()
    if not may_enter(account, data_directory) and not folder.exists():
        real = data_outside(data_directory, name)
        folder.unlink(missing_ok=True)
        folder.symlink_to(real)
    _make(folder, account)
    return folder.resolve()


def _make(folder: Path, account: Account) -> None:
    if not folder.exists():
        folder.mkdir(mode=0o700)
        account.own(folder)


@contextmanager
def ephemeral_folder() -> Iterator[Path]:
    """Keep a folder for a block, one that servers' accounts can enter."""
    root = _ephemeral_root()
    for left_behind in root.glob(f"{EPHEMERAL_PREFIX}*"):
        _remove_if_abandoned(left_behind)
    begun = Path(tempfile.mkdtemp(prefix=BEGUN_PREFIX, dir=root))
    with (begun / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Only under its final name can it be taken for left behind, and by then it is locked.
        folder = begun.rename(begun.with_name(begun.name.replace(BEGUN_PREFIX, EPHEMERAL_PREFIX, 1)))
        folder.chmod(0o711)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def server_folder(parent: Path, name: str) -> Path:
    """Return a new folder that belongs to the account that servers run as."""
    folder = parent / name
    _make(folder, server_account())
    return folder


def _ephemeral_root() -> Path:
    """Prefer the user's own temporary folder, where servers can enter it."""
    return open_root((Path(tempfile.gettempdir()), *PASSING_ROOTS))


def _remove_if_abandoned(folder: Path) -> None:
    if folder.lstat().st_uid != os.geteuid():
        return
    try:
        with (folder / LOCK_NAME).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except (BlockingIOError, FileNotFoundError):
        return  # somebody's, or one that somebody else removes at this moment
