"""No secret shows: in no output, log, error, HTTP answer or row, no unit or plist, and on no command line."""

import asyncio
import contextlib
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import gateways
import psycopg
import pytest
from authority import REMOTE
from canaries import SOURCES, Canaries, Source, plant, watched
from daemons import free_port, insert
from programs import Program, run, until
from psycopg.conninfo import make_conninfo

from daemon import launchd, service, systemd
from daemon.cli import parser
from vault.app import make_app
from vault.sender import sample_messages, send, signed_headers
from vault.settings import load

LIMIT_S = 60.0
HOOK = "/agent-vault/composio/webhook"
PAGE = "https://app.example.com"


@pytest.fixture
def canaries(database: psycopg.Connection) -> Iterator[Canaries]:
    """Secrets to plant, of which nothing may have been said anywhere at the end of the test."""
    planted = Canaries()
    with planted.login(database), watched(planted):
        yield planted
    assert [] == planted.leaks()
    assert [] != [said for said in planted.heard.values() if said], "nothing was heard at all"


async def hear(canaries: Canaries, home: Path, *words: str, **env: str) -> int:
    """Run a command to its end, and hear what it says."""
    named = {"PATH": "/usr/bin:/bin", "HOME": str(home), **env}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", *words], env=named, check=False, capture_output=True, timeout=LIMIT_S,
    )  # fmt: skip
    canaries.hear(f"{' '.join(words)} {sorted(env)}", done.stdout + done.stderr)
    return done.returncode


@contextlib.asynccontextmanager
async def heard(canaries: Canaries, home: Path, *words: str, **env: str) -> AsyncIterator[Program]:
    """Run a program for the length of the block, and hear all that it said, its last words too."""
    async with run(*words, env=env, home=home) as program:
        yield program
        if program.process.returncode is None:
            await program.stop()
    canaries.hear(" ".join(words), program.text)


async def ask(canaries: Canaries, vault: str) -> None:
    """Send the vault what is right, what is wrong and what is no request at all, and hear every answer."""
    assert [200, 200] == [
        one.status
        for one in await send(vault + HOOK, canaries.webhook_secret, sample_messages("SLACK", 2, time.time()))
    ]
    right = {"Authorization": f"Bearer {canaries.edge_key}", "Origin": PAGE, "Access-Control-Request-Method": "POST"}
    forged = signed_headers("another", "msg_1", int(time.time()), b"{}")
    async with aiohttp.ClientSession() as client:
        for method, path in (*every_route(), ("GET", "/learnings/get?id=x"), ("GET", "/metrics"), ("PUT", HOOK)):
            for headers in ({}, forged, {"Authorization": "Bearer wrong"}, right):
                async with client.request(method, vault + path, headers=headers, data=b"{}") as answer:
                    canaries.hear(f"{method} {path}", f"{answer.headers} {await answer.text()}")


