"""
How read models stand in Redis: keys, values, and the scripts that change them. Shared by writer and
reader.

Beside the documents of a projection's generation there is one *mark* for each partition: a range `start..end`
of checkpoints. It promises that every change in that range has been written here, so a value that was true at
a checkpoint `as_of` ≥ `start` is true at the later of `as_of` and `end`; an older value is as good as none.
Hence nothing needs repair: after a lost write, a flush or a failover the writer's next batch does not
continue the range, a new one begins, and old values stop counting. Every write states the checkpoint that it
was true at and is refused, inside the script, when the mark has passed it: a slow writer or filler cannot
bring back the past.

Keys carry tenant, generation and era, so neither another tenant's nor another build's value can be met, nor one of a
database that was lost and restored.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from hashlib import blake2b
from importlib import resources
from itertools import islice
from typing import NamedTuple, Protocol

from schemas.envelope import CommitMark

ROWS_PER_SCRIPT_MAX = 500
DOCUMENT_SECONDS = 3_600
MARK_SECONDS = 86_400
COMPRESSED_FROM_BYTES = 2_048
"""Data of this size and more is kept compressed; less gains little and would cost every hit its time."""
COMPRESSION_LEVEL = 1
UNKNOWN_PREFIX = "00000000"
"""In place of a hash where a mark was lost while a batch was being written."""

_DIGEST_CHARACTERS = 16
_HEADER_CHARACTERS = 1 + 16 + 8 + _DIGEST_CHARACTERS
_MARK_CHARACTERS = 16 + 16 + 16 + 8


class Kind(Enum):
    """What a cached value says of its row."""

    THERE = b"d"
    GONE = b"x"
    """There is no such row (any more)."""
    PARKED = b"p"
    """Events of the row's key are parked, or it was written in another way: ask the tables."""


_KINDS = {kind.value: kind for kind in Kind}
DOCUMENTS = "d2"
"""What keys of documents begin with, after the namespace. Programs that did not know yet that tenants move used
other letters throughout, marks too, so that neither of the two believes what the other has written."""
_PACKED = b"z"
"""In place of `THERE` where the data is compressed. Programs that do not know it yet take such a value for none."""


class Place(NamedTuple):
    """Which rows are meant: one projection's, in one generation."""

    namespace: str
    projection: str
    generation: int
    era: str = ""
    """Which life of the tables' database: after a restore or a failover nothing of the one before is met."""

    def document(self, partition: int, tenant: str, key: Sequence[str]) -> str:
        """Return the key of a row's document, as of positions in a partition: a tenant that moves has it anew."""
        return f"{self._prefix(DOCUMENTS)}{partition}:{':'.join(map(_escape, (tenant, *key)))}"

    def turn(self, partition: int, tenant: str, key: Sequence[str]) -> str:
        """Return the key under which a reader says that it is loading a row's document."""
        return f"{self._prefix('f2')}{partition}:{':'.join(map(_escape, (tenant, *key)))}"

    def last_applied(self, partition: int, tenant: str) -> str:
        """Return the key of a tenant's own last applied position in a partition, which is kept like a document."""
        return f"{self._prefix('t2')}{partition}:{_escape(tenant)}"

    def mark(self, partition: int) -> str:
        """Return the key of a partition's mark."""
        return f"{self._prefix('m2')}{partition}"

    def _prefix(self, letter: str) -> str:
        return f"{self.namespace}:{letter}:{self.projection}:{self.generation}:{self.era}:"


def _escape(part: str) -> str:
    return part.replace("%", "%25").replace(":", "%3A")


class Mark(NamedTuple):
    """The range of checkpoints in which every change has been written to the cache."""

    start: int
    end: int
    opened: int
    """`end`, or further while a batch is being written that ends here."""
    hash_prefix: str
    """Of the commit at `end`."""

    def encode(self) -> bytes:
        """Return the value in Redis."""
        return f"{self.start:016x}{self.end:016x}{self.opened:016x}{self.hash_prefix}".encode()


class Document(NamedTuple):
    """A cached value."""

    kind: Kind
    as_of: int
    """The checkpoint at which it was read or written."""
    hash_prefix: str
    """Of the commit at `as_of`."""
    digest: str
    """Of the data: equal bytes have equal digests, whoever made them."""
    data: bytes

    def reflects(self, mark: Mark) -> tuple[int, str] | None:
        """Return the position that this surely reflects, with its commit's hash; None: it no longer counts."""
        if self.as_of < mark.start:
            return None
        return (self.as_of, self.hash_prefix) if self.as_of >= mark.end else (mark.end, mark.hash_prefix)


