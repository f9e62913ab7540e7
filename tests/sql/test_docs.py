"""The reference page knows every column and every function of the schema."""

import re
from pathlib import Path

import psycopg
import pytest

from sql import dsn, encryption, supabase, troubles

STRINGS = (Path(__file__).parents[2] / "docs" / "connection-strings.md").read_text("utf-8")
PAGE = (Path(__file__).parents[2] / "docs" / "schema.md").read_text("utf-8")


def spelled(text: str) -> str:
    """Spell a type or signature of the catalog's as the page does."""
    text = re.sub(r" DEFAULT (\w+)(?:::[a-z ]+(?:\[\])?)?", r" default \1", text)
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


def messages(heading: str) -> set[str]:
    """Return the messages in the table of a section of the page of connection strings."""
    section = STRINGS.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return {
        text for cell in re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE) for text in re.findall("`(.*?)`", cell)
    }


def test_every_trouble_stands_in_the_docs() -> None:
    """The page lists the cause of each failure to connect, and none that is never told."""
    others = (troubles.ONLY_IPV6, troubles.BAD_HOST)
    assert {one.cause for one in (*troubles.TROUBLES, *others)} == messages("While it runs")


def test_refused_strings_in_the_docs_are_the_programs() -> None:
    """Each message of the page stands in the code, in which a long one is broken over lines."""
    code = "".join(Path(str(module.__file__)).read_text("utf-8") for module in (dsn, encryption, supabase))
    told = re.sub(r'"\s+f?"', "", code)
    assert [] == [text for text in messages("Refused at start") if text not in told]
