"""`agent-vault up`: the whole product on one machine, as its user meets it."""

import asyncio
import contextlib
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import gateways
import programs
import psutil
import psycopg
import pytest

from vault import sender
from vault.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
STAGES = ("accepted", "notified", "claimed", "delivered", "done")


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a short path, as people have: sockets cannot live at the end of a long one."""
    with tempfile.TemporaryDirectory(prefix="av-home-") as path:
        yield Path(path)


@contextlib.asynccontextmanager
async def up(home: Path, *arguments: str, **env: str) -> AsyncIterator[programs.Program]:
    """Run `agent-vault up` on any free port with a data folder in this home."""
    data = () if "--data" in arguments else ("--data", str(home / "data"))
    port = () if "--port" in arguments else ("--port", "0")
    async with programs.run("vault", "up", *data, *port, *arguments, env=env, home=home) as program:
        yield program


def family(program: programs.Program) -> list[psutil.Process]:
    """The program's children, grandchildren and so on."""
    return psutil.Process(program.process.pid).children(recursive=True)


async def all_gone(processes: list[psutil.Process]) -> None:
    """Wait until none of them runs."""

    def gone() -> bool:
        return not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    await programs.until(gone, "the end of every process")


def shown_stages(text: str) -> list[str]:
    """The stages of the timeline, in the order shown."""
    words = [line.split() for line in text.splitlines()]
    return [found[0] for found in words if len(found) > 2 and found[0] in STAGES and found[2] == "ms"]


async def test_check_shows_the_whole_way(home: Path) -> None:
    """A fresh folder: the sample goes through all five stages, and the check exits 0 leaving nothing behind."""
    async with up(home, "--check") as program:
        await program.says("claimed")
        company = family(program)
        assert 0 == await program.ended(), program.text
    assert list(STAGES) == shown_stages(program.text)
    await all_gone(company)


async def test_the_stand_in_is_not_the_real_gateway(home: Path) -> None:
    """What a person has set for their real gateway does not lead the sample astray."""
    (home / ".openclaw").mkdir()
    (home / ".openclaw" / "openclaw.json").write_text('{"hooks": {"path": "/my-hooks", "token": "mine"}}')
    (home / ".openclaw" / ".env").write_text("DAEMON_QUEUES=elsewhere\nDAEMON_CONCURRENCY=none\n")
    async with up(home, "--check") as program:
        assert 0 == await program.ended(), program.text


async def test_the_secret_lasts_and_is_its_owners_alone(home: Path) -> None:
    """The webhook secret is made once, kept, and readable by nobody else."""
    file = home / "data" / "secrets" / "composio_webhook_secret"
    secrets = []
    for _ in range(2):
        async with up(home, "--check") as program:
            assert 0 == await program.ended(), program.text
        secrets.append(file.read_text())
    assert secrets[0] == secrets[1]
    assert len(secrets[0]) == 64
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert secrets[0] not in program.text


async def test_a_dropped_trigger_fails_at_notified(home: Path) -> None:
    """Without the trigger the daemon polls the job, and the check says that nobody was notified."""
    async with up(home, "--check") as program:
        assert 0 == await program.ended(), program.text
    postgres = EmbeddedPostgres(home / "data" / "postgres")
    await asyncio.to_thread(postgres.start)
    try:
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            connection.execute("drop trigger agent_vault_inserted on public.jobs")
    finally:
        await asyncio.to_thread(postgres.stop)
    async with up(home, "--check") as program:
        assert 1 == await program.ended(), program.text
    assert "check failed at stage notified: no notification reached the daemon" in program.text
    assert "agent_vault_inserted" in program.text


async def test_a_killed_daemon_is_named(home: Path) -> None:
    """With the daemon killed, the check fails at the stage that the daemon would have reached."""
    async with up(home, "--check") as program:

        def daemon() -> psutil.Process | None:
            with contextlib.suppress(psutil.Error):
                return next((one for one in family(program) if one.cmdline()[1:3] == ["-m", "daemon"]), None)
            return None

        (await programs.until(daemon, "the daemon")).kill()
        assert 1 == await program.ended(), program.text
    assert ["accepted"] == shown_stages(program.text)
    assert "check failed at stage notified: the daemon ended by SIGKILL" in program.text


