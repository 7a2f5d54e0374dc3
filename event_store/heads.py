"""
Signed chain heads: where each partition of a log ended at a time, to be kept where the log's own servers cannot reach.

A chain of hashes shows that nothing was changed in it, but not that its end was cut off, or that all of it was made
anew. Heads that were signed earlier show both: each names a commit that the log must still have. A document is JSON
in one canonical form (keys sorted, no spaces); the signature covers every other member. Heads are taken from
what a check has found to be as written, so they never vouch for more than that.
"""

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from secrets import token_hex
from typing import Any, Protocol

import orjson

from event_store.log import Commit
from infra.signing import CheckingKey, SigningKey
from schemas.envelope import CommitMark
from schemas.errors import MalformedRequest
from schemas.messages import format_instant

FORMAT = "everfold-heads/1"
DOCUMENT_BYTES_MAX = 1024 * 1024
FILE_PREFIX, FILE_SUFFIX = "heads-", ".json"


class HeadsUnreadable(MalformedRequest):
    """What should be a file of signed heads is none; name one that `everfold verify --export-heads` has written."""


class Finding(StrEnum):
    """What signed heads can show."""

    UNKNOWN_KEY = "unknown-key"
    FORGED_SIGNATURE = "forged-signature"
    FOREIGN_LOG = "foreign-log"
    LOST_EPOCH = "lost-epoch"
    CUT_TAIL = "cut-tail"
    REWRITTEN = "rewritten"
    LOST_ERASURE = "lost-erasure"
    """Not of heads: somebody was erased outside of what the database remembers."""


@dataclass(frozen=True, slots=True)
class HeadFault:
    """One way in which a log and signed heads do not agree."""

    finding: Finding
    said: str
    partition: int | None = None
    position: int | None = None
    """The first position that is lost, or that has another history."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Where a log ended."""

    namespace: str
    log_id: str
    epoch: int
    made_at: datetime
    marks: Mapping[int, CommitMark]


@dataclass(frozen=True, slots=True)
class SignedHeads:
    """Heads as they were read, with a signature that may or may not hold."""

    heads: Heads
    key_id: str
    signature: bytes
    signed: bytes
    """What the signature should be of."""

    def fault(self, keys: Mapping[str, CheckingKey]) -> HeadFault | None:
        """Return what is wrong with the signature; None: it is by one of these keys."""
        key = keys.get(self.key_id)
        if key is None:
            known = ", ".join(sorted(keys))
            said = f"the heads are signed with the key {self.key_id}, which is none of those to check with: {known}"
            return HeadFault(Finding.UNKNOWN_KEY, said)
        if not key.holds(self.signature, self.signed):
            said = f"the signature is not that of the key {self.key_id}: the heads were changed, or made up"
            return HeadFault(Finding.FORGED_SIGNATURE, said)
        return None


class KnowsHistory(Protocol):
    """What checking heads needs of a log."""

    partitions: Sequence[int]

    async def commit_of(self, partition: int, position: int) -> Commit | None:
        """Return the commit that a position belongs to; None when it is still to come."""
        ...

    async def head(self, partition: int) -> Commit | None:
        """Return the partition's last commit."""
        ...


def sign_heads(heads: Heads, key: SigningKey) -> bytes:
    """Return heads as a signed document."""
    document = {
        "format": FORMAT,
        "namespace": heads.namespace,
        "log": heads.log_id,
        "epoch": heads.epoch,
        "made_at": format_instant(heads.made_at),
        "heads": [
            {"partition": partition, "position": mark.position, "hash": mark.hash.hex()}
            for partition, mark in sorted(heads.marks.items())
        ],
        "key": key.public.id,
    }
    signature = base64.urlsafe_b64encode(key.sign(_canonical(document))).decode()
    return _canonical(document | {"signature": signature}) + b"\n"


def read_heads(path: Path) -> SignedHeads:
    """
    Return the heads in a file, or in the newest file of a folder of them.

    Raises:
        HeadsUnreadable: There are none, or what is there has another form.
    """
    file = newest_in(path) if path.is_dir() else path
    try:
        with file.open("rb") as opened:
            content = opened.read(DOCUMENT_BYTES_MAX + 1)
    except OSError as error:
        raise HeadsUnreadable(f"{file}: {error.strerror}") from error
    try:
        return parse_heads(content)
    except (ValueError, LookupError, TypeError, AttributeError, binascii.Error) as error:
        raise HeadsUnreadable(f"{file} holds no signed heads: {error!r}") from error


