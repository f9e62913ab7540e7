"""The commands `agent-vault migrate` and `agent-vault send`, as processes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import programs
import psycopg
import pytest

from sql.migrate import latest

SECRET = "a-secret-of-these-tests"

OLD_JOBS = """create table public.jobs (id uuid primary key default gen_random_uuid(), type text not null,
  payload jsonb, status text not null default 'queued', locked_at timestamptz, locked_by text,
  attempts int not null default 0, last_error text, created_at timestamptz not null default now(),
  updated_at timestamptz not null default now())"""

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_migrate_tells_what_it_did(run: Run, blank_dsn: str) -> None:
    """The first run says that there was nothing, the second that nothing is to do."""
    assert f"schema version {latest()} (was: no schema of ours)\n" == run("migrate", DATABASE_URL=blank_dsn).stdout
    assert f"schema version {latest()} (up to date already)\n" == run("migrate", DATABASE_URL=blank_dsn).stdout


@pytest.mark.parametrize(
    ("expected", "open_jobs"),
    [
        ("", []),
        (
            "open jobs: 2 queued (oldest 3 days), 1 processing (oldest 1 hour)\n",
            [("queued", "3 days 5 hours"), ("queued", "2 hours"), ("processing", "61 minutes")],
        ),
        ("open jobs: 1 processing (oldest 5 minutes)\n", [("processing", "5 minutes")]),
    ],
)
def test_migrate_tells_of_open_jobs(run: Run, blank_dsn: str, expected: str, open_jobs: list[tuple[str, str]]) -> None:
    """Whoever adopts an install hears what its daemon will find at once; what is finished is not counted."""
    with psycopg.connect(blank_dsn) as old:
        old.execute(OLD_JOBS)
        for status, age in [*open_jobs, ("done", "9 days"), ("failed", "9 days")]:
            old.execute(
                "insert into jobs (type, status, created_at) values ('X', %s, now() - %s::interval)", [status, age]
            )
    first = f"schema version {latest()} (was: no schema of ours)\n"
    assert first + expected == run("migrate", DATABASE_URL=blank_dsn).stdout


def test_migrate_prints_a_script_without_a_database(run: Run) -> None:
    """--print needs no settings at all."""
    printed = run("migrate", "--print")
    assert 0 == printed.returncode
    assert "begin;" in printed.stdout
    assert printed.stdout.rstrip().endswith("commit;")


def test_migrate_names_what_is_missing(run: Run) -> None:
    """Without DATABASE_URL it exits 78 and names it, and does not ask for the webhook's secret."""
    refused = run("migrate")
    assert 78 == refused.returncode
    assert "DATABASE_URL" in refused.stderr
    assert "COMPOSIO_WEBHOOK_SECRET" not in refused.stderr