async def test_a_refusing_gateway_fails_at_delivered(home: Path) -> None:
    """A gateway that refuses the token: the check names the stage and the remedy."""
    async with gateways.gateway() as gateway:
        asked = ("--check", "--sample", "--gateway", gateway.url)
        async with up(home, *asked, OPENCLAW_HOOK_TOKEN="a wrong token") as program:
            assert 1 == await program.ended(), program.text
        assert ["accepted", "notified", "claimed"] == shown_stages(program.text)
        assert "check failed at stage delivered: hooks token refused by" in program.text
        assert [] == gateway.wakes

        # and the sample that is still queued never reaches a real gateway that is started without --sample
        async with up(home, "--gateway", gateway.url, OPENCLAW_HOOK_TOKEN=gateways.TOKEN) as program:
            await program.says("send another")
            words = next(line for line in program.text.splitlines() if "send another" in line).split()
            send = words[words.index("send") + 2 :]
            sent = subprocess.run(
                [sys.executable, "-m", "vault", *send[send.index("send") :], "SLACK_RECEIVE_MESSAGE"],
                check=False,
                capture_output=True,
                text=True,
            )
            assert 0 == sent.returncode, sent.stdout + sent.stderr
            await programs.until(lambda: gateway.wakes, "a wake")
            assert ["SLACK_RECEIVE_MESSAGE"] == [wake.split("(")[1].split(")")[0] for wake in gateway.wakes]
            assert 0 == await program.stop(signal.SIGINT)


async def test_no_sample_goes_to_a_real_gateway_unasked(home: Path) -> None:
    """--check with a real gateway is refused until --sample allows the wake."""
    async with gateways.gateway() as gateway, up(home, "--check", "--gateway", gateway.url) as program:
        assert 1 == await program.ended()
        assert [] == gateway.posts
    assert "add --sample to allow it" in program.text
    assert "Traceback" not in program.text


async def test_a_secret_that_others_may_read(home: Path) -> None:
    """It is refused in a line that says what to do."""
    secret = home / "data" / "secrets" / "composio_webhook_secret"
    secret.parent.mkdir(parents=True)
    secret.write_text("a-secret")
    secret.chmod(0o644)
    async with up(home, "--check") as program:
        assert 78 == await program.ended()
    assert f"chmod 600 {secret}" in program.text
    assert "Traceback" not in program.text


async def test_it_stays_and_ends_cleanly_at_ctrl_c(home: Path) -> None:
    """After the sample it stays up, shows what happens, and Ctrl-C leaves no process."""
    async with up(home) as program:
        await program.says("Ctrl-C ends it")
        company = family(program)
        assert len(company) >= 6
        assert 0 == await program.stop(signal.SIGINT)
    await all_gone(company)
    assert "Traceback" not in program.text


async def test_kill_9_leaves_no_process_and_no_lock(home: Path) -> None:
    """After a kill -9 everything ends by itself, and the next start works over the same folder."""
    async with up(home) as program:
        await program.says("Ctrl-C ends it")
        company = family(program)
        await program.stop(signal.SIGKILL)
        async with up(home, "--check") as again:
            assert 0 == await again.ended(), again.text
        await all_gone(company)


async def test_it_starts_again_what_dies(home: Path) -> None:
    """A killed daemon, vault or Postgres is started again, as a service manager would."""
    async with up(home) as program:
        await program.says("Ctrl-C ends it")
        for one in family(program):
            with contextlib.suppress(psutil.Error):
                if one.cmdline()[1:3] == ["-m", "daemon"] or one.name() == "postgres":
                    one.kill()
        await program.says("ended by SIGKILL: starting it again")
        words = next(line for line in program.text.splitlines() if "send another" in line).split()

        async def sent() -> bool:
            done = subprocess.run(
                [sys.executable, "-m", "vault", *words[words.index("send", 3) :]], check=False, capture_output=True
            )
            return done.returncode == 0

        await programs.until(sent, "an accepted delivery")
        await programs.until(lambda: program.text.count("woken:") >= 2, "the wake")
        assert 0 == await program.stop(signal.SIGINT)


async def test_a_killed_leash_leaves_nothing(home: Path) -> None:
    """What it held is ended and started again, and Ctrl-C ends it all."""
    async with up(home) as program:
        await program.says("Ctrl-C ends it")
        leashed = [one for one in family(program) if one.cmdline()[-3:] == ["-m", "daemon", "run"]]
        held, leash = sorted(leashed, key=lambda one: len(one.cmdline()))
        leash.kill()
        await all_gone([held])
        await program.says("ended by SIGKILL: starting it again")
        everything = family(program)
        assert 0 == await program.stop(signal.SIGINT)
    await all_gone(everything)


async def test_deliveries_while_postgres_is_killed(home: Path) -> None:
    """With Postgres killed a delivery is spooled, and wakes the agent once Postgres runs again."""
    async with up(home) as program:
        await program.says("Ctrl-C ends it")
        words = next(line for line in program.text.splitlines() if "takes deliveries at" in line).split()
        secret = (home / "data" / "secrets" / "composio_webhook_secret").read_text()

        async def spooled() -> bool:
            for one in family(program):
                with contextlib.suppress(psutil.Error):
                    if one.name() == "postgres":
                        one.kill()
            messages = sender.sample_messages("SLACK_RECEIVE_MESSAGE", 1, time.time())
            (receipt,) = await sender.send(words[-1], secret, messages)
            return receipt.status == 200 and (receipt.answer or {}).get("spooled") is True

        await programs.until(spooled, "a spooled delivery")
        await program.says("spool_drained moved=")
        await program.says("woken: New Composio trigger (SLACK_RECEIVE_MESSAGE)")
        assert 0 == await program.stop(signal.SIGINT)
    assert "spooled=True" in program.text


