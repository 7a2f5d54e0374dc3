"""
Customers' references: the tag `references/{customer_id}/{digest}` of the order's events that begin and end with it.

A reference is unique among a customer's open orders. It is named by a digest, as a reference is any text.
`ReferenceClaimed` and `ReferenceReleased` said the same in streams of their own, before there were tags; they are
not written any more, and where logs have them they no longer count.
"""

from hashlib import sha256
from typing import Never

from schemas import Event, upcast
from schemas.messages import Id

DIGEST_CHARACTERS = 32


class ReferenceClaimed(Event):
    """An open order has the reference."""

    order_id: Id


class ReferenceReleased(Event):
    """The order that had the reference is settled."""

    order_id: Id


@upcast
def claimed(event: ReferenceClaimed) -> list[Never]:
    """Read nothing: the order's own event says it."""
    return []


@upcast
def released(event: ReferenceReleased) -> list[Never]:
    """Read nothing: the order's own event says it."""
    return []


def reference_tag(customer_id: str, reference: str) -> str:
    """Return the tag of the events that claim a customer's reference or give it back."""
    digest = sha256(reference.encode()).hexdigest()[:DIGEST_CHARACTERS]
    return f"references/{customer_id}/{digest}"
