"""
What travels in a feed's queues: a run of whole commits, in a compact form that proves what it holds.

A message carries everything that the commits' hashes are made of, so its content is either what those hashes stand
for or found out; and whether the last hash is the log's own, one look at the log tells. A message is only a faster
way to the same bytes, never a source.

Form: `EF1`, the length of a JSON header (4 bytes), the header, then every event's data and metadata. The header names
the tags of events that carry any, by position, since hashes cover them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from event_store.integrity import commit_hash, leaf_hash, micros
from event_store.log import Commit, Page
from schemas.envelope import CommitMark, RecordedEvent
from schemas.errors import ServiceError

MAGIC = b"EF1"
MESSAGE_EVENTS_MAX = 500
MESSAGE_BYTES_MAX = 1024 * 1024
_HEADER_AT = len(MAGIC) + 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


Tags = Mapping[int, Sequence[str]]
"""Of the events that carry any, by position, in the order that is hashed."""


class FeedMessage(NamedTuple):
    """What a message claims."""

    page: Page
    tags: Tags


@dataclass(eq=False)
class BrokenMessage(ServiceError):
    """A message in a feed's queue is not what a relay writes."""

    problem: str


def messages_of(page: Page) -> Iterator[Page]:
    """Cut a page into runs of whole commits, each bounded in events and bytes; one commit is never cut."""
    after, first = page.after, 0
    commits: list[Commit] = []
    size = events = 0
    for commit in page.commits:
        start, stop = (
            commit.first_position - page.after.position - 1,
            commit.last_position - page.after.position,
        )
        octets = sum(len(event.data) + len(event.metadata) for event in page.events[start:stop])
        if commits and (events + stop - start > MESSAGE_EVENTS_MAX or size + octets > MESSAGE_BYTES_MAX):
            yield Page(page.partition, after, page.events[first:start], commits[-1].mark, commits)
            after, first, commits, size, events = commits[-1].mark, start, [], 0, 0
        commits.append(commit)
        size, events = size + octets, events + stop - start
    if commits:
        yield Page(page.partition, after, page.events[first:], commits[-1].mark, commits)


def encode_message(page: Page, tags: Tags = MappingProxyType({})) -> bytes:
    """Return a message's body; `tags` may hold those of other events as well."""
    header = orjson.dumps(
        {
            "partition": page.partition,
            "after": [page.after.position, page.after.hash.hex()],
            "commits": [
                [commit.first_position, commit.last_position, micros(commit.recorded_at), commit.hash.hex()]
                for commit in page.commits
            ],
            "tags": {
                str(event.position): tags[event.position] for event in page.events if event.position in tags
            },
            "events": [
                [
                    event.tenant, event.stream, event.version, event.id, event.type, event.schema_version,
                    len(event.data), len(event.metadata),
                ]
                for event in page.events
            ],
        }
    )  # fmt: skip
    blobs = [blob for event in page.events for blob in (event.data, event.metadata)]
    return b"".join((MAGIC, len(header).to_bytes(4, "big"), header, *blobs))


def decode_message(body: bytes) -> FeedMessage:
    """
    Return what a message claims to be; `check_chain` says whether its hashes hold.

    Raises:
        BrokenMessage: It is not in the form of a message.
    """
    if body[: len(MAGIC)] != MAGIC:
        raise BrokenMessage("does not begin as a message does")
    length = int.from_bytes(body[len(MAGIC) : _HEADER_AT], "big")
    try:
        header = orjson.loads(body[_HEADER_AT : _HEADER_AT + length])
        page = _decode(header, body, _HEADER_AT + length)
        tags = {int(place): [str(tag) for tag in own] for place, own in header.get("tags", {}).items()}
        return FeedMessage(page, tags)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, AttributeError) as error:
        raise BrokenMessage(f"{type(error).__name__}: {error}") from error


def _decode(header: dict[str, Any], body: bytes, offset: int) -> Page:
    partition, (position, hash_) = header["partition"], header["after"]
    after = CommitMark(position, bytes.fromhex(hash_))
    commits: list[Commit] = []
    events: list[RecordedEvent] = []
    rows = iter(header["events"])
    previous = after.hash
    for first, last, at, hash_ in header["commits"]:
        recorded_at = _EPOCH + timedelta(microseconds=at)
        commit = Commit(partition, first, last, recorded_at, bytes.fromhex(hash_), previous)
        previous = commit.hash
        commits.append(commit)
        for place in range(first, last + 1):
            tenant, stream, version, id_, type_, schema_version, data_length, metadata_length = next(rows)
            middle, end = offset + data_length, offset + data_length + metadata_length
            events.append(
                RecordedEvent(
                    partition, place, tenant, stream, version, id_, type_, schema_version,
                    body[offset:middle], body[middle:end], recorded_at,
                )
            )  # fmt: skip
            offset = end
    if not commits or offset != len(body):
        raise BrokenMessage("its parts do not add up")
    return Page(partition, after, events, commits[-1].mark, commits)


def check_chain(message: FeedMessage) -> None:
    """
    Recompute a message's hashes from where it begins to where it ends.

    Raises:
        BrokenMessage: They are not the hashes of what is in it.
    """
    page, tags = message
    positions = [page.after.position, *(commit.last_position for commit in page.commits)]
    for (before, _), commit in zip(pairwise(positions), page.commits, strict=True):
        if commit.first_position != before + 1 or commit.last_position < commit.first_position:
            raise BrokenMessage("its commits are not one after the other")
        at = micros(commit.recorded_at)
        first = before - page.after.position
        own = page.events[first : first + commit.last_position - before]
        leaves = [leaf_hash(event, at, tags.get(event.position, ())) for event in own]
        found = commit_hash(
            commit.previous_hash, page.partition, commit.first_position, commit.last_position, at, leaves
        )
        if found != commit.hash:
            raise BrokenMessage("its hashes are not those of its content")


def joined(pages: list[Page]) -> Page:
    """Return consecutive pages as one."""
    if len(pages) == 1:
        return pages[0]
    events = [event for page in pages for event in page.events]
    commits = [commit for page in pages for commit in page.commits]
    return Page(pages[0].partition, pages[0].after, events, pages[-1].end, commits)
