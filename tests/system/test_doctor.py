"""`agent-vault doctor` and `agent-daemon doctor`, as processes."""

import asyncio
import contextlib
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import letters
import programs
import psycopg
import pytest
from aiohttp import web
from authority import REMOTE, authority, encrypted
from daemons import environment, free_port
from faults.pooler import pooler
from gateways import gateway
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from webhooks import SECRET, vault

from sql.logins import grant
from sql.migrate import latest, migrate
from vault.doctor import clock

PASSWORD = "canary-password"
Run = Callable[..., subprocess.CompletedProcess[str]]
Receive = Callable[[web.Request], Awaitable[web.Response]]


def line(done: subprocess.CompletedProcess[str], what: str) -> str:
    """Return what it said of one thing."""
    [found] = [one for one in done.stdout.splitlines() if f"  {what}: " in one]
    return found


def settings_told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return how each line on a setting that is wrong begins."""
    found = [one.partition("  setting: ")[2] for one in done.stdout.splitlines()]
    return [one.partition(":")[0] for one in found if one]


async def examine(run: Run, dsn: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the vault's doctor while this event loop answers."""
    return await asyncio.to_thread(run, "doctor", *words, DATABASE_URL=dsn, COMPOSIO_WEBHOOK_SECRET=SECRET)


async def test_all_is_well(run: Run, dsn: str) -> None:
    """A database that is as it should be; the settings are shown without a secret."""
    done = await examine(run, make_conninfo(**{"password": PASSWORD, **conninfo_to_dict(dsn)}))
    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"ok     schema: version {latest()}" == line(done, "schema")
    assert "ok     notifications: arrive" == line(done, "notifications")
    assert "none, and none is needed" in line(done, "encryption")
    assert ["***", "***"] == [
        one.split()[1] for one in done.stdout.splitlines() if one.startswith(("DATABASE_URL", "COMPOSIO"))
    ]
    assert PASSWORD not in done.stdout
    assert SECRET not in done.stdout


async def test_encryption(run: Run, dsn: str) -> None:
    """What is encrypted is told apart from what is proven as well."""
    with authority() as signer, encrypted(dsn, signer) as remote:
        unproven = await examine(run, remote)
        proven = await examine(run, make_conninfo(remote, sslmode="verify-full", sslrootcert=str(signer.root)))
    with pooler(dsn, "session") as through:
        local = await examine(run, through)
        bare = await asyncio.to_thread(
            run,
            "doctor",
            DATABASE_URL=through.replace("host=127.0.0.1", f"host={REMOTE}"),
            COMPOSIO_WEBHOOK_SECRET=SECRET,
            VAULT_ALLOW_PLAINTEXT_DATABASE="true",
        )
    assert "NONE: whoever is on the way reads the events" in line(bare, "encryption")
    assert "none, and none is needed" in line(local, "encryption")
    assert "encrypted; the server is not proven" in line(unproven, "encryption")
    assert "the server is proven (sslmode=verify-full)" in line(proven, "encryption")


async def test_a_mistyped_variable(run: Run, dsn: str, tmp_path: Path) -> None:
    """What is nearly a setting's name is told by doctor, and once in the log of the vault, which starts."""
    env = {"DATABASE_URL": dsn, "COMPOSIO_WEBHOOK_SECRET": SECRET, "VAULT_PORT": "0", "VAULT_HOTS": "::1"}
    told = "VAULT_HOTS is no setting: did you mean VAULT_HOST?"
    done = await asyncio.to_thread(run, "doctor", **env)
    assert (1, f"WRONG  setting: {told}") == (done.returncode, line(done, "setting"))
    async with programs.run("vault", "serve", env=env, home=tmp_path) as program:
        await program.event("vault_listening")
        assert [told] == [one["note"] for one in program.events if one["event"] == "setting_ignored"]


async def test_a_missing_secret_hides_nothing_else(run: Run, dsn: str) -> None:
    """It is told as a wrong setting, and the database is looked at all the same."""
    done = await asyncio.to_thread(run, "doctor", DATABASE_URL=dsn)
    assert 78 == done.returncode
    assert "COMPOSIO_WEBHOOK_SECRET is not set" in line(done, "setting")
    assert f"ok     schema: version {latest()}" == line(done, "schema")
    assert "COMPOSIO_WEBHOOK_SECRET  ***" not in " ".join(done.stdout.split())
    nothing = await asyncio.to_thread(run, "doctor")
    assert (78, "") == (nothing.returncode, nothing.stderr)
    assert ["DATABASE_URL is not set", "COMPOSIO_WEBHOOK_SECRET is not set"] == settings_told(nothing)


