"""Of what follows the log: I10, I12, I17 and I21."""

from collections import Counter
from collections.abc import Iterator

from tests.chaos.checker.evidence import Evidence

TOLD_TO_OTHERS = "cloudevents"


def it_converges(evidence: Evidence) -> Iterator[str]:
    """I10: every consumer stands at the head of every partition, also after the very last event; nothing is parked."""
    found = {(one.kind, one.consumer, one.partition): one for one in evidence.checkpoints}
    for kind, consumer in evidence.expected_consumers:
        for partition, head in evidence.heads.items():
            one = found.get((kind, consumer, partition))
            if one is None or one.position != head:
                stands = (
                    "has no checkpoint" if one is None else f"stands at {one.position} ({one.waiting_for})"
                )
                yield f"{kind} {consumer} {stands} in partition {partition}, whose head is {head}"
    if evidence.parked:
        yield f"{evidence.parked} events are parked"


def nothing_from_the_future(evidence: Evidence) -> Iterator[str]:
    """I12: every checkpoint names a commit that is in the chain."""
    chain = {(commit.partition, commit.last): commit.hash for commit in evidence.commits}
    for one in evidence.checkpoints:
        if one.position and chain.get((one.partition, one.position)) != one.hash:
            yield f"{one.kind} {one.consumer} stands at {one.position} of partition {one.partition}, no such commit"


def the_broker_is_clean(evidence: Evidence) -> Iterator[str]:
    """I17: no message is left in a feed's queue, and dead letters are exactly what the run has forged."""
    for queue, count in evidence.queued.items():
        if count:
            yield f"{count} messages are left in {queue}"
    dead, injected = Counter(evidence.dead), Counter(evidence.injected)
    if strangers := dead - injected:
        yield f"{strangers.total()} dead letters are none of the forgeries: {list(strangers)[:3]}"
    if lost := Counter(evidence.injected_last) - dead:
        yield f"{lost.total()} forgeries are not among the dead letters: {list(lost)[:3]}"


def the_relay_skips_nothing(evidence: Evidence) -> Iterator[str]:
    """I21: what lies before a relay's checkpoint was told; and no checkpoint is ahead of the log."""
    for one in evidence.checkpoints:
        if one.kind != "relay":
            continue
        if one.position > evidence.heads.get(one.partition, 0):
            yield f"the relay of {one.consumer} stands at {one.position} of partition {one.partition}, beyond its head"
        if one.consumer == TOLD_TO_OTHERS and evidence.tapped is not None:
            missing = [
                event.position for event in evidence.events
                if event.partition == one.partition and event.position <= one.position
                and event.id not in evidence.tapped
            ]  # fmt: skip
            if missing:
                yield f"partition {one.partition}: {len(missing)} events were never told, first {missing[0]}"