def digest_of(data: bytes) -> str:
    """Return what stands for some bytes in an ETag."""
    return blake2b(data, digest_size=_DIGEST_CHARACTERS // 2).hexdigest()


def pack(data: bytes) -> bytes | None:
    """Return data compressed, where it is large enough and becomes smaller by it."""
    if len(data) < COMPRESSED_FROM_BYTES:
        return None
    packed = zlib.compress(data, COMPRESSION_LEVEL)
    return packed if len(packed) < len(data) else None


def unpack(data: bytes) -> bytes | None:
    """Return what `pack` compressed; None where it is something else."""
    try:
        return zlib.decompress(data)
    except zlib.error:
        return None


def encode(kind: Kind, as_of: CommitMark, data: bytes = b"") -> bytes:
    """Return a value in Redis."""
    header = f"{as_of.position:016x}{as_of.hash[:4].hex()}{digest_of(data)}".encode()
    if kind is Kind.THERE and (packed := pack(data)) is not None:
        return _PACKED + header + packed
    return kind.value + header + data


def decode(value: bytes | None) -> Document | None:
    """Return a cached value; None where there is none, or none of this format."""
    if value is None or len(value) < _HEADER_CHARACTERS:
        return None
    kind, data = _KINDS.get(value[:1]), value[_HEADER_CHARACTERS:]
    if value[:1] == _PACKED and (unpacked := unpack(data)) is not None:
        kind, data = Kind.THERE, unpacked
    if kind is None:
        return None
    return Document(
        kind, int(value[1:17], 16), value[17:25].decode(), value[25:_HEADER_CHARACTERS].decode(), data
    )


def decode_mark(value: bytes | None) -> Mark | None:
    """Return a partition's mark; None where there is none."""
    if value is None or len(value) != _MARK_CHARACTERS:
        return None
    return Mark(int(value[:16], 16), int(value[16:32], 16), int(value[32:48], 16), value[48:].decode())


class Written(NamedTuple):
    """A row that a batch changed, as the batch left it."""

    tenant: str
    key: tuple[str, ...]
    data: bytes | None
    """The row's `doc`; None: the row is gone."""
    parked: bool = False
    """Events of this key are parked now."""

    def value(self, as_of: CommitMark) -> bytes:
        """Return the value in Redis."""
        if self.parked:
            return encode(Kind.PARKED, as_of)
        return encode(Kind.GONE, as_of) if self.data is None else encode(Kind.THERE, as_of, self.data)


class Scripts(Protocol):
    """What runs a script in Redis: `infra.redis.RedisCache`."""

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> object:
        """Run a Lua script; raises `CacheAway`."""
        ...


WRITE, FILL, BEGIN, DOUBT = (
    resources.files("infra").joinpath("lua", f"documents_{name}.lua").read_text()
    for name in ("write", "fill", "begin", "doubt")
)


class DocumentWriter:
    """
    Writes what a projector has committed.

    Call `begin` on taking up a partition and `write` after each commit, in order, and let `CacheAway` be:
    what a lost call would have written stops counting by itself.
    """

    def __init__(self, redis: Scripts, namespace: str) -> None:
        self._redis = redis
        self._namespace = namespace

    async def begin(
        self, projection: str, generation: int, partition: int, *, checkpoint: CommitMark, era: str = ""
    ) -> Mark | None:
        """
        Say where a partition's tables stand, before the first batch.

        Returns the cache's mark where it speaks of more than that: it is another writer's, or of a lost history.

        Raises:
            CacheAway: Redis does not answer.
        """
        place = Place(self._namespace, projection, generation, era)
        mark = Mark(*(checkpoint.position,) * 3, checkpoint.hash[:4].hex())
        return _standing(await self._redis.run(BEGIN, [place.mark(partition)], [mark.encode(), MARK_SECONDS]))

    async def write(
        self,
        projection: str,
        generation: int,
        partition: int,
        *,
        before: CommitMark,
        after: CommitMark,
        rows: Sequence[Written],
        tenants: Mapping[str, int],
        parked_tenants: Sequence[str] = (),
        era: str = "",
    ) -> Mark | None:
        """
        Write what a committed batch changed.

        Returns the cache's mark where the batch comes too late for it: it is another writer's, or of a lost history.

        `before` and `after` are the checkpoint's values around the batch; they are equal where parked events
        were released. `tenants` gives the last applied position of each tenant that the batch has events of,
        and `parked_tenants` names those of them that have parked events in this projection.

        Raises:
            CacheAway: Redis does not answer; nothing needs to be done about it.
        """
        place = Place(self._namespace, projection, generation, era)
        values = {place.document(partition, row.tenant, row.key): row.value(after) for row in rows}
        for tenant, position in tenants.items():
            kind = Kind.PARKED if tenant in parked_tenants else Kind.THERE
            values[place.last_applied(partition, tenant)] = encode(kind, after, b"%d" % position)
        parts = list(_chunks(values)) or [{}]
        for number, part in enumerate(parts, 1):
            answer = await self._redis.run(
                WRITE,
                [place.mark(partition), *part],
                [
                    before.position,
                    after.position,
                    after.hash[:4].hex(),
                    int(number == 1),
                    int(number == len(parts)),
                    DOCUMENT_SECONDS,
                    MARK_SECONDS,
                    *part.values(),
                ],
            )
            if standing := _standing(answer):
                return standing
        return None

    async def doubt(
        self,
        projection: str,
        generation: int,
        partition: int,
        *,
        checkpoint: CommitMark,
        rows: Sequence[tuple[str, tuple[str, ...]]],
        era: str = "",
    ) -> None:
        """
        Have readers ask the tables for rows (tenant and key) that were written outside of any batch.

        Raises:
            CacheAway: Redis does not answer.
        """
        place = Place(self._namespace, projection, generation, era)
        keys = [place.document(partition, tenant, key) for tenant, key in rows]
        value = encode(Kind.PARKED, checkpoint)
        arguments: list[bytes | str | int] = [checkpoint.position, DOCUMENT_SECONDS, value]
        await self._redis.run(DOUBT, [place.mark(partition), *keys], arguments)


def _standing(answer: object) -> Mark | None:
    return decode_mark(answer) if isinstance(answer, bytes) else None


def _chunks(values: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    items = iter(values.items())
    while chunk := dict(islice(items, ROWS_PER_SCRIPT_MAX)):
        yield chunk