async def test_the_spools_folder(run: Run, dsn: str, tmp_path: Path) -> None:
    """One in which no file can be made is told as the vault would; looking leaves nothing behind."""
    (tmp_path / "file").touch()
    for name, expected in (("file", "WRONG"), ("file/spool", "WRONG"), ("new/spool", "ok"), ("", "ok")):
        folder = tmp_path / name
        env = {"DATABASE_URL": dsn, "COMPOSIO_WEBHOOK_SECRET": SECRET, "VAULT_SPOOL_DIR": str(folder)}
        done = await asyncio.to_thread(run, "doctor", **env)
        assert (expected, int(expected == "WRONG")) == (line(done, "spool").split()[0], done.returncode)
        assert (expected == "WRONG") == (f"VAULT_SPOOL_DIR: cannot use {folder} (not a" in line(done, "spool"))
    assert [tmp_path / "file"] == list(tmp_path.iterdir())


async def test_a_queue_that_nobody_serves(run: Run, dsn: str, database: psycopg.Connection) -> None:
    """Each in which events have been due for minutes has a line with what to look at."""
    for queue, age in (("wrok", "2 hours"), ("mail", "1 minute")):
        letters.dead(database, status="queued", finished_at=None, queue=queue, run_at=age, created_at=age)
    done = await examine(run, dsn)
    said = line(done, "queue")
    assert (1, True) == (done.returncode, said.startswith("WRONG  queue: 1 due, the oldest for 2 hours; nobody claims"))
    assert "is a daemon with DAEMON_QUEUES=wrok running?" in said


@pytest.mark.parametrize(
    ("behind_s", "expected"),
    [
        (29, "ok     clock: that of the database"),
        (-29, "ok     clock: that of the database"),
        (3600.4, "WRONG  clock: 3600 s behind the database's: have both set from the network (ntp); what is more than"),
        (-31, "WRONG  clock: 31 s ahead of the database's: have both"),
    ],
)
def test_the_clock(behind_s: float, expected: str) -> None:
    """One that is off is told, with the direction."""
    assert str(clock(behind_s)).startswith(expected)


async def test_notifications_that_a_pooler_swallows(run: Run, dsn: str) -> None:
    """A pooler in transaction mode is told, with the remedy."""
    with pooler(dsn, "transaction") as through:
        done = await examine(run, through)
    assert 1 == done.returncode
    assert line(done, "notifications").startswith("WRONG  notifications: swallowed on the way: a pooler in transaction")


async def test_a_database_that_is_not_as_it_should_be(run: Run, blank_dsn: str) -> None:
    """One without tables, and one that is not there: each is told with its remedy, and nothing is sent anywhere."""
    bare = await examine(run, blank_dsn, "--old-url", f"http://127.0.0.1:{free_port()}/")
    assert 1 == bare.returncode
    assert "run agent-vault migrate" in line(bare, "schema")
    assert "nothing was sent" in line(bare, "old receiver")
    away = await examine(run, f"postgresql://user:{PASSWORD}@127.0.0.1:{free_port()}/x")
    assert (1, "WRONG  database: nothing listens at that host and port: check both, and that the database runs") == (
        away.returncode,
        line(away, "database"),
    )


