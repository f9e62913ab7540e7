"""What both programs do where their standard streams are closed or cannot be written to."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from daemons import NAME, environment
from gateways import gateway
from programs import LIMIT_S, until

CLOSED = ("/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
DOCTOR = [("daemon", 78), ("vault", 78)]  # with no setting at all


def command(*words: str) -> list[str]:
    """Return what runs a module of ours."""
    return [sys.executable, "-m", *words]


def env(home: Path) -> dict[str, str]:
    """Return an environment with none of this machine's settings, in which output is buffered as usual."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(home)}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="macOS has no such device")
@pytest.mark.parametrize("module", ["daemon", "vault"])
@pytest.mark.parametrize("words", [["doctor"], ["--help"]])
def test_a_full_disk(module: str, words: list[str], tmp_path: Path) -> None:
    """What cannot be written is told on a line, and the exit status says so."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(module, *words), env=env(tmp_path), check=False, stdout=full, stderr=subprocess.PIPE, text=True
        )
    told = f"agent-{module}: the output cannot be written: no space left on device\n"
    assert (1, told) == (done.returncode, done.stderr)


@pytest.mark.parametrize("module", ["daemon", "vault"])
def test_a_reader_that_has_gone(module: str, tmp_path: Path) -> None:
    """It is told nothing, for it went on purpose."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command(module, "doctor"), env=env(tmp_path), check=False, stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (1, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize(("module", "status"), DOCTOR)
def test_closed_streams(module: str, status: int, tmp_path: Path) -> None:
    """They are the null device: the exit status is that of the command, and what it says goes nowhere else."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command(module, "doctor")],
        env=env(tmp_path),
        check=False,
        capture_output=True,
        text=True,
    )
    assert (status, "") == (done.returncode, done.stderr)
    done = subprocess.run([*CLOSED, *command(module, "doctor")], env=env(tmp_path), check=False)
    assert status == done.returncode


def test_events_without_an_output(dsn: str, tmp_path: Path) -> None:
    """The command does its work."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command("daemon", "events", "list")],
        env={**env(tmp_path), "DATABASE_URL": dsn},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (0, "") == (done.returncode, done.stderr)


async def test_a_daemon_without_streams(dsn: str, database: psycopg.Connection, tmp_path: Path) -> None:
    """It serves and ends as ever; nothing of what it logs gets into a connection that has the number of a stream."""
    async with gateway() as fake:
        process = await asyncio.create_subprocess_exec(
            *CLOSED, *command("daemon", "run"), env={**env(tmp_path), **environment(dsn, fake.url)}
        )
        try:
            await until(
                lambda: database.execute("select from agent_vault.daemons where name = %s and locked", [NAME]).rowcount
            )
            process.send_signal(signal.SIGTERM)
            assert 0 == await asyncio.wait_for(process.wait(), LIMIT_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
