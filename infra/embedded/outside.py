"""
Folders outside a closed home, for servers whose account cannot enter it; only root needs them.

Each belongs to one folder of the project, and says so in a file. What belonged to a temporary folder that is gone,
or was only a copy, is removed when the next one is made; data of a project that is merely away is kept.
"""

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from infra.embedded.account import open_root, server_account
from infra.embedded.errors import NoReachableFolder

LASTING_ROOTS = (Path("/var/lib"), Path("/var/tmp"))
PASSING_ROOTS = (Path("/tmp"), Path("/var/tmp"))
OWNER_FILE = "belongs-to"
COPY_SUFFIX = "-copy"


def data_outside(data_directory: Path, name: str) -> Path:
    """Return a new folder of the servers' account; an earlier one that nothing links to any more is removed."""
    home = _folder_of(data_directory)
    for unlinked in home.glob(f"{name}-*"):
        shutil.rmtree(unlinked)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=home))
    server_account().own(folder)
    return folder


def copy_outside(sources: tuple[Path, ...], name: str) -> Path:
    """Return a copy of folders that lie side by side, made whole or not at all, once."""
    home = _folder_of(sources[0].parent)
    target = home / f"{name}{COPY_SUFFIX}"
    if not target.exists():
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=home))
        partial.chmod(0o755)
        for source in sources:
            shutil.copytree(source, partial / source.name, symlinks=True)
        try:
            partial.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
            if not target.exists():
                raise
    return target


def _folder_of(owner: Path) -> Path:
    root = open_root(LASTING_ROOTS)
    _sweep(root)
    folder = root / f"{_prefix()}{hashlib.sha256(bytes(owner.resolve())).hexdigest()[:12]}"
    folder.mkdir(mode=0o711, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise NoReachableFolder(str(folder), "it belongs to somebody else: have it removed")
    folder.chmod(0o711)
    (folder / OWNER_FILE).write_text(str(owner.resolve()))
    return folder


def _prefix() -> str:
    return f"everfold-{os.geteuid()}-"


def _sweep(root: Path) -> None:
    """Remove what belonged to folders that cannot come back."""
    passing = (*PASSING_ROOTS, Path(tempfile.gettempdir()))
    for owner_file in root.glob(f"{_prefix()}*/{OWNER_FILE}"):
        owner = Path(owner_file.read_text())
        was_temporary = any(owner.is_relative_to(temporary) for temporary in passing)
        only_copies = all(
            entry.name.endswith((OWNER_FILE, COPY_SUFFIX)) for entry in owner_file.parent.iterdir()
        )
        if not owner.exists() and (was_temporary or only_copies):
            shutil.rmtree(owner_file.parent, ignore_errors=True)