@contextlib.asynccontextmanager
async def receiver(receive: Receive) -> AsyncIterator[str]:
    """Run a receiver of webhooks; gives its address, which looks like an Edge Function's."""
    app = web.Application()
    app.router.add_post("/functions/v1/old-hook/composio/webhook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/functions/v1/old-hook/composio/webhook"
    finally:
        await runner.cleanup()


async def test_an_old_receiver_that_takes_what_nobody_signed(run: Run, dsn: str, database: psycopg.Connection) -> None:
    """A row of the test delivery proves it: what was written is named and stays, and the way to close it is told."""

    async def store(request: web.Request) -> web.Response:
        body = await request.json()
        assert not [name for name in request.headers if name.lower().startswith(("webhook-", "authorization"))]
        database.execute(
            "insert into public.agent_learnings (learning, tags) values ('Composio trigger', %s)",
            [[body["metadata"]["trigger_slug"].upper()]],
        )
        return web.json_response({"ok": True})

    async with receiver(store) as url:
        done = await examine(run, dsn, "--old-url", url)
    rows = database.execute("select id::text from public.agent_learnings").fetchall()
    assert (1, 1) == (done.returncode, len(rows))
    said = line(done, "old receiver")
    assert "OPEN: it stored a delivery that nobody signed" in said
    assert f"learning {rows[0][0]}" in said
    assert "supabase functions delete old-hook" in said


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, "WRONG  old receiver: it answered 200 to an unsigned delivery, and no row"),
        (404, "ok     old receiver: nothing takes deliveries there (404)"),
        (401, "ok     old receiver: an unsigned delivery is refused there (401)"),
        (500, "WRONG  old receiver: unknown: it answered 500"),
        (307, "WRONG  old receiver: unknown: it answered 307"),
    ],
)
async def test_an_old_receiver_that_stores_nothing_here(run: Run, dsn: str, status: int, expected: str) -> None:
    """Without a row in this database nothing is called open, and nothing closed but what refuses or is gone."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with receiver(answer) as url:
        done = await examine(run, dsn, "--old-url", url)
    assert line(done, "old receiver").startswith(expected)
    assert int("WRONG" in expected) == done.returncode


async def test_a_login_that_cannot_look_sends_nothing(run: Run, blank_dsn: str) -> None:
    """The line says so, and the other lines are there."""
    migrate(blank_dsn)
    granted = grant(blank_dsn, "operator", f"op_{uuid.uuid4().hex[:8]}")
    done = await examine(run, granted.dsn, "--old-url", f"http://127.0.0.1:{free_port()}/")
    assert 1 == done.returncode
    assert line(done, "old receiver").startswith("WRONG  old receiver: not looked at, and nothing was sent")
    assert f"ok     schema: version {latest()}" == line(done, "schema")


async def test_this_vault_is_closed(run: Run, dsn: str, database: psycopg.Connection, tmp_path: Path) -> None:
    """The vault's own address refuses the unsigned delivery, and stores nothing."""
    async with vault(dsn, tmp_path) as serving:
        port = (await serving.event("vault_listening"))["port"]
        done = await examine(run, dsn, "--old-url", f"http://127.0.0.1:{port}/agent-vault/composio/webhook")
    assert "is refused there (401)" in line(done, "old receiver")
    assert (0,) == database.execute("select count(*) from public.agent_learnings").fetchone()


@pytest.mark.parametrize("url", ["here", "ftp://host/", "https://", "https://user:canary@host/"])
async def test_no_address(run: Run, dsn: str, url: str) -> None:
    """What is no web address is refused before anything is done."""
    done = await examine(run, dsn, "--old-url", url)
    assert (2, True, False) == (done.returncode, "it is no web address" in done.stderr, "canary" in done.stderr)


async def check_daemon(home: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the daemon's doctor while this event loop answers."""
    command = [sys.executable, "-m", "daemon", "doctor"]
    named = {"HOME": str(home), **env}
    return await asyncio.to_thread(subprocess.run, command, env=named, check=False, capture_output=True, text=True)


def set_up(home: Path) -> tuple[Path, Path]:
    """Put the skill where OpenClaw reads it, and the program where OpenClaw looks; returns both."""
    skill, program = home / ".openclaw/skills/agent-vault/SKILL.md", home / ".local/bin/agent-daemon"
    for file in (skill, program):
        file.parent.mkdir(parents=True)
        file.touch(mode=0o755)
    return skill, program


def keep_secret(home: Path, name: str, value: str) -> Path:
    """Put a secret into the folder of the user's own service, which is returned."""
    folder = home / ".config/agent-vault/secrets"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / name).write_text(f"{value}\n")
    (folder / name).chmod(0o600)
    return folder


