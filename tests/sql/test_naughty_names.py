"""The big list of naughty strings as names of workers, daemons, queues and logins: taken as texts, or refused."""

import argparse
import json
import re
from pathlib import Path

import psycopg
import pytest

from daemon import settings
from notifier.configuration import SettingsError
from vault import logins_cli

CORPUS = Path(__file__).parents[1] / "vault" / "corpora" / "naughty_strings.json"
NAUGHTY = [
    *json.loads(CORPUS.read_text("utf-8")),
    "mac/1",
    "mac'; drop table public.jobs; --",
    "%",
    "_",
    "a\nb",
    "a" * 5000,
]
# what psycopg cannot send at all
TEXTS = [text for text in NAUGHTY if "\0" not in text and text.encode("utf-8", "replace").decode() == text]


def test_as_names_of_workers_and_daemons(database: psycopg.Connection) -> None:
    """Each claims under its name letter by letter, ends what it claimed, and is found under it alone."""
    claim = "select id, claims from agent_vault.claim_jobs('default', %s, 1, 60)"
    for text in dict.fromkeys(TEXTS):
        database.execute("insert into public.jobs (type) values (%s)", [text or "chat"])
        database.execute("select agent_vault.take_name(%s, %s, '{default}', false, 15)", [text, text])
        (job,) = database.execute(claim, [text]).fetchall()
        assert (text,) == database.execute("select locked_by from public.jobs where id = %s", job[:1]).fetchone()
        database.execute("select agent_vault.recent_wakes(%s, 60)", [text])
        database.execute("select agent_vault.complete_job(%s, %s, '{}', 0)", job)
        database.execute("select agent_vault.leave_name(%s, %s)", [text, text])
        database.execute("select agent_vault.find_failed(%s, %s, null, null, %s, 10)", [text, text, text])
    assert {("done",)} == set(database.execute("select status from public.jobs"))


def test_as_names_of_queues(database: psycopg.Connection) -> None:
    """What is no queue's name is refused by the table, and a claim from it finds nothing."""
    for text in TEXTS:
        assert [] == database.execute("select * from agent_vault.claim_jobs(%s, 'mac/1', 1, 60)", [text]).fetchall()
        if not re.fullmatch("[a-z0-9_]{1,40}", text):
            with pytest.raises(psycopg.errors.CheckViolation):
                database.execute("insert into public.jobs (type, queue) values ('chat', %s)", [text])


def refusal_of_name(text: str) -> str:
    """Return how the daemon refuses its name; empty where it takes it."""
    try:
        settings.load(database_url="postgresql:///x", hook_token="x", name=text)
    except SettingsError as error:
        return str(error)
    return ""


def test_as_settings_and_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name that is not plain is refused at start, or where a login is granted."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in filter(str.strip, NAUGHTY):
        is_plain = re.fullmatch("[A-Za-z0-9._-]{1,64}", text) is not None
        assert (text, is_plain) == (text, refusal_of_name(text) == "")
        assert is_plain or refusal_of_name(text).startswith("DAEMON_NAME is wrong: set it to")
        if not re.fullmatch("[a-z][a-z0-9_-]{0,62}", text) or text == "none":
            with pytest.raises(argparse.ArgumentTypeError, match="is no name for a login"):
                logins_cli._name(text)
