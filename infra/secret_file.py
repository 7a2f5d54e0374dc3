"""
Secrets that are made once and kept in a file for their owner alone.
"""

import os
import secrets
from pathlib import Path


def write_secret_once(path: Path, content: bytes) -> None:
    """Write a secret file whole, unless somebody else was first; who reads it afterwards gets the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