def parse_heads(content: bytes) -> SignedHeads:
    """Return what a document says; anything that is not of its form is one of many errors."""
    if len(content) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"more than {DOCUMENT_BYTES_MAX} bytes")
    document: dict[str, Any] = orjson.loads(content)
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']!r}, not {FORMAT!r}")
    marks = {
        int(head["partition"]): CommitMark(int(head["position"]), bytes.fromhex(head["hash"]))
        for head in document["heads"]
    }
    heads = Heads(
        str(document["namespace"]),
        str(document["log"]),
        int(document["epoch"]),
        datetime.fromisoformat(document["made_at"]),
        marks,
    )
    signature = base64.urlsafe_b64decode(document.pop("signature"))
    return SignedHeads(heads, str(document["key"]), signature, _canonical(document))


def write_heads(path: Path, document: bytes, made_at: datetime) -> Path:
    """
    Write a document to a file, or as one more of a folder's series; whole or not at all, and to the disk.

    Raises:
        HeadsUnreadable: It cannot be written there.
    """
    file = (
        path / f"{FILE_PREFIX}{made_at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}{FILE_SUFFIX}"
        if path.is_dir()
        else path
    )
    draft = file.with_name(f".{file.name}.{token_hex(8)}")
    try:
        with draft.open("xb") as opened:
            opened.write(document)
            opened.flush()
            os.fsync(opened.fileno())
        draft.replace(file)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise HeadsUnreadable(f"{file} cannot be written: {error.strerror}") from error
    return file


def has_heads(folder: Path) -> bool:
    """
    Say whether a folder holds any heads.

    Raises:
        HeadsUnreadable: It is none, or cannot be looked into.
    """
    try:
        return any(_is_heads(path.name) for path in folder.iterdir())
    except OSError as error:
        raise HeadsUnreadable(f"{folder}: {error.strerror}") from error


def _is_heads(name: str) -> bool:
    return name.startswith(FILE_PREFIX) and name.endswith(FILE_SUFFIX)


def newest_in(folder: Path) -> Path:
    """
    Return the newest file of a series; their names say when each was made.

    Raises:
        HeadsUnreadable: There is none.
    """
    files = series_in(folder)
    if not files:
        raise HeadsUnreadable(f"{folder} holds no file {FILE_PREFIX}…{FILE_SUFFIX}")
    return files[-1]


def series_in(folder: Path) -> list[Path]:
    """Return a folder's files of heads, oldest first."""
    return sorted(folder.glob(f"{FILE_PREFIX}*{FILE_SUFFIX}"))


async def compare_heads(
    log: KnowsHistory, namespace: str, log_id: str, heads: Heads, *, epoch: int
) -> list[HeadFault]:
    """Return every way in which a log is not what earlier heads say that it is; none: it has all of their history."""
    if heads.namespace != namespace or heads.log_id != log_id:
        said = f"the heads are of the log {heads.log_id} in {heads.namespace}, and this is {log_id} in {namespace}"
        return [HeadFault(Finding.FOREIGN_LOG, said)]
    faults = []
    if epoch < heads.epoch:
        said = f"the log is in epoch {epoch}, and had come to {heads.epoch}: it was recovered once, and restored again"
        faults.append(HeadFault(Finding.LOST_EPOCH, said))
    for partition, mark in sorted(heads.marks.items()):
        if partition not in log.partitions:
            said = f"this log has no partition {partition}"
            faults.append(HeadFault(Finding.FOREIGN_LOG, said, partition))
        elif mark.position > 0 and (fault := await _compare(log, partition, mark)):
            faults.append(fault)
    return faults


async def _compare(log: KnowsHistory, partition: int, mark: CommitMark) -> HeadFault | None:
    commit = await log.commit_of(partition, mark.position)
    if commit is None:
        head = await log.head(partition)
        end = head.last_position if head else 0
        said = f"the log ends at {end}, and had come to {mark.position}: {mark.position - end} positions are lost"
        return HeadFault(Finding.CUT_TAIL, said, partition, end + 1)
    if commit.mark != mark:
        said = f"the commit that ended at {mark.position} is not in the log, which has another there"
        return HeadFault(Finding.REWRITTEN, said, partition, mark.position)
    return None


def fault_document(fault: HeadFault) -> dict[str, Any]:
    """Return a fault as `--json` prints it."""
    return asdict(fault)


def _canonical(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