def every_route() -> list[tuple[str, str]]:
    """Return every route that a vault can have, those for pages of other origins too."""
    app = make_app(load(database_url="postgresql:///x", composio_webhook_secrets="x", cors_origins=PAGE))
    return [(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None]


def test_every_route_is_asked() -> None:
    """What is asked for secrets are routes that are there: a new one is asked as well."""
    assert {
        ("POST", HOOK),
        ("GET", "/livez"),
        ("GET", "/agent-vault/learnings/list"),
        ("OPTIONS", "/jobs/next"),
    } <= set(every_route())


@pytest.mark.parametrize("source", SOURCES)
async def test_a_day_in_the_life(
    source: Source, canaries: Canaries, dsn: str, database: psycopg.Connection, tmp_path: Path
) -> None:
    """Events come and go, the gateway refuses the token and is right again, the database goes, the programs crash."""
    env = plant(source, tmp_path, canaries.secrets(dsn))
    vaults = {**env, "DATABASE_URL": canaries.dsn(dsn)} if source == "openclaw" else env
    port = free_port()
    talkative = {"VAULT_LOG_LEVEL": "debug", "DAEMON_LOG_LEVEL": "debug", "PYTHONFAULTHANDLER": "1"}
    async with gateways.gateway(port) as fake:  # it knows another token
        daemons = {**env, **talkative, "GATEWAY_HTTP_URL": fake.url, "DAEMON_PACING": "off"}
        async with (
            heard(
                canaries, tmp_path, "vault", "serve", **vaults, **talkative, VAULT_PORT="0", VAULT_CORS_ORIGINS=PAGE
            ) as vault,
            heard(canaries, tmp_path, "daemon", "run", **daemons) as daemon,
        ):
            await daemon.event("listener_up")
            await ask(canaries, f"http://127.0.0.1:{(await vault.event('vault_listening'))['port']}")
            await daemon.event("gateway_paused")
            database.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'agent-%'"
            )
            await daemon.event("listener_lost")
            for program in (vault, daemon):
                await program.stop(signal.SIGABRT)
        assert 1 == await hear(canaries, tmp_path, "daemon", "doctor", **daemons)
        await hear(canaries, tmp_path, "vault", "doctor", **vaults)
        for words in (("vault", "migrate"), ("vault", "jobs"), ("vault", "jobs", "retry", "--older", "1d")):
            await hear(canaries, tmp_path, *words, **vaults)
        for words in (("daemon", "events", "list"), ("daemon", "routes"), ("daemon", "install", "--dry-run")):
            await hear(canaries, tmp_path, *words, **daemons)
    for (row,) in database.execute("select to_jsonb(j)::text from public.jobs j"):
        canaries.hear("rows", row)


