"""
Who the embedded servers run as, and where such an account can reach.

PostgreSQL refuses root. Started by root it runs as `nobody`, who often cannot enter the project's folder
(a 0700 home), so its files then lie in a folder of ours elsewhere.
"""

import os
import pwd
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.errors import NoReachableFolder

UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group that a server is started as."""

    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Hand a file or folder to this account, where we may."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)


def server_account() -> Account:
    """Return who servers run as: ourselves, or `nobody` where we are root."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    entry = pwd.getpwnam(UNPRIVILEGED)
    return Account(entry.pw_uid, entry.pw_gid)


def may_enter(account: Account, folder: Path) -> bool:
    """Say whether an account can go through a folder, judging by the modes of it and all that lead to it."""
    resolved = folder.resolve()
    return all(_may_pass(account, part) for part in (resolved, *resolved.parents))


def _may_pass(account: Account, folder: Path) -> bool:
    try:
        status = folder.stat()
    except OSError:
        return False
    wanted = stat.S_IXOTH
    if status.st_uid == account.uid:
        wanted <<= 6
    elif status.st_gid == account.gid:
        wanted <<= 3
    return status.st_mode & wanted == wanted


def open_root(candidates: Sequence[Path]) -> Path:
    """Return the first of some folders in which we may make folders that servers' accounts can enter."""
    account = server_account()
    for root in candidates:
        if may_enter(account, root) and os.access(root, os.W_OK | os.X_OK):
            return root
    raise NoReachableFolder(", ".join(map(str, candidates)), f"let {UNPRIVILEGED} enter one of them")
