"""The reference page knows every column and every function of the schema."""

import re
from pathlib import Path

import psycopg
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "schema.md").read_text("utf-8")


def spelled(text: str) -> str:
    """Spell a type or signature of the catalog's as the page does."""
    text = re.sub(r" DEFAULT (\w+)(?:::[a-z ]+)?", r" default \1", text)
    return text.replace("timestamp with time zone", "timestamptz").replace("integer", "int").replace("NULL", "null")


@pytest.mark.parametrize("table", ["jobs", "agent_learnings"])
def test_every_column_stands_in_the_docs(database: psycopg.Connection, table: str) -> None:
    """The table's section lists its columns, no more and no fewer, in their order and with their types."""
    section = PAGE.split(f"\n## `{table}`\n")[1].split("\n## ")[0]
    columns = database.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
        [table],
    ).fetchall()
    assert [(name, spelled(of)) for name, of in columns] == re.findall(
        r"^\| `(\w+)` \| `([^`]+)` \| \S", section, re.MULTILINE
    )


def test_every_function_stands_in_the_docs(database: psycopg.Connection) -> None:
    """The page lists each function with its whole signature, and none that is gone."""
    found = database.execute(
        "select pronamespace::regnamespace || '.' || proname || '(' || pg_get_function_arguments(oid) || ')'"
        " from pg_proc where pronamespace in ('public'::regnamespace, 'agent_vault'::regnamespace)"
    ).fetchall()
    section = " ".join(PAGE.split("\n## Functions\n")[1].split("\n## ")[0].split())
    assert {spelled(name) for (name,) in found} == set(re.findall(r"`((?:public|agent_vault)\.\w+\([^`]*\))`", section))


def test_every_trigger_stands_in_the_docs(database: psycopg.Connection) -> None:
    """The page names each trigger."""
    found = database.execute("select tgname from pg_trigger where not tgisinternal").fetchall()
    assert {name for (name,) in found} == set(re.findall(r"`(agent_vault_(?!service)[a-z]+)`", PAGE))
