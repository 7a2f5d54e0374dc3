"""Says in which partition a tenant lives: by a hash that never changes, unless a row says otherwise."""

from collections.abc import Sequence
from hashlib import sha256


def home_of(tenant: str, partitions: Sequence[int]) -> int:
    """Return the partition that the hash of a tenant's name gives. A log's partitions are fixed for its life."""
    return partitions[int.from_bytes(sha256(tenant.encode()).digest()[:8], "big") % len(partitions)]