async def test_a_gateway_that_repeats_the_token(
    canaries: Canaries, dsn: str, database: psycopg.Connection, tmp_path: Path
) -> None:
    """What a hostile gateway answers goes into logs and rows, and the token that it was sent does not."""

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(one.split(": ", 1) for one in head.splitlines()[1:] if one)
        token, body = headers["Authorization"], await reader.readexactly(int(headers["Content-Length"]))
        # the job's own fault, for a probe is answered as by a gateway that is well
        status, said = (400, "text required") if body == b"{}" else (413, "no")
        writer.write(f"HTTP/1.1 {status} {token}\r\nConnection: close\r\n\r\n{said} {token} {token[7:]}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(repeat, "127.0.0.1", 0)
    insert(database, 1)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        env = canaries.secrets(dsn) | {"GATEWAY_HTTP_URL": url, "DAEMON_PACING": "off"}
        async with heard(canaries, tmp_path, "daemon", "run", **env):
            query = "select to_jsonb(j)::text from public.jobs j where status = 'failed'"
            [row] = await until(lambda: database.execute(query).fetchall(), "a failed job")
    canaries.hear("rows", row[0])


async def test_refused_logins(canaries: Canaries, dsn: str, tmp_path: Path) -> None:
    """A database that refuses the login, or is not there: every command says so without the login."""
    gone = f"postgresql://user:{canaries.word}@127.0.0.1:{free_port()}/{canaries.word}"
    # Postgres itself shows user and database of a connection in its processes' titles: they are no canaries here
    for wrong in (canaries.dsn(dsn, user="nobody_known"), canaries.dsn(dsn, dbname="nowhere"), gone):
        env = canaries.secrets(dsn) | {"DATABASE_URL": wrong, "VAULT_PORT": "0"}
        for words in (("vault", "migrate"), ("vault", "doctor"), ("daemon", "events", "list")):
            assert 1 == await hear(canaries, tmp_path, *words, **env)
        async with heard(canaries, tmp_path, "vault", "serve", **env) as vault:
            await vault.event("database_away")
        async with heard(canaries, tmp_path, "daemon", "run", **env) as daemon:
            await daemon.event("listener_lost")


async def test_wrong_settings(canaries: Canaries, dsn: str, tmp_path: Path) -> None:
    """Secrets that are wrong in themselves, or stand in the wrong place, are refused and not repeated."""
    word, right = canaries.word, canaries.secrets(dsn)
    folder, toml = tmp_path / "wrong", tmp_path / "wrong.toml"
    folder.mkdir(mode=0o700)
    (folder / "database_url").write_bytes(f"{word}\xff".encode("latin-1"))
    (folder / "database_url").chmod(0o600)
    toml.touch(mode=0o600)
    vault, daemon = ("vault", "serve"), ("daemon", "run")
    named = {"VAULT_CONFIG": str(toml), "DAEMON_CONFIG": str(toml), "DATABASE_URL": ""}
    for words, change in (
        (vault, {"DATABASE_URL": f"postgresql://u:{word}@{REMOTE}/x?sslmode=disable"}),
        (daemon, {"DATABASE_URL": f"postgresql://u:{word}@h@host/x"}),
        (vault, {"DATABASE_URL": f"postgresql://u:{word}%@host/x"}),
        (daemon, {"DATABASE_URL": f"postgresql://u@host/x?{word}=1"}),
        (vault, {"DATABASE_URL": f"psql postgresql://u:{word}@host/x"}),
        (daemon, {"DATABASE_URL": word}),
        (vault, {"COMPOSIO_WEBHOOK_SECRET": f"[{word}]"}),
        (vault, {"AGENT_EDGE_KEY": f"é{word}"}),
        (daemon, {"OPENCLAW_HOOK_TOKEN": f"é{word}", "GATEWAY_HTTP_URL": f"http://u:{word}@127.0.0.1"}),
        (daemon, {"CREDENTIALS_DIRECTORY": str(folder), "DATABASE_URL": ""}),
        (vault, {**named, "toml": f'database_url = "{word}'}),
        (daemon, {**named, "toml": f'databse_url = "{word}"'}),
        (vault, {**named, "toml": f"database_url = ['{word}']"}),
    ):
        toml.write_text(change.pop("toml", ""))
        assert 78 == await hear(canaries, tmp_path, *words, **{**right, "VAULT_PORT": "0", **change})


async def test_up_and_send(canaries: Canaries, dsn: str) -> None:
    """`up` has a webhook secret of its own, and takes nothing but the hook token from the environment."""
    env = canaries.secrets(dsn)
    with tempfile.TemporaryDirectory(prefix="av-home-") as name:
        home = Path(name)
        kept = home / "data/secrets/composio_webhook_secret"
        kept.parent.mkdir(parents=True, mode=0o700)
        kept.touch(mode=0o600)
        kept.write_text(f"{canaries.word}own")
        async with gateways.gateway() as fake:
            words = ("vault", "up", "--data", str(home / "data"), "--port", "0", "--sample", "--gateway", fake.url)
            async with heard(canaries, home, *words, **env) as up:
                await up.says("hooks token refused")
        for log in (home / "data/logs").iterdir():
            canaries.hear(log.name, log.read_bytes())
        to = f"http://127.0.0.1:{free_port()}"
        assert 1 == await hear(canaries, home, "vault", "send", "--to", to, **env)
        assert 1 == await hear(canaries, home, "vault", "send", "--to", to, "--secret-file", str(kept))


@pytest.mark.parametrize("platform", ["darwin", "linux"])
@pytest.mark.parametrize("system", [[], ["--system", "--user", "nobody"]])
def test_units_and_plists(
    platform: str, system: list[str], canaries: Canaries, dsn: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    """What `install` would write holds the folder of the secrets and none of them."""
    for name, value in canaries.secrets(make_conninfo(dsn)).items():
        monkeypatch.setenv(name, value)
    program = tmp_path / "agent-daemon"
    program.touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [str(program), "install"])
    account = pwd.struct_passwd(("nobody", "x", os.geteuid(), 1, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(service, "account_of", lambda _: account)
    for manager in (launchd, systemd):
        monkeypatch.setattr(manager, "MACHINE", tmp_path / "machine")
    # the environment's DATABASE_URL is nothing that a service would see
    assert 1 == service.install(parser().parse_args(["install", "--dry-run", *system]), platform=platform)
    canaries.hear("install", capsys.readouterr().out)
