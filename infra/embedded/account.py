"""
Who the embedded servers run as, and where such an account can reach.

PostgreSQL refuses root. Started by root it runs as `nobody`, who often cannot enter the project's folder
(a 0700 home), so its files then lie in a folder of ours elsewhere.
"""

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.errors import NoReachableFolder

LASTING_ROOTS = (Path("/var/lib"), Path("/var/tmp"))
PASSING_ROOTS = (Path("/tmp"), Path("/var/tmp"))
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


def folder_outside(project: Path) -> Path:
    """Return our folder outside every home, one for each user and project, open to servers' accounts."""
    name = f"everfold-{os.geteuid()}-{hashlib.sha256(bytes(project.resolve())).hexdigest()[:12]}"
    folder = open_root(LASTING_ROOTS) / name
    folder.mkdir(mode=0o711, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise NoReachableFolder(str(folder), "it belongs to somebody else: have it removed")
    folder.chmod(0o711)
    return folder


def open_root(candidates: Sequence[Path]) -> Path:
    """Return the first of some folders in which we may make folders that servers' accounts can enter."""
    account = server_account()
    for root in candidates:
        if may_enter(account, root) and os.access(root, os.W_OK | os.X_OK):
            return root
    raise NoReachableFolder(", ".join(map(str, candidates)), f"let {UNPRIVILEGED} enter one of them")


def copy_once(sources: tuple[Path, ...], target: Path) -> None:
    """Copy folders into a new one, whole or not at all, so that an interrupted copy is never used."""
    if target.exists():
        return
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    partial.chmod(0o755)
    for source in sources:
        shutil.copytree(source, partial / source.name, symlinks=True)
    try:
        partial.rename(target)
    except OSError:
        shutil.rmtree(partial)
        if not target.exists():
            raise
