"""Every command that connects does it encrypted, over a database that seems to be on another machine."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from authority import REMOTE, Authority, authority, encrypted
from faults.pooler import pooler
from psycopg.conninfo import make_conninfo

COMMANDS = [
    ("vault", "serve"),
    ("vault", "migrate"),
    ("vault", "jobs"),
    ("daemon", "run"),
    ("daemon", "events", "list"),
]
PROVEN = "the database's certificate does not prove who it is: name the file of its authority in sslrootcert"
OTHERS_NAME = "the database's certificate is another host's: write the host as its certificate names it"
BARE = "the server offers no encryption, and sslmode asks for it: set it up there (ssl = on), or"


class Command(Protocol):
    """Runs a command of ours to its end."""

    def __call__(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Take the words, and the environment beside what every command needs."""


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run with nothing of this machine's settings."""

    def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        needed = {"COMPOSIO_WEBHOOK_SECRET": "a", "OPENCLAW_HOOK_TOKEN": "b", "HOME": str(tmp_path), "VAULT_PORT": "0"}
        return subprocess.run(
            [sys.executable, "-m", *words], env={**needed, **env}, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="module")
def signer() -> Iterator[Authority]:
    """The authority that the server's certificate is of."""
    with authority() as one:
        yield one


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_refused_in_the_clear(command: Command, words: tuple[str, ...], mode: str) -> None:
    """No command tries an sslmode that may send everything in the clear, and each names its own way out."""
    done = command(*words, DATABASE_URL=f"postgresql://canary:canary@{REMOTE}:1/canary", PGSSLMODE=mode)
    said = done.stdout + done.stderr
    assert 78 == done.returncode, said
    assert f"sslmode={mode} may send the password and every event in the clear" in said
    assert f"{words[0].upper()}_ALLOW_PLAINTEXT_DATABASE=true" in said
    assert "canary" not in said


def test_a_plain_server(command: Command, dsn: str) -> None:
    """A server without TLS gets no password, until the setting says that the network is one's own."""
    with pooler(dsn, "session") as through:
        plain = through.replace("host=127.0.0.1", f"host={REMOTE}")
        done = command("vault", "migrate", DATABASE_URL=plain)
        assert (1, True) == (done.returncode, BARE in done.stderr), done.stderr
        assert 0 == command("vault", "migrate", DATABASE_URL=plain, VAULT_ALLOW_PLAINTEXT_DATABASE="true").returncode
        for local in (dsn, through):
            assert 0 == command("vault", "migrate", DATABASE_URL=local).returncode


def test_the_right_authority(command: Command, dsn: str, signer: Authority) -> None:
    """A proven server is taken, and so is an unproven one where nothing asks for a proof."""
    with encrypted(dsn, signer) as remote:
        asked = make_conninfo(remote, sslmode="verify-full", sslrootcert=str(signer.root))
        for given in (asked, remote):
            done = command("vault", "migrate", DATABASE_URL=given)
            assert 0 == done.returncode, done.stderr
            assert 0 == command("daemon", "events", "list", DATABASE_URL=given).returncode


def test_the_systems_authorities(command: Command, dsn: str, signer: Authority) -> None:
    """sslrootcert=system means those of SSL_CERT_FILE, and without it the driver finds none."""
    with encrypted(dsn, signer) as remote:
        asked = make_conninfo(remote, sslrootcert="system")
        assert 0 == command("vault", "migrate", DATABASE_URL=asked, SSL_CERT_FILE=str(signer.root)).returncode
        done = command("vault", "migrate", DATABASE_URL=asked)
    assert (1, True) == (done.returncode, PROVEN in done.stderr), done.stderr


def test_another_authority(command: Command, dsn: str, signer: Authority) -> None:
    """Whoever stands in for the server with a certificate of their own gets nothing."""
    with authority() as other, encrypted(dsn, other) as remote:
        asked = make_conninfo(remote, sslmode="verify-full", sslrootcert=str(signer.root))
        done = command("vault", "migrate", DATABASE_URL=asked)
    assert (1, True) == (done.returncode, PROVEN in done.stderr), done.stderr


def test_another_hosts_certificate(command: Command, dsn: str, signer: Authority) -> None:
    """Neither does one whose certificate of the right authority is for another host."""
    with encrypted(dsn, signer, "DNS:elsewhere.example") as remote:
        asked = make_conninfo(remote, sslmode="verify-full", sslrootcert=str(signer.root))
        done = command("vault", "migrate", DATABASE_URL=asked)
    assert (1, True) == (done.returncode, OTHERS_NAME in done.stderr), done.stderr