def test_migrate_without_a_database_there(run: Run) -> None:
    """A database that does not answer is a line with cause and remedy, not a traceback."""
    refused = run("migrate", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert 1 == refused.returncode
    told = "nothing listens at that host and port: check both, and that the database runs"
    assert f"agent-vault: {told}\n" == refused.stderr


def test_migrate_a_database_that_is_read_only(run: Run, blank_dsn: str) -> None:
    """What the server says of it in the midst is explained too."""
    with psycopg.connect(blank_dsn, autocommit=True) as admin:
        name = psycopg.conninfo.conninfo_to_dict(blank_dsn)["dbname"]
        admin.execute(f"alter database {name} set default_transaction_read_only to on")
    refused = run("migrate", DATABASE_URL=blank_dsn)
    assert 1 == refused.returncode
    assert refused.stderr.startswith("agent-vault: the database is read-only: connect to the primary server")


def test_a_mistake_in_the_string_is_refused_without_a_network(run: Run) -> None:
    """Exit status 78 with the remedy, and nothing of the string."""
    refused = run("migrate", DATABASE_URL="postgresql://postgres:canary7@aws-0-eu-west-1.pooler.supabase.com/postgres")
    assert 78 == refused.returncode
    assert refused.stderr.startswith("agent-vault: DATABASE_URL: the user in the connection string has no project: ")
    assert "canary7" not in refused.stderr


def test_migrate_as_somebody_who_may_not(run: Run, database: psycopg.Connection, dsn: str) -> None:
    """A role that does not own the tables is told whom to be."""
    name = f"av_nobody_{database.info.backend_pid}"
    database.execute(f"create role {name} login password 'x'")
    database.execute("update agent_vault.migrations set functions_digest = 'older'")
    database.execute(f"grant usage on schema agent_vault to {name}")
    database.execute(f"grant select, insert, update on agent_vault.migrations to {name}")
    try:
        login = psycopg.conninfo.make_conninfo(dsn, user=name, password="x")
        refused = run("migrate", DATABASE_URL=login)
    finally:
        database.execute(f"drop owned by {name}")
        database.execute(f"drop role {name}")
    assert 1 == refused.returncode
    assert "as the owner of the tables" in refused.stderr


def test_migrate_without_the_right_to_create(run: Run, blank_dsn: str) -> None:
    """Where there is nothing yet, there is no owner of the tables to be."""
    with psycopg.connect(blank_dsn, autocommit=True) as admin:
        name = f"av_nobody_{admin.info.backend_pid}"
        admin.execute(f"create role {name} login password 'right'")
        own = psycopg.conninfo.make_conninfo(blank_dsn, user=name, password="right")
        refused = run("migrate", DATABASE_URL=own)
        admin.execute(f"drop role {name}")
    assert 1 == refused.returncode
    assert "run it as the database's owner, or grant it create on the database" in refused.stderr
    assert "tables" not in refused.stderr


@pytest.mark.parametrize("command", ["up", "serve"])
@pytest.mark.parametrize("port", ["99999", "-1", "http", "8080.5"])
def test_a_port_that_is_none(run: Run, tmp_path: Path, command: str, port: str) -> None:
    """It is refused as the option that it is, before anything is started."""
    refused = run(command, f"--port={port}")
    assert (2, []) == (refused.returncode, list(tmp_path.iterdir()))
    assert f"--port: {port} is no port: give a number from 1 to 65535, or 0 for any free one" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("serve", "--prot=80"), "agent-vault serve: error: unrecognized arguments: --prot=80 (did you mean --port?)"),
        (("doctor", "--old-ulr=x"), "agent-vault doctor: error: unrecognized arguments: --old-ulr=x (did you mean"),
        (("jobs", "--limt", "5"), "agent-vault jobs: error: unrecognized arguments: --limt (did you mean --limit?)"),
        (
            ("jobs", "--limit", "1", "replay", "--since", "1h"),
            "agent-vault jobs replay: error: unrecognized arguments: --limit",
        ),
        (
            ("jobs", "--old=50m", "--type", "show", "show", "x"),
            "agent-vault jobs show: error: unrecognized arguments: --old=50m",
        ),
        (("up", "now"), "agent-vault up: error: unrecognized arguments: now"),
    ],
)
def test_an_unknown_argument(run: Run, arguments: tuple[str, ...], told: str) -> None:
    """It is told beside the usage of the command that it was given to."""
    refused = run(*arguments)
    assert 2 == refused.returncode
    assert refused.stderr.startswith(f"usage: {told.partition(':')[0]} ")
    assert told in refused.stderr


def test_a_config_that_is_not_there(run: Run) -> None:
    """The remedy names the option beside the variable."""
    refused = run("serve", "--config", "/none/vault.toml")
    assert 78 == refused.returncode
    assert "correct VAULT_CONFIG or --config" in refused.stdout + refused.stderr


def test_send_without_a_vault(run: Run) -> None:
    """Nothing listens: one line with the remedy."""
    refused = run("send", "--to", "http://127.0.0.1:1", COMPOSIO_WEBHOOK_SECRET=SECRET)
    assert 1 == refused.returncode
    assert "start the vault (agent-vault up, or serve)" in refused.stderr


def test_send_without_a_secret(run: Run) -> None:
    """No secret anywhere: it says which setting or option gives one."""
    refused = run("send")
    assert 78 == refused.returncode
    assert "COMPOSIO_WEBHOOK_SECRET is not set: set it, or give --secret-file" in refused.stderr


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_send_refuses_a_count_that_is_none(run: Run, count: str) -> None:
    """A count is a number from 1 on."""
    assert 2 == run("send", "--count", count, COMPOSIO_WEBHOOK_SECRET=SECRET).returncode


