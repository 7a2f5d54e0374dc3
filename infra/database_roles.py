"""
Which role of the database each process works as.

What a role may do there is said in `event_store/sql/migrations/guards.sql`.

A connection takes its role when it is opened, as a parameter of the start-up packet, so nothing is sent for it later
and a superuser's account works under the same limits. Behind a transaction pooler, which hands one connection to
many, accounts that have one role each log in instead (`EVERFOLD_DATABASE_ROLES=accounts`).
"""

from collections.abc import Mapping
from typing import Literal

ASSUMED = "assumed"
Part = Literal["appender", "feed", "query", "keeper"]


def role_of(namespace: str, part: Part, database_roles: str) -> str | None:
    """Return the role that connections of a part take; None: their account has it."""
    return f"{namespace}_{part}" if database_roles == ASSUMED else None


def builder_of(namespace: str) -> str:
    """Return the role that owns the tables of projections' generations."""
    return f"{namespace}_builder"


def start_parameters(application: str, role: str | None) -> Mapping[str, str]:
    """Return what a connection says of itself when it is opened."""
    return {"application_name": application, **({"role": role} if role else {})}


def role_problem(sqlstate: str | None, role: str) -> str | None:
    """Return why a connection could not take its role, and what to do; None where that isn't what its failure says."""
    match sqlstate:
        case "22023":
            return "is not there; run `everfold migrate`"
        case "42501":
            return f"may not be taken by the account that connects; GRANT {role} TO it, see the runbook"
        case _:
            return None
