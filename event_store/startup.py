"""
What a process looks at before it serves: whether its settings, and the servers that they name, keep their promises.

In production a process refuses to start where they do not, with one error that lists all that is wrong; in
development it says so, quietly where only this machine is concerned. A production process that cannot ask a server
does not start either: it could not know. Replicas are no exception, but one that is away now is asked nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from event_store.connections import RoleNotTaken, connect
from event_store.failures import NO_REPLY
from infra.database_roles import Part
from infra.settings import PREFIX, Settings
from infra.sql import load_sql
from infra.telemetry import log
from infra.unsafe_settings import Finding, UnsafeSettings, database_urls, findings_in, is_local, place_of
from schemas.errors import StoreUnavailable

VERSION_MIN = 15
"""Views with their reader's rights came with it."""
DURABILITY = ("fsync", "full_page_writes", "synchronous_commit")
REPLICAS = f"{PREFIX}REPLICA_URLS"
STORE = f"{PREFIX}STORE_URL"
OF_THE_LOG: frozenset[Part] = frozenset({"appender", "keeper"})
"""What works on the log's servers alone."""


async def check_start(settings: Settings, *parts: Part, verifies_tokens: bool = False) -> None:
    """
    Look at the settings of a process whose connections work as some parts.

    Raises:
        UnsafeSettings: It is to be in production, and something would lie.
        StoreUnavailable: It is to be in production, and a server cannot be asked.
    """
    is_production = settings.mode == "production"
    findings = findings_in(settings, verifies_tokens=verifies_tokens)
    for variable, url in database_urls(settings):
        try:
            findings += await _ask(settings, variable, url, parts)
        except StoreUnavailable:
            if is_production and variable != REPLICAS:
                raise
            log.info("not asked whether it is safe", server=place_of(url), variable=variable)
    findings = list(dict.fromkeys(findings))
    if findings and is_production:
        raise UnsafeSettings.of(findings)
    for finding in findings:
        (log.debug if finding.is_local else log.warning)("production would refuse this", finding=str(finding))


async def _ask(settings: Settings, variable: str, url: str, parts: Iterable[Part]) -> list[Finding]:
    found: list[Finding] = []
    for part in parts:
        if part in OF_THE_LOG and variable != STORE:
            continue
        try:
            said = await _row(settings, url, settings.role_of(part))
        except RoleNotTaken as error:
            found.append(Finding(variable, f"({place_of(url)}): database role {error.role} {error.problem}"))
        else:
            found += [
                Finding(variable, f"({place_of(url)}): {problem}", is_local(url))
                for problem in problems_of(said)
            ]
    return found


async def _row(settings: Settings, url: str, role: str | None) -> Any:
    connection = await connect(url, name="everfold-startup", role=role, statements_cached_max=0)
    try:
        row = await connection.fetchrow(
            load_sql("event_store", "sql/queries/startup.sql", namespace=settings.namespace)
        )
    except NO_REPLY as error:
        raise StoreUnavailable from error
    finally:
        connection.terminate()
    return row


def problems_of(said: Any) -> Sequence[str]:
    """Return what is wrong with a server that says this of itself, and what to do."""
    return [*_server_problems(said), *_account_problems(said)]


def _server_problems(said: Any) -> Iterator[str]:
    if said["version"] < VERSION_MIN * 10_000:
        yield f"PostgreSQL {said['version'] // 10_000} is too old: use {VERSION_MIN} or newer"
    if said["encoding"] != "UTF8":
        yield f"its encoding is {said['encoding']}: make the database with ENCODING 'UTF8'"
    if not said["is_replica"]:
        for setting in DURABILITY:
            if said[setting] == "off":
                yield f"{setting} is off, so what was acknowledged can be lost: set it to on"


def _account_problems(said: Any) -> Iterator[str]:
    if said["account_bypasses"]:
        yield (
            f"account {said['account']} bypasses row security: "
            "connect as an account that is neither superuser nor BYPASSRLS"
        )
    elif said["role_bypasses"]:
        yield f"role {said['role']} bypasses row security: ALTER ROLE {said['role']} NOSUPERUSER NOBYPASSRLS"
    elif said["owns_log"]:
        yield (
            f"account {said['account']} has the rights of the log's owner: "
            "migrate with another account than those that serve"
        )
