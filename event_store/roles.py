"""
Makes the roles of a system in its database servers, or says what an administrator has to make.

What a role may do is granted by migrations (`sql/migrations/guards.sql`). Which process takes which is said in
`infra/database_roles.py`.
"""

from typing import Any

import sqlalchemy
from psycopg import errors as postgres_errors
from psycopg.sql import Identifier, Literal

from infra.sql import load_sql
from schemas.errors import BadDefinition

MISSING = "ES010"


def make_roles(connection: Any, namespace: str) -> None:
    """
    Make the roles that are not there yet, in a connection's transaction.

    Raises:
        BadDefinition: The account may not, and they are not all there.
    """
    try:
        connection.cursor().execute(_script(namespace))
    except postgres_errors.Error as error:
        if error.sqlstate != MISSING:
            raise
        account = connection.info.user
        raise BadDefinition(
            f"account {account}",
            f"lacks {error.diag.message_detail}; have an administrator of the database server run what "
            "`everfold migrate --print-roles` prints, then migrate again",
        ) from error


def roles_script(url: str, namespace: str) -> str:
    """Return what an administrator runs on a database so that the account of its address may migrate it."""
    address = sqlalchemy.make_url(url)
    account = address.username or "everfold"
    database = Identifier(address.database or "postgres").as_string()
    return (
        f"-- Run this as an administrator of {address.host}:{address.port or 5432}, on database {address.database}.\n"
        f"SET {namespace}.account = {Literal(account).as_string()};\n"
        f"GRANT CREATE ON DATABASE {database} TO {Identifier(account).as_string()};\n"
        f"{_script(namespace)}"
    )


def _script(namespace: str) -> str:
    return load_sql("event_store", "sql/roles/make_roles.sql", namespace=namespace)