def test_send_names_a_missing_file(run: Run, tmp_path: Path) -> None:
    """A body or secret file that is not there is named."""
    for option in ("--body", "--secret-file"):
        refused = run("send", option, str(tmp_path / "none"), COMPOSIO_WEBHOOK_SECRET=SECRET)
        assert 1 == refused.returncode
        assert f"{tmp_path / 'none'}: no such file or directory" in refused.stderr


def test_send_refuses_an_empty_secret(run: Run, tmp_path: Path) -> None:
    """Nothing is sent that is signed with nothing."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "empty").chmod(0o600)
    refused = run("send", "--secret-file", str(tmp_path / "empty"))
    assert (78, "") == (refused.returncode, refused.stdout)
    assert f"{tmp_path / 'empty'} is empty: write the webhook secret into it" in refused.stderr


def test_send_with_a_wrong_setting(run: Run, tmp_path: Path) -> None:
    """A mistake of the vault's settings is told, and no other secret is taken instead."""
    refused = run("send", VAULT_CONFIG=str(tmp_path / "none.toml"))
    assert (78, True) == (refused.returncode, "none.toml cannot be read" in refused.stderr)


async def test_send_reaches_a_vault(run: Run, dsn: str, database: psycopg.Connection, tmp_path: Path) -> None:
    """Samples, a file's bytes and several at once are accepted; a wrong secret is not, and exits 1."""
    env = {"DATABASE_URL": dsn, "COMPOSIO_WEBHOOK_SECRET": SECRET, "VAULT_PORT": "0"}
    body, secret = tmp_path / "body", tmp_path / "secret"
    body.write_bytes(b"hello")
    secret.write_text(f"{SECRET}\n")
    async with programs.run("vault", "serve", env=env, home=tmp_path) as vault:
        port = (await vault.event("vault_listening"))["port"]
        to = ("--to", f"http://127.0.0.1:{port}")
        assert 0 == run("send", "SLACK_RECEIVE_MESSAGE", *to, "--count", "3", COMPOSIO_WEBHOOK_SECRET=SECRET).returncode
        named = ("send", *to, "--body", str(body), "--secret-file", str(secret))
        secret.chmod(0o644)
        assert (78, f"agent-vault: {secret} holds a secret and is open to others: chmod 600 {secret}\n") == (
            (exposed := run(*named)).returncode,
            exposed.stderr,
        )
        secret.chmod(0o600)
        assert 0 == run(*named).returncode
        refused = run("send", *to, COMPOSIO_WEBHOOK_SECRET="another")
        assert (1, True) == (refused.returncode, " 401 " in refused.stdout)
        assert refused.stderr.startswith("agent-vault: signed with the secret of COMPOSIO_WEBHOOK_SECRET: if that")
        kept = tmp_path / ".local/share/agent-vault/secrets/composio_webhook_secret"
        kept.parent.mkdir(parents=True, mode=0o700)
        kept.write_text("another")
        kept.chmod(0o600)
        refused = run("send", *to, XDG_DATA_HOME=str(tmp_path / ".local/share"), DATABASE_URI="another program's")
        assert (1, True) == (refused.returncode, f"the secret of agent-vault up ({kept})" in refused.stderr)
        toml = tmp_path / "named.toml"
        toml.write_text(f'composio_webhook_secret = "{SECRET}"\nport = {port}\n')
        toml.chmod(0o600)
        assert 0 == run("send", VAULT_CONFIG=str(toml)).returncode
        assert 0 == await vault.stop()
    types = database.execute("select type, count(*) from public.jobs group by type order by type").fetchall()
    assert [("GMAIL_NEW_GMAIL_MESSAGE", 1), ("SLACK_RECEIVE_MESSAGE", 3), ("composio_trigger", 1)] == types


def test_send_wants_a_trigger_with_a_name(run: Run) -> None:
    """Nothing is sent for a name that is empty, as of a variable that is not set."""
    for slug in ("", "  "):
        done = run("send", slug, COMPOSIO_WEBHOOK_SECRET="x")
        assert (2, "") == (done.returncode, done.stdout)
        assert "the trigger has no name: give one like GMAIL_NEW_GMAIL_MESSAGE, or none" in done.stderr
