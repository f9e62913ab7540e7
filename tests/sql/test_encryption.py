"""Which connection strings may leave this machine, and with which sslmode."""

import re
from pathlib import Path

import pytest
from documented import DOCUMENTED
from psycopg.conninfo import conninfo_to_dict

from sql.dsn import DsnError
from sql.encryption import secured

SUPABASE = "postgresql://postgres.abcd:canary@aws-0-eu-west-1.pooler.supabase.com:5432/postgres"
SETTING = "X_ALLOW_PLAINTEXT"


def sslmode(dsn: str, **environment: str) -> object:
    """Return the sslmode of the string that is used in place of this one."""
    return conninfo_to_dict(secured(dsn, environment, setting=SETTING)).get("sslmode")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No root certificate of this machine's user counts."""
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    "dsn",
    [
        "dbname=x",
        "host=/run/postgresql",
        "host=@abstract",
        "postgresql://localhost/x",
        "postgresql://LocalHost/x",
        "postgresql://127.0.0.1/x",
        "postgresql://127.8.9.1/x",
        "postgresql://[::1]/x",
        "host=localhost,127.0.0.1",
        "host=db.example.com hostaddr=127.0.0.1",
    ],
)
def test_this_machine(dsn: str) -> None:
    """A socket and the loopback are left to libpq, with any sslmode."""
    assert dsn == secured(dsn, {}, setting=SETTING)
    assert "disable" == sslmode(f"{dsn}?sslmode=disable" if "://" in dsn else f"{dsn} sslmode=disable")
    assert dsn == secured(dsn, {"PGSSLMODE": "disable"}, setting=SETTING)


REMOTE = [
    "postgresql://db.example.com/x",
    "postgresql://10.0.0.1/x",
    "postgresql://[fe80::1]/x",
    "postgresql://0.0.0.0/x",
    "postgresql://localhost.example.com/x",
    "host=localhost,db.example.com",
    "host=localhost hostaddr=10.0.0.1",
    "host=/run/postgresql,db.example.com",
    SUPABASE,
]


@pytest.mark.parametrize("dsn", REMOTE)
def test_another_machine(dsn: str) -> None:
    """What says nothing is encrypted; what asks for more keeps it, and a blank variable says nothing."""
    assert "require" == sslmode(dsn) == sslmode(dsn, PGSSLMODE="")
    assert {**conninfo_to_dict(dsn), "sslmode": "require"} == conninfo_to_dict(secured(dsn, {}, setting=SETTING))
    asked = f"{dsn}{'?' if '://' in dsn else ' '}sslmode=verify-full{'&' if '://' in dsn else ' '}sslrootcert=/ca"
    assert asked == secured(asked, {}, setting=SETTING)
    assert dsn == secured(dsn, {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/ca"}, setting=SETTING)


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
@pytest.mark.parametrize("dsn", REMOTE)
def test_in_the_clear(dsn: str, mode: str) -> None:
    """An sslmode that may send everything in the clear is refused, in the string and in the environment."""
    for given, environment in (
        (f"{dsn}{'?' if '://' in dsn else ' '}sslmode={mode}", {"PGSSLMODE": "require"}),
        (dsn, {"PGSSLMODE": mode}),
    ):
        line = refusal(given, **environment)
        assert line.startswith(f"sslmode={mode} may send the password and every event in the clear")
        assert f"say sslmode=verify-full or sslmode=require, or set {SETTING}=true" in line


def refusal(dsn: str, **environment: str) -> str:
    """Return why a string is refused: a documented reason, which quotes nothing of it."""
    with pytest.raises(DsnError) as caught:
        secured(dsn, environment, setting=SETTING)
    line = str(caught.value)
    assert [] != [message for message in DOCUMENTED if message in line]
    assert not re.search("canary|example|abcd", line)
    return line


@pytest.mark.parametrize("variable", ["PGHOST", "PGHOSTADDR"])
def test_a_host_from_the_environment(variable: str) -> None:
    """Where libpq would go without a host in the string decides."""
    assert "require" == sslmode("dbname=x", **{variable: "10.0.0.1"})
    assert sslmode("dbname=x", **{variable: "127.0.0.1"}) is None
    assert "may send" in refusal("dbname=x", **{variable: "10.0.0.1", "PGSSLMODE": "prefer"})


def test_a_service() -> None:
    """What a service file says is not read: the string itself says how it is encrypted."""
    assert "names a service of pg_service.conf" in refusal("service=vault")
    assert "names a service" in refusal("host=localhost", PGSERVICE="vault", PGSSLMODE="verify-full")
    assert "may send" in refusal("service=vault sslmode=prefer")
    assert "require" == sslmode("service=vault sslmode=require")


@pytest.mark.parametrize("proof", ["sslmode=verify-full", "sslmode=verify-ca", "sslrootcert=system"])
@pytest.mark.parametrize("host", ["aws-0-eu-west-1.pooler.supabase.com", "db.abcd.supabase.co"])
def test_supabase_without_its_root(proof: str, host: str, tmp_path: Path) -> None:
    """A proof that needs Supabase's own authority names the place where it is downloaded; a file is enough."""
    dsn = f"postgresql://postgres.abcd:canary@{host}/postgres?{proof}"
    assert "Database Settings, SSL Configuration, Download certificate" in refusal(dsn)
    if "system" not in proof:
        assert dsn == secured(dsn, {"PGSSLROOTCERT": "/ca"}, setting=SETTING)
        (tmp_path / ".postgresql").mkdir()
        (tmp_path / ".postgresql/root.crt").touch()
        assert dsn == secured(dsn, {}, setting=SETTING)


def test_the_systems_authorities() -> None:
    """sslrootcert=system means verify-full to libpq, which an sslmode=require would be refused beside."""
    dsn = "postgresql://db.example.com/x?sslrootcert=system"
    assert dsn == secured(dsn, {}, setting=SETTING)
