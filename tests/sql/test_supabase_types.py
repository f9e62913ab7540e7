"""The committed types for supabase-js are those of the schema."""

import io
import sys
from pathlib import Path

import psycopg
import pytest

from sql import supabase_types

COMMITTED = Path(__file__).parents[2] / "deploy" / "supabase" / "types.ts"


def test_the_committed_types_are_the_schemas(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command writes the very file that is committed."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{dsn}\n"))
    supabase_types.main()
    assert COMMITTED.read_text("utf-8") == capsys.readouterr().out


def test_the_types_follow_the_schema(database: psycopg.Connection) -> None:
    """A column is optional to insert when it has a default or takes null, and an array is one in TypeScript."""
    database.execute("alter table jobs add column extra int[] not null, add column maybe boolean")
    lines = [line.strip() for line in supabase_types.generate(database).splitlines()]
    assert (3, 1) == (lines.count("extra: number[]"), lines.count("extra?: number[]"))
    assert (2, 2) == (lines.count("maybe: boolean | null"), lines.count("maybe?: boolean | null"))
    assert "Args: { p_job_id: string; p_last_error?: string; p_status: string }" in lines
