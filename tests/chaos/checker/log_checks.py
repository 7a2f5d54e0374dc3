"""Of the log and the clients' ledger: I01 to I08."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from hashlib import md5, sha256
from itertools import pairwise

from tests.chaos.checker.evidence import Commit, Event, Evidence

TAG_SEPARATOR = "\x1e"
NO_HASH = bytes(32)


def acknowledged_is_stored(evidence: Evidence) -> Iterator[str]:
    """I01: every event that a client was told of is there, as it was told."""
    for call in evidence.calls:
        for told in call.events:
            event = evidence.by_id.get(told["id"])
            if event is None:
                yield f"{call.key}: event {told['id']} of {told['stream']} is not in the log"
            elif (event.stream, event.version, event.type, event.tenant) != (
                told["stream"], told["version"], told["type"], call.tenant,
            ):  # fmt: skip
                yield f"{call.key}: event {told['id']} was told as {dict(told)} and is {event[:7]}"


def nothing_twice(evidence: Evidence) -> Iterator[str]:
    """I02: ids are unique, a key binds once, and the sums are those of the clients' distinct commands."""
    doubled = [id_ for id_, count in Counter(event.id for event in evidence.events).items() if count > 1]
    if doubled:
        yield f"ids that occur twice: {doubled[:3]}"
    for tenant, key, count in evidence.keys:
        if count > 1:
            yield f"key {key} of {tenant} is bound {count} times"
    asked: Counter[tuple[str, str]] = Counter()
    for call in evidence.calls:
        if call.outcome == "ok" and call.path.endswith("/receive"):
            _, _, _, site, item, _ = call.path.split("/")
            asked[call.tenant, f"stock/{site}/{item}"] += call.body["quantity"]
    found: Counter[tuple[str, str]] = Counter()
    for event in evidence.events:
        if event.type == "StockReceived":
            found[event.tenant, event.stream] += event.facts["quantity"]
    for place in sorted(asked.keys() | found.keys()):
        if asked[place] != found[place]:
            yield f"{place}: clients had {asked[place]} units received, the log has {found[place]}"


def rejected_is_absent(evidence: Evidence) -> Iterator[str]:
    """I03: a key whose last answer was a rejection is bound to nothing, and every outcome became known."""
    bound = {(tenant, key) for tenant, key, _ in evidence.keys}
    for call in evidence.calls:
        if call.outcome == "rejected" and (call.tenant, call.key) in bound:
            yield f"{call.key} was rejected ({call.problem}) and has taken effect"
        if call.outcome == "unknown":
            yield f"{call.key}: its outcome never became known"


def positions_are_gapless(evidence: Evidence) -> Iterator[str]:
    """I04: positions have no gap, and what was seen during the run is what is there now."""
    before: dict[int, int] = defaultdict(int)
    for event in evidence.events:
        if event.position != before[event.partition] + 1:
            yield f"partition {event.partition}: {event.position} follows {before[event.partition]}"
        before[event.partition] = event.position
    now = {(event.partition, event.position): event for event in evidence.events}
    for partition, position, id_, digest in evidence.noted_events:
        found = now.get((partition, position))
        if found is None or (found.id, md5(found.data, usedforsecurity=False).hexdigest()) != (id_, digest):
            yield f"partition {partition}, position {position} was event {id_} and is {found and found.id}"


def versions_are_contiguous(evidence: Evidence) -> Iterator[str]:
    """I05: a stream's versions are 1, 2, 3 … in the order of positions."""
    for (tenant, stream), events in evidence.streams.items():
        versions = [event.version for event in events]
        if versions != list(range(1, len(versions) + 1)):
            yield f"{stream} of {tenant} has versions {versions[:20]}"


def commands_are_atomic(evidence: Evidence) -> Iterator[str]:
    """I06: a command's events stand next to each other, in the order in which they were told."""
    for call in evidence.calls:
        places = [evidence.by_id[told["id"]] for told in call.events if told["id"] in evidence.by_id]
        for one, other in pairwise(places):
            if (one.partition, one.position + 1) != (other.partition, other.position):
                yield f"{call.key}: {one.id} at {one.position} is followed by {other.id} at {other.position}"


def order_respects_time(evidence: Evidence) -> Iterator[str]:
    """I07: what was answered before something else was asked stands before it in its partition."""
    spans: dict[int, list[tuple[float, float, int, int, str]]] = defaultdict(list)
    for call in evidence.calls:
        places = [evidence.by_id[told["id"]] for told in call.events if told["id"] in evidence.by_id]
        if places:
            positions = [event.position for event in places]
            spans[places[0].partition].append(
                (call.invoked, call.answered, min(positions), max(positions), call.key)
            )
    for partition, calls in spans.items():
        answered = sorted(calls, key=lambda span: span[1])
        done, highest, by = 0, 0, ""
        for invoked, _, first, _, key in sorted(calls):
            while done < len(answered) and answered[done][1] < invoked:
                if answered[done][3] > highest:
                    highest, by = answered[done][3], answered[done][4]
                done += 1
            if first <= highest:
                yield f"partition {partition}: {key} at {first} was asked after {by} was answered at {highest}"


def history_is_immutable(evidence: Evidence) -> Iterator[str]:
    """I08: every commit's hash is that of its content and of the one before; heads seen earlier are in the chain."""
    events: Mapping[tuple[int, int], Event] = {
        (event.partition, event.position): event for event in evidence.events
    }
    last: dict[int, tuple[int, bytes]] = {}
    for commit in evidence.commits:
        position, previous = last.get(commit.partition, (0, NO_HASH))
        if (commit.first, commit.previous) != (position + 1, previous):
            yield f"partition {commit.partition}: the commit at {commit.first} does not follow that at {position}"
        own = [events.get((commit.partition, place)) for place in range(commit.first, commit.last + 1)]
        if None in own or _hash(commit, [event for event in own if event], evidence) != commit.hash:
            yield f"partition {commit.partition}: the commit of {commit.first} to {commit.last} is not what it was"
        last[commit.partition] = commit.last, commit.hash
    chain = {(commit.partition, commit.last): commit.hash.hex() for commit in evidence.commits}
    for partition, position, hash_ in evidence.noted_heads:
        if chain.get((partition, position)) != hash_:
            yield f"partition {partition}: the head at {position} that was seen is not in the chain"


def _hash(commit: Commit, events: list[Event], evidence: Evidence) -> bytes:
    leaves = b"".join(
        _leaf(event, commit, evidence.tags.get((event.partition, event.position))) for event in events
    )
    header = f"{commit.partition}:{commit.first}:{commit.last}:{commit.recorded_micros}:"
    return sha256(commit.previous + header.encode() + leaves).digest()


def _leaf(event: Event, commit: Commit, tags: list[str] | None) -> bytes:
    lengths = ":".join(str(len(text.encode())) for text in (event.tenant, event.stream, event.type))
    header = (
        f"{event.partition}:{event.position}:{event.version}:{event.schema_version}:{commit.recorded_micros}:"
        f"{lengths}:{len(event.data)}:{len(event.metadata)}:{event.id}:{event.tenant}{event.stream}{event.type}"
    )
    leaf = sha256(header.encode() + event.data + event.metadata).digest()
    return sha256(leaf + TAG_SEPARATOR.join(tags).encode()).digest() if tags else leaf