async def test_the_daemons_doctor(dsn: str, tmp_path: Path) -> None:
    """It asks the gateway without waking anyone, and looks for the skill and at OpenClaw's files."""
    file, program = set_up(tmp_path)
    async with gateway() as fake:
        env = environment(dsn, fake.url)
        well = await check_daemon(tmp_path, env)
        assert (0, []) == (well.returncode, fake.wakes), well.stdout + well.stderr
        assert f"ok     gateway: {fake.url} takes wakes with this hook token" == line(well, "gateway")
        program.rename(tmp_path / "agent-daemon")
        hidden = await check_daemon(tmp_path, env)
        file.unlink()
        (tmp_path / ".openclaw/.env").write_text("X=y\n")
        (tmp_path / ".openclaw/.env").chmod(0o644)
        ill = await check_daemon(tmp_path, {**env, "OPENCLAW_HOOK_TOKEN": "canary"})
    assert (1, 1) == (hidden.returncode, ill.returncode)
    assert f"WRONG  skill: OpenClaw hides {file}, since agent-daemon is not where" in line(hidden, "skill")
    assert "hooks token refused by" in line(ill, "gateway")
    assert "run agent-daemon install-skill" in line(ill, "skill")
    assert f"chmod 600 {tmp_path}/.openclaw/.env" in line(ill, "file")
    assert "canary" not in ill.stdout + ill.stderr


async def test_the_installed_services_secrets(run: Run, dsn: str, tmp_path: Path) -> None:
    """Both doctors, and the vault's commands for a person, find them where nothing else says which database."""
    set_up(tmp_path)
    folder = keep_secret(tmp_path, "database_url", dsn)
    async with gateway() as fake:
        env = {key: value for key, value in environment(dsn, fake.url).items() if key != "DATABASE_URL"}
        done = await check_daemon(tmp_path, env)
    assert 0 == done.returncode, done.stdout + done.stderr
    place = f"***  ({folder}, the service's)"
    assert [place] == [one.partition("  ")[2].strip() for one in done.stdout.splitlines() if "DATABASE_URL" in one]
    for command in (("doctor",), ("jobs",), ("migrate",), ("grant", "daemon", "a b", "default")):
        assert "DATABASE_URL is not set" not in run(*command, COMPOSIO_WEBHOOK_SECRET=SECRET).stderr
    assert 0 == run("jobs").returncode
    done = run("doctor", COMPOSIO_WEBHOOK_SECRET=SECRET)
    assert (0, True) == (done.returncode, place in done.stdout)
    (folder / "database_url").rename(folder / "databse_url")
    done = await check_daemon(tmp_path, env)
    assert f"WRONG  setting: {folder}/databse_url is no setting: did you mean database_url?" in done.stdout


async def test_what_is_missing_hides_nothing_else(dsn: str, tmp_path: Path) -> None:
    """Without one secret the daemon's doctor looks at all that does not need it, and ends with 78."""
    done = await check_daemon(tmp_path, {"DATABASE_URL": dsn})
    assert (78, "") == (done.returncode, done.stderr)
    assert "OPENCLAW_HOOK_TOKEN is not set" in line(done, "setting")
    assert f"ok     schema: version {latest()}" == line(done, "schema")
    assert "WRONG  gateway: not asked: mend the settings first" == line(done, "gateway")
    async with gateway() as fake:
        env = environment(dsn, fake.url)
        done = await check_daemon(tmp_path, {**env, "DATABASE_URL": "", "DAEMON_LEASE_S": "canary"})
    assert 78 == done.returncode
    assert ["DATABASE_URL is not set", "DAEMON_LEASE_S is wrong"] == settings_told(done)
    assert "takes wakes with this hook token" in line(done, "gateway")


async def test_routes_are_shown_as_they_are_written(dsn: str, tmp_path: Path) -> None:
    """One a line, with what it says; a broken file is told, and what stands elsewhere counts."""
    config = tmp_path / "daemon.toml"
    config.write_text('[[routes]]\ntype = "GMAIL_*"\nagentId = "mail"\n[[routes]]\ntype = "X"\naction = "drop"\n')
    env = {"DATABASE_URL": dsn, "DAEMON_CONFIG": str(config)}
    done = await check_daemon(tmp_path, env)
    assert [f'type="GMAIL_*" agent_id="mail"  ({config})', f'type="X" action="drop"  ({config})'] == [
        one.partition("  ")[2].strip() for one in done.stdout.splitlines() if one.startswith("routes[")
    ]
    config.write_text("[[routes]")
    done = await check_daemon(tmp_path, env)
    assert 78 == done.returncode
    assert f"DAEMON_CONFIG: {config} is not valid toml" in line(done, "setting")
    assert "reached in" in line(done, "database")
