"""
What a database's catalogue says of its guards, as sentences about what is wrong; an empty list is what tests want.

Every table, view, function and role is looked at, so one that is added later is held to the same.
"""

from typing import Any

REVIEWED_DEFINERS = frozenset(
    {"ensure_ranges_v2", "fill_occurrences_v1", "parked_counts_v1", "session_waits_v1"}
)
"""Functions that run as their owner. Each says in its header why it must, and what a caller could do with it."""
OWNERS_ALONE = frozenset({"erasures", "migration_runs", "schema_revision"})
"""Tables of the namespace that no role which serves has any business with."""
TRAFFIC = ("everfold_appender", "everfold_feed", "everfold_query")
ROLES = (*TRAFFIC, "everfold_builder", "everfold_keeper")

OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"


async def faults(connection: Any) -> list[str]:
    """Return what is not guarded as it should be, in a database that a superuser is connected to."""
    return [
        *[
            f"{row[0]} has tenants and no forced row security with policies"
            for row in await connection.fetch(UNGUARDED)
        ],
        *[f"view {row[0]} asks with its owner's rights" for row in await connection.fetch(OWNERS_VIEWS)],
        *[f"role {row[0]} may too much" for row in await connection.fetch(STRONG_ROLES, list(ROLES))],
        *[f"role {row[0]} owns {row[1]}" for row in await connection.fetch(OWNERS, list(TRAFFIC))],
        *[f"role {row[0]} may {row[2]} {row[1]}" for row in await connection.fetch(CHANGES, list(ROLES))],
        *[
            f"nobody may use {row[0]}"
            for row in await connection.fetch(UNUSABLE, list(TRAFFIC), list(OWNERS_ALONE))
        ],
        *[
            f"function {row['name']} runs as its owner: {what}"
            for row in await connection.fetch(DEFINERS)
            for what in _definer_faults(row)
        ],
    ]


def _definer_faults(row: Any) -> list[str]:
    found = []
    if row["name"] not in REVIEWED_DEFINERS:
        found.append("not reviewed")
    if "search_path=pg_catalog, pg_temp" not in (row["settings"] or ()):
        found.append("its search_path is not pinned")
    if row["for_all"]:
        found.append("everybody may call it")
    return found


UNGUARDED = f"""
    SELECT c.oid::regclass::text FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped
     WHERE {OURS} AND c.relkind IN ('r', 'p', 'm', 'f')
       AND NOT (c.relrowsecurity AND c.relforcerowsecurity
                AND EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'named_tenants')
                AND NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid
                                   AND p.polname NOT IN ('named_tenants', 'whole_partitions')))
     ORDER BY 1
"""
OWNERS_VIEWS = f"""
    SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE {OURS} AND c.relkind = 'v' AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)
"""
STRONG_ROLES = """
    SELECT r.rolname FROM pg_roles AS r
     WHERE r.rolname = ANY ($1::text[])
       AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolcanlogin)
    UNION ALL
    SELECT missing FROM unnest($1::text[]) AS missing
     WHERE NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = missing)
"""
OWNERS = """
    SELECT r.rolname, pg_describe_object(d.classid, d.objid, d.objsubid)
      FROM pg_shdepend AS d JOIN pg_roles AS r ON r.oid = d.refobjid
     WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND r.rolname = ANY ($1::text[])
       AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
CHANGES = """
    SELECT role, c.oid::regclass::text, privilege
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     CROSS JOIN unnest($1::text[]) AS role
     CROSS JOIN unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES']) AS privilege
     WHERE n.nspname = 'everfold' AND c.relkind IN ('r', 'p') AND c.relname ~ '^(events|commits)($|_p)'
       AND (has_table_privilege(role, c.oid, privilege)
            OR privilege IN ('UPDATE', 'REFERENCES') AND has_any_column_privilege(role, c.oid, privilege))
"""
UNUSABLE = """
    SELECT c.oid::regclass::text FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = 'everfold' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
       AND c.relname <> ALL ($2::text[])
       AND NOT EXISTS (SELECT FROM unnest($1::text[]) AS role
                        WHERE has_table_privilege(role, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
                           OR has_any_column_privilege(role, c.oid, 'SELECT, INSERT, UPDATE'))
"""
DEFINERS = f"""
    SELECT f.proname AS name, f.proconfig AS settings, has_function_privilege('public', f.oid, 'EXECUTE') AS for_all
      FROM pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
     WHERE {OURS} AND f.prosecdef
"""