async def test_two_at_once(home: Path) -> None:
    """Two data folders run side by side; a second `up` over the same folder is refused and says who has it."""
    async with up(home, "--data", str(home / "one")) as one, up(home, "--data", str(home / "two")) as two:
        await one.says("Ctrl-C ends it")
        await two.says("Ctrl-C ends it")
        async with up(home, "--data", str(home / "one"), "--check") as third:
            assert 1 == await third.ended()
        assert f"already running over {home / 'one'} (process {one.process.pid})" in third.text
        assert [0, 0] == [await one.stop(signal.SIGINT), await two.stop(signal.SIGINT)]


async def test_a_taken_port_is_told_clearly(home: Path) -> None:
    """A port that is taken: one line that names it and the remedy, and no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with up(home, "--port", str(port)) as program:
            assert 1 == await program.ended()
    assert f"cannot listen on 127.0.0.1:{port}" in program.text
    assert "choose another with --port" in program.text
    assert "Traceback" not in program.text


async def test_a_folder_with_a_space(home: Path) -> None:
    """The usual place on a Mac, Application Support, has one; a comma and a percent sign are no harder."""
    async with up(home, "--check", "--data", str(home / "my data, 100%")) as program:
        assert 0 == await program.ended(), program.text
    assert list(STAGES) == shown_stages(program.text)


async def test_nobody_reads_what_it_says(home: Path) -> None:
    """A reader that goes, as `head` does, ends neither the check nor its cleaning up."""
    command = [sys.executable, "-m", "vault", "up", "--check", "--port", "0", "--data", str(home / "data")]
    env = {"HOME": str(home), "PATH": os.environ["PATH"]}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert b"" == await asyncio.to_thread(process.stderr.read)
    assert 0 == process.returncode


async def test_ctrl_c_during_the_imports(home: Path) -> None:
    """A person who changes their mind at once sees no traceback."""
    async with up(home) as program:
        command = psutil.Process(program.process.pid)
        await programs.until(lambda: "psycopg_binary" in " ".join(one.path for one in command.memory_maps()), "imports")
        assert program.lines == []
        await program.stop(signal.SIGINT)
    assert "Traceback" not in program.text


async def test_a_folder_that_cannot_be_is_told_clearly(home: Path) -> None:
    """A data folder below a file: one line with the remedy."""
    (home / "file").write_text("")
    async with up(home, "--data", str(home / "file" / "data")) as program:
        assert 1 == await program.ended()
    assert "choose another folder with --data" in program.text
    assert "Traceback" not in program.text


@pytest.mark.parametrize("name", ["vault.toml", "daemon.toml"])
async def test_a_folder_with_settings_of_somebody_elses(home: Path, name: str) -> None:
    """They are not written over."""
    data = home / "data"
    data.mkdir()
    (data / name).write_text('queues = "work"\n')
    async with up(home, "--data", str(data)) as program:
        assert 1 == await program.ended()
    assert f"{data / name} is not of agent-vault up: choose another folder with --data" in program.text
    assert [(name, 'queues = "work"\n')] == [(file.name, file.read_text()) for file in data.iterdir()]


async def test_a_database_that_lost_a_part_is_told(home: Path) -> None:
    """Nothing is made in its place: what is left may still be saved."""
    rest = home / "data" / "postgres" / "data" / "base"
    rest.mkdir(parents=True, mode=0o700)
    async with up(home) as program:
        assert 1 == await program.ended()
    assert f"{rest.parent} is no whole database any more, it has no PG_VERSION: restore it" in program.text
    assert rest.exists()


def runnable_by(user: str) -> str:
    """An interpreter of our version that this user can run with our packages, or a skip with the reason."""
    for interpreter in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            check = f"import sys, vault.cli, psycopg; assert sys.version_info[:2] == {sys.version_info[:2]}"
            subprocess.run([interpreter, "-c", check], check=True, capture_output=True, **as_user(user))
            return interpreter
    pytest.skip(f"no Python {sys.version_info[0]}.{sys.version_info[1]} that {user} can run with our packages")


def as_user(user: str) -> dict[str, Any]:
    """What makes a subprocess run as somebody else with our packages."""
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": [], "cwd": "/", "env": env}


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
async def test_as_a_plain_user(home: Path) -> None:
    """A user without privileges runs it too (root is covered where the tests run as root)."""
    interpreter = runnable_by("nobody")
    os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
    how = as_user("nobody")
    how["env"]["HOME"] = str(home)
    done = await asyncio.to_thread(
        subprocess.run,
        [interpreter, "-m", "vault", "up", "--check", "--port", "0", "--data", str(home / "data")],
        check=False,
        capture_output=True,
        text=True,
        **how,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert list(STAGES) == shown_stages(done.stdout)
