"""
Claims of customers' references: `references/{customer_id}/{digest}`.

No commands: these are facts of the orders' decisions. A reference is unique among a customer's open orders;
its stream is named by a digest, as a reference is any text.
"""

from hashlib import sha256

from schemas.messages import Event, Id

DIGEST_CHARACTERS = 32


class ReferenceClaimed(Event):
    """An open order has the reference."""

    order_id: Id


class ReferenceReleased(Event):
    """The order that had the reference is settled."""

    order_id: Id


def reference_stream(customer_id: str, reference: str) -> str:
    """Return the stream in which a customer's reference is claimed."""
    digest = sha256(reference.encode()).hexdigest()[:DIGEST_CHARACTERS]
    return f"references/{customer_id}/{digest}"
