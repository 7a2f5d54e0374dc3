"""
Brings a database to a revision of its layout, or says which one it is at.

Everything of a namespace lives in the schema of that name, its revision included, so several systems can share
a database. A run is one transaction under an advisory lock: killed at any statement it leaves nothing, and two runs
at once do the work once. Every database gets every table; partitions of the log are made only where they belong.
Roles belong to the whole server and stay: they are made first, in a transaction of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from socket import gethostname
from typing import Any
from uuid import uuid4

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import errors as postgres_errors

from event_store.roles import make_roles
from infra.sql import load_sql
from schemas.errors import BadDefinition, Rejection, StoreUnavailable

LOCK_WAIT_SECONDS_MAX = 60
STATEMENT_LOCK_WAIT_SECONDS_MAX = 2
"""How long a step may wait for a table; appends queue behind a step that waits, so it gives up first."""
CONNECT_SECONDS_MAX = 10
NOT_EMPTY = "ES007"


@dataclass(frozen=True, slots=True)
class Migration:
    """What one database is like, or was made to be."""

    server: str
    """Host, port and database; never the password."""
    before: str | None
    after: str | None
    newest: str
    partitions_made: Sequence[int] = ()
    partitions_missing: Sequence[int] = ()
    is_newer: bool = False
    """Whether a newer program has migrated it already: this one works with it as it is, and changes nothing."""

    @property
    def is_current(self) -> bool:
        """Whether the database is at the newest revision or beyond, with all partitions that belong there."""
        return (self.after == self.newest or self.is_newer) and not self.partitions_missing


@dataclass(eq=False)
class LogNotEmpty(Rejection):
    """The log holds events, and going back to before it would lose them."""


def migrate_all(
    store_urls: Mapping[range, str],
    read_url: str,
    namespace: str,
    *,
    check: bool = False,
    to: str | None = None,
    reason: str | None = None,
) -> Sequence[Migration]:
    """Migrate every database of a system: the log's servers, and that of the read tables if it is another one."""
    wanted: dict[str, list[int]] = {}
    for partitions, url in store_urls.items():
        wanted.setdefault(url, []).extend(partitions)
    wanted.setdefault(read_url, [])
    log_id = None if check else _identity_of(list(wanted), namespace)
    return [
        migrate(url, namespace, partitions, check=check, to=to, reason=reason, log_id=log_id)
        for url, partitions in wanted.items()
    ]


def _identity_of(urls: Sequence[str], namespace: str) -> str:
    """
    Return the identity that the servers of a log share, or a new one where none has any.

    Raises:
        BadDefinition: They hold parts of different logs.
        StoreUnavailable: One does not answer.
    """
    found: dict[str, str] = {}
    for url in urls:
        with _opened(url) as (server, connection):
            cursor = connection.connection.cursor()
            if (identity := _identity(cursor, namespace)) is not None:
                found[identity] = server
    if len(found) > 1:
        raise BadDefinition(
            "EVERFOLD_STORE_URL", f"{' and '.join(found.values())} hold parts of different logs"
        )
    return next(iter(found), str(uuid4()))


def migrate(
    url: str,
    namespace: str,
    partitions: Sequence[int],
    *,
    check: bool = False,
    to: str | None = None,
    range_events: int | None = None,
    reason: str | None = None,
    log_id: str | None = None,
) -> Migration:
    """
    Bring one database to the newest revision, or to the revision `to`, and make the partitions that belong there.

    With `check` it only looks. `range_events` is how many positions go into one table of events. Who did it, and
    the `reason`, are recorded with every change. `log_id` is the identity that a log without one is given.

    A database that a newer program has migrated is left as it is: while versions change, both work with it.

    Raises:
        StoreUnavailable: The server is away, or somebody held what had to be changed.
        BadDefinition: There is no revision `to` or a newer program has gone beyond it, the log was made with other
            partitions, or roles are missing that the account may not make.
        LogNotEmpty: It would have taken the log away.
    """
    scripts = ScriptDirectory.from_config(_config(namespace))
    newest = scripts.get_current_head() or ""
    if to is not None and to != "base":
        _require_revision(scripts, to)
    with _opened(url, roles_of=None if check else namespace) as (server, connection):
        cursor = connection.connection.cursor()
        if check:
            before = _revision(cursor, namespace)
            missing = _missing(cursor, namespace, partitions) if before else tuple(partitions)
            newer = _is_newer(scripts, before)
            return Migration(server, before, before, newest, partitions_missing=missing, is_newer=newer)
        _lock(cursor, namespace)
        cursor.execute(load_sql("event_store", "sql/migrations/namespace.sql", namespace=namespace))
        before = _revision(cursor, namespace)
        if _is_newer(scripts, before):
            if to is not None:
                raise BadDefinition(
                    f"revision {before}", f"is of a newer program than this: only that one leads to {to}"
                )
            return Migration(server, before, before, newest, is_newer=True)
        _move(connection, namespace, before, to or "head", scripts)
        after = _revision(cursor, namespace)
        made: Sequence[int] = ()
        if after is not None:
            made = _make_partitions(cursor, namespace, partitions, range_events)
            _identify(cursor, namespace, log_id or str(uuid4()))
            _guard(cursor, namespace)
        if made or after != before:
            record = load_sql("event_store", "sql/queries/record_migration.sql", namespace=namespace)
            cursor.execute(record, [before, after, f"{getuser()}@{gethostname()}", reason])
        return Migration(server, before, after, newest, partitions_made=made)


