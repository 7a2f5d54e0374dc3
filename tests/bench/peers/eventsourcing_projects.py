"""
The library `eventsourcing` on PostgreSQL: its projection runner catches up with a number of events, into one table.

    python eventsourcing_projects.py URL EVENTS        in an environment that has it (see packages.in)

Prints one line of JSON: what was projected, and how many a second. It commits one tracked transaction per event, as
the library has it. It stands in a schema of its own.
"""

import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL, Identifier

SCHEMA = "peer_projection"
EVENTS_AN_AGGREGATE = 50
PROJECT_SECONDS_MAX = 100.0


class Stock(Aggregate):  # type: ignore[misc]  # the library is in an environment of its own
    """What one site has of one item."""

    @event("Opened")  # type: ignore[untyped-decorator]  # the library is in an environment of its own
    def __init__(self, site_id: str, item_id: str) -> None:
        self.site_id, self.item_id, self.on_hand = site_id, item_id, 0

    @event("Received")  # type: ignore[untyped-decorator]  # the library is in an environment of its own
    def receive(self, lot: str, quantity: int) -> None:
        """Take goods in."""
        self.on_hand += quantity


class Stocks(Application[Any]):  # type: ignore[misc]  # the library is in an environment of its own
    """Keeps stocks."""


class Levels(PostgresTrackingRecorder):  # type: ignore[misc]  # the library is in an environment of its own
    """The read table, written with the tracking record in one transaction."""

    def __init__(self, datastore: Any, **named: Any) -> None:
        super().__init__(datastore, **named)
        self.table = Identifier(SCHEMA, "levels")
        self.sql_create_statements.append(
            SQL("CREATE TABLE IF NOT EXISTS {} (id uuid PRIMARY KEY, on_hand bigint, version bigint)").format(
                self.table
            )
        )

    def add(self, id_: Any, quantity: int, version: int, tracking: Tracking) -> None:
        """Add to a level."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(
                SQL("INSERT INTO {} AS l VALUES (%s, %s, %s) ON CONFLICT (id) DO UPDATE "
                    "SET on_hand = l.on_hand + excluded.on_hand, version = excluded.version").format(self.table),
                (id_, quantity, version), prepare=True,
            )  # fmt: skip


class LevelsProjection(Projection[Levels]):  # type: ignore[misc]  # the library is in an environment of its own
    """Adds up what came in."""

    name = "levels"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Write one event's effect."""
        quantity = getattr(domain_event, "quantity", 0)
        self.view.add(domain_event.originator_id, quantity, domain_event.originator_version, tracking)


def main() -> None:
    """Make a schema, fill, project, count, and print."""
    url, events = sys.argv[1], int(sys.argv[2])
    parts = urlsplit(url)
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres", "POSTGRES_DBNAME": parts.path.lstrip("/"),
        "POSTGRES_HOST": parts.hostname or "", "POSTGRES_PORT": str(parts.port or 5432),
        "POSTGRES_USER": parts.username or "", "POSTGRES_PASSWORD": parts.password or "", "POSTGRES_SCHEMA": SCHEMA,
    }  # fmt: skip
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        admin.execute(f"CREATE SCHEMA {SCHEMA}")
        application = Stocks(environment)
        for _ in range(events // EVENTS_AN_AGGREGATE):
            stock = Stock("S1", str(uuid4()))
            for _ in range(EVENTS_AN_AGGREGATE - 1):
                stock.receive("L1", 1)
            application.save(stock)
        last = application.recorder.max_notification_id()
        application.close()
        began = time.perf_counter()
        with ProjectionRunner(
            application_class=Stocks, projection_class=LevelsProjection, view_class=Levels, env=environment
        ) as runner:
            runner.wait(last, timeout=PROJECT_SECONDS_MAX)
            seconds = time.perf_counter() - began
        (units, rows) = admin.execute(f"SELECT sum(on_hand), count(*) FROM {SCHEMA}.levels").fetchone() or (
            0,
            0,
        )
        admin.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    print(json.dumps({"projected": int(units) + rows, "per_second": events / seconds}))


if __name__ == "__main__":
    main()
