"""What a database holds, as plain values that can be compared: the schema by its catalog, and every row."""

from typing import Any

import psycopg

Schema = dict[str, set[tuple[Any, ...]]]

# the columns that the old install's owner added; whatever hangs on them is no concern of ours
FOREIGN_COLUMNS = ["project", "importance"]

_TABLES = """
  select c.oid, c.oid::regclass::text as name from pg_class c
  where c.relkind = 'r' and (c.relnamespace = to_regnamespace('agent_vault')
    or c.oid in (to_regclass('public.jobs'), to_regclass('public.agent_learnings')))
"""

# an entry of a list of privileges; roles that are named for their database are the same in every one
_ENTRY = "replace(a::text, '_' || current_database(), '') e"

_QUERIES = {
    "tables": f"""
        select t.name, c.relrowsecurity, c.relforcerowsecurity, c.relowner::regrole::text, c.reloptions, acl.entries
        from ({_TABLES}) t join pg_class c on c.oid = t.oid,
        lateral (select array_agg(e order by e) as entries from unnest(c.relacl) a, {_ENTRY}) acl""",
    "columns": f"""
        select t.name, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
          pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attacl::text
        from ({_TABLES}) t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where not a.attname = any(%(foreign)s)""",
    "constraints": f"""
        select t.name, c.conname, pg_get_constraintdef(c.oid), c.convalidated
        from ({_TABLES}) t join pg_constraint c on c.conrelid = t.oid
        where not exists (select from pg_attribute a where a.attrelid = t.oid and a.attnum = any(c.conkey)
          and a.attname = any(%(foreign)s))""",
    "indexes": f"""
        select t.name, pg_get_indexdef(i.indexrelid), i.indisvalid
        from ({_TABLES}) t join pg_index i on i.indrelid = t.oid""",
    "triggers": f"""
        select t.name, pg_get_triggerdef(g.oid), g.tgenabled
        from ({_TABLES}) t join pg_trigger g on g.tgrelid = t.oid where not g.tgisinternal""",
    "functions": f"""
        select p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proowner::regrole::text, acl.entries
        from pg_proc p, lateral (select array_agg(e order by e) as entries from unnest(p.proacl) a, {_ENTRY}) acl
        where p.pronamespace = to_regnamespace('agent_vault')
          or p.pronamespace = 'public'::regnamespace and p.proname in ('claim_next_job', 'complete_job')""",
    "policies": f"""
        select t.name, p.polname, p.polcmd, p.polpermissive, p.polroles::regrole[]::text,
          pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
        from ({_TABLES}) t join pg_policy p on p.polrelid = t.oid""",
    "schemas": f"""
        select n.nspname, acl.entries from pg_namespace n,
        lateral (select array_agg(e order by e) as entries from unnest(n.nspacl) a, {_ENTRY}) acl
        where n.nspname in ('agent_vault', 'public')""",
}


def read_schema(connection: psycopg.Connection) -> Schema:
    """Read everything of ours that the catalog knows, the order of columns aside."""
    read = {}
    for kind, query in _QUERIES.items():
        rows = connection.execute(query, {"foreign": FOREIGN_COLUMNS}).fetchall()
        read[kind] = {tuple(tuple(one) if isinstance(one, list) else one for one in row) for row in rows}
    return read


def read_rows(connection: psycopg.Connection) -> dict[str, list[str]]:
    """Read every row of our tables, in the database's own writing."""
    tables = [name for (_, name) in connection.execute(_TABLES).fetchall()]
    return {
        table: sorted(row for (row,) in connection.execute(f"select t::text from {table} t").fetchall())
        for table in tables
    }


def read_all(connection: psycopg.Connection) -> tuple[Schema, dict[str, list[str]]]:
    """Read the schema and every row."""
    return read_schema(connection), read_rows(connection)
