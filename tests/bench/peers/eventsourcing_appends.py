"""
Appends a second of the library `eventsourcing` on PostgreSQL: one event a commit, by threads, through its recorder.

    python eventsourcing_appends.py URL CALLERS SECONDS OCTETS   in an environment that has it (see packages.in)

Prints one line of JSON. It stands in a schema of its own; what was acknowledged is counted in it afterwards.
"""

import json
import sys
import threading
import time
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

SCHEMA = "peer_eventsourcing"


def measure(
    recorder: PostgresApplicationRecorder, callers: int, seconds: float, octets: int
) -> dict[str, float]:
    """Let threads append, each as soon as it was answered."""
    state, counts = b"x" * octets, [0] * callers
    stop = time.perf_counter() + seconds

    def call(caller: int) -> None:
        while time.perf_counter() < stop:
            recorder.insert_events([StoredEvent(uuid4(), 1, "stock:StockReceived", state)])
            counts[caller] += 1

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"per_second": sum(counts) / (time.perf_counter() - began), "acknowledged": sum(counts)}


def main() -> None:
    """Make a schema, measure, count, and print."""
    url, callers, seconds, octets = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    parts = urlsplit(url)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        admin.execute(f"CREATE SCHEMA {SCHEMA}")
        datastore = PostgresDatastore(
            parts.path.lstrip("/"), parts.hostname or "", str(parts.port or 5432), parts.username or "",
            parts.password or "", pool_size=callers, max_overflow=callers, schema=SCHEMA,
        )  # fmt: skip
        try:
            recorder = PostgresApplicationRecorder(datastore, events_table_name="peer_events")
            recorder.create_table()
            found = measure(recorder, callers, seconds, octets)
            (stored,) = admin.execute(f"SELECT count(*) FROM {SCHEMA}.peer_events").fetchone() or (0,)
            found["stored"] = stored
        finally:
            datastore.close()
            admin.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