@contextmanager
def _opened(url: str, *, roles_of: str | None = None) -> Iterator[tuple[str, sqlalchemy.Connection]]:
    """
    Open a transaction for a block, and name its server without the password.

    The roles of the namespace `roles_of` are made first, in a transaction of their own: they are the whole server's.
    """
    engine = sqlalchemy.create_engine(
        sqlalchemy.make_url(url).set(drivername="postgresql+psycopg"),
        poolclass=sqlalchemy.NullPool,
        connect_args={"connect_timeout": CONNECT_SECONDS_MAX, "application_name": "everfold-migrate"},
    )
    server = f"{engine.url.host}:{engine.url.port or 5432}/{engine.url.database}"
    try:
        if roles_of is not None:
            with engine.begin() as connection:
                make_roles(connection.connection.driver_connection, roles_of)
        with engine.begin() as connection:
            yield server, connection
    except sqlalchemy.exc.OperationalError as error:
        raise StoreUnavailable from error
    except (postgres_errors.OperationalError, postgres_errors.LockNotAvailable) as error:
        raise StoreUnavailable from error
    except postgres_errors.Error as error:
        if error.sqlstate == NOT_EMPTY:
            raise LogNotEmpty from error
        raise
    finally:
        engine.dispose()


def _config(namespace: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["namespace"] = namespace
    return config


def _require_revision(scripts: ScriptDirectory, revision: str) -> None:
    known = [script.revision for script in scripts.walk_revisions()]
    if revision not in known:
        raise BadDefinition(f"revision {revision}", f"is none of: base, {', '.join(reversed(known))}")


def _is_newer(scripts: ScriptDirectory, revision: str | None) -> bool:
    """Say whether a database is at a step that this program does not know; revisions are only ever added."""
    return revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}


def _lock(cursor: Any, namespace: str) -> None:
    cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_SECONDS_MAX}s'")
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{namespace}/migrate"])
    cursor.execute(f"SET LOCAL lock_timeout = '{STATEMENT_LOCK_WAIT_SECONDS_MAX}s'")


def _revision(cursor: Any, namespace: str) -> str | None:
    cursor.execute("SELECT to_regclass(%s)", [f"{namespace}.schema_revision"])
    if cursor.fetchone()[0] is None:
        return None
    cursor.execute(load_sql("event_store", "sql/queries/revision.sql", namespace=namespace))
    row = cursor.fetchone()
    return str(row[0]) if row else None


def _identity(cursor: Any, namespace: str) -> str | None:
    cursor.execute("SELECT to_regclass(%s)", [f"{namespace}.log_identity"])
    if cursor.fetchone()[0] is None:
        return None
    cursor.execute(load_sql("event_store", "sql/queries/log_identity.sql", namespace=namespace))
    row = cursor.fetchone()
    return str(row[0]) if row else None


def _identify(cursor: Any, namespace: str, log_id: str) -> None:
    cursor.execute("SELECT to_regclass(%s)", [f"{namespace}.log_identity"])
    if cursor.fetchone()[0] is not None:  # an earlier revision was asked for
        cursor.execute(load_sql("event_store", "sql/queries/identify.sql", namespace=namespace), [log_id])


def _move(connection: Any, namespace: str, before: str | None, to: str, scripts: ScriptDirectory) -> None:
    config = _config(namespace)
    config.attributes["connection"] = connection
    order = [script.revision for script in scripts.walk_revisions()]  # newest first
    is_back = to == "base" or (to != "head" and before in order and order.index(before) < order.index(to))
    (command.downgrade if is_back else command.upgrade)(config, to)


def _guard(cursor: Any, namespace: str) -> None:
    cursor.execute(load_sql("event_store", "sql/queries/has_guards.sql", namespace=namespace))
    if cursor.fetchone()[0]:
        cursor.execute(load_sql("event_store", "sql/queries/guard_every_table.sql", namespace=namespace))


def _missing(cursor: Any, namespace: str, partitions: Sequence[int]) -> Sequence[int]:
    cursor.execute(load_sql("event_store", "sql/queries/partitions.sql", namespace=namespace))
    here = {row[0] for row in cursor.fetchall()}
    return tuple(partition for partition in partitions if partition not in here)


def _make_partitions(
    cursor: Any, namespace: str, partitions: Sequence[int], range_events: int | None
) -> Sequence[int]:
    missing = _missing(cursor, namespace, partitions)
    cursor.execute(load_sql("event_store", "sql/queries/partitions.sql", namespace=namespace))
    here = [row[0] for row in cursor.fetchall()]
    if here and (missing or len(here) != len(partitions)):
        raise BadDefinition(
            "EVERFOLD_PARTITIONS",
            f"the log on this server has the partitions {sorted(here)}, which cannot be changed to {list(partitions)}",
        )
    for partition in missing:
        cursor.execute(
            load_sql("event_store", "sql/queries/create_partition.sql", namespace=namespace),
            [partition, range_events],
        )
    return missing
