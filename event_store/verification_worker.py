"""
One of the processes that check the chain: slices come in as lines of JSON, how far it is and what was found go out.

It is started by verification.py alone and ends with it.
"""

import asyncio
import sys
from typing import Any

import orjson
import uvloop

from event_store.integrity import Slice, verify_slice
from event_store.object_errors import ArchiveUnavailable
from event_store.object_store import ArchiveAddress, object_store_at
from event_store.postgres import PostgresLog
from infra.garbage import collect_seldom
from schemas.envelope import CommitMark
from schemas.errors import StoreUnavailable


async def work() -> None:
    """Check slices until the input ends."""
    first = orjson.loads(await asyncio.to_thread(sys.stdin.buffer.readline))
    store_urls = {range(start, stop): url for start, stop, url in first["store_urls"]}
    archive = object_store_at(ArchiveAddress(*first["archive"]))
    async with PostgresLog(store_urls, first["namespace"], archive=archive) as log:
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            asked = orjson.loads(line)
            one = Slice(asked["partition"], _mark(asked["after"]), asked["until"] and _mark(asked["until"]))
            try:
                report = await verify_slice(log, one, lambda _partition, position: _say(position=position))
            except StoreUnavailable:
                _say(away=True)
                return
            except ArchiveUnavailable as error:
                _say(archive_away=[error.object, error.problem])
                return
            fault = report.fault and [report.fault.position, report.fault.reason]
            _say(position=report.end.position, hash=report.end.hash.hex(), fault=fault)


def _mark(said: Any) -> CommitMark:
    return CommitMark(said[0], bytes.fromhex(said[1]))


def _say(**what: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    collect_seldom()
    uvloop.run(work())
