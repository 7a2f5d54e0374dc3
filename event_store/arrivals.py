"""
Where a consumer of one partition must wait for another: at the arrival of a tenant that has moved (decision 0020).

A page is cut before each commit that holds an arrival, so that what follows a cut begins with one. Whoever follows
goes on there once it has itself taken the partition that was left up to the fence: its own checkpoints say so. Two
waits cannot wait for each other, because what is waited for was committed before the one who waits.
"""

from collections.abc import Iterator

from event_store.log import Page
from schemas.moves import TenantArrived, TenantLeft

ARRIVED, LEFT = TenantArrived.type, TenantLeft.type


def has_moves(page: Page) -> bool:
    """Say whether a tenant arrives or leaves in a page."""
    return any(event.type in (ARRIVED, LEFT) for event in page.events)


def pieces(page: Page) -> Iterator[Page]:
    """Return a page in pieces, of which each that holds an arrival begins with it."""
    starts = [event.position for event in page.events if event.type == ARRIVED]
    after, events, commits = page.after, page.events, page.commits
    for start in starts:
        count = start - after.position - 1
        if count <= 0:
            continue
        number = next(at for at, commit in enumerate(commits) if commit.last_position >= start)
        end = commits[number - 1].mark
        yield Page(page.partition, after, events[:count], end, commits[:number])
        after, events, commits = end, events[count:], commits[number:]
    yield Page(page.partition, after, events, page.end, commits) if after != page.after else page
