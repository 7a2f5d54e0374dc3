"""
Events that could not be folded, and what becomes of them: folded after all, or left out for good.

Either way the row is folded again from the log, so the result is what a replay would make of it. Events that
workflows have set aside stand beside them; what becomes of those is up to the workflow's own process.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from getpass import getuser
from typing import Any

from event_store.parking import WORKFLOW, leave_out, let_go_on
from infra.sql import load_sql
from projectors.folding import WHOLE_STREAM, Place
from projectors.mend import mender_of
from projectors.read_side import ReadSide
from projectors.writing import decode_key
from schemas.errors import MalformedRequest, NotFound
from schemas.messages import format_instant

Parked = Mapping[str, Any]
TAKEN_UP = "is taken up by the workflow's process"


async def read_parked(side: ReadSide, tenant: str, projection: str | None = None) -> Sequence[Parked]:
    """Return a tenant's parked events in order."""
    sql = partial(load_sql, "projectors", namespace=side.settings.namespace)
    rows: Sequence[Parked] = await side.pool.fetch(sql("sql/parked.sql"), tenant, projection)
    return rows


def document_of(parked: Parked) -> dict[str, Any]:
    """Return a parked event as JSON."""
    return {
        "id": parked["id"],
        "kind": parked["kind"],
        "projection": parked["consumer"] if parked["kind"] != WORKFLOW else None,
        "workflow": parked["consumer"] if parked["kind"] == WORKFLOW else None,
        "table": parked["table_name"],
        "key": [parked["key"]] if parked["kind"] == WORKFLOW else list(decode_key(parked["key"])),
        "position": parked["position"],
        "stream": parked["stream"],
        "event_id": parked["event_id"],
        "type": parked["event_type"],
        "schema_version": parked["schema_version"],
        "error": parked["error"],
        "parked_at": format_instant(parked["parked_at"]),
    }


async def retry(side: ReadSide, parked: Sequence[Parked]) -> dict[str, str]:
    """Fold the rows of parked events again, let workflows go on; return what became of each, by name and key."""
    done: dict[str, str] = {}
    if waiting := [one for one in parked if one["kind"] == WORKFLOW]:
        await let_go_on(side.pool, side.settings.namespace, [one["id"] for one in waiting])
        done |= {f"{one['consumer']} {one['key']}": TAKEN_UP for one in waiting}
    places = ((one["consumer"], place_of(one)) for one in parked if one["kind"] != WORKFLOW)
    for projection, place in dict.fromkeys(places):
        if place.table == WHOLE_STREAM:
            raise MalformedRequest(
                f"the keys of events of {place.key[0]} could not be told: mend the projection, then replay {projection}"
            )
        kind = side.kinds.get(projection)
        if kind is None:
            raise NotFound(f"projection {projection}")
        mender = await mender_of(side, kind)
        done[f"{projection} {'/'.join(place.key)}"] = await mender.mend(place)
    return done


async def skip(side: ReadSide, parked: Parked, reason: str, *, actor: str | None = None) -> dict[str, str]:
    """Leave one event out for good, and fold its row again without it."""
    if parked["kind"] == WORKFLOW:
        await leave_out(side.pool, side.settings.namespace, parked["id"], reason, actor or getuser())
        return {f"{parked['consumer']} {parked['key']}": "left out"}
    sql = partial(load_sql, "projectors", namespace=side.settings.namespace)
    await side.pool.execute(sql("sql/skip.sql"), parked["id"], actor or getuser(), reason)
    return await retry(side, [parked])


def one_parked(parked: Sequence[Parked], number: int) -> Parked:
    """
    Return one of some parked events, by its id.

    Raises:
        NotFound: It is not among them.
    """
    found = next((one for one in parked if one["id"] == number), None)
    if found is None:
        raise NotFound(f"parked event {number}")
    return found


def place_of(parked: Parked) -> Place:
    """Return the row that an event waits at."""
    return Place(parked["table_name"], parked["tenant"], decode_key(parked["key"]))
