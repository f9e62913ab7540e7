"""The real PgBouncer before the test's database, in either of its modes."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

READY_S = 30.0

_INI = """[databases]
{database} = {upstream}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = {mode}
max_client_conn = {clients}
default_pool_size = {pool}
logfile =
{settings}
"""


def binary() -> str:
    """Find PgBouncer; without it the test is skipped with the reason."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/opt/homebrew/bin")
    if found is None:
        pytest.skip("no pgbouncer on this machine (apt-get install pgbouncer, or brew install pgbouncer)")
    return found


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def pooler(  # what a test may set of PgBouncer
    dsn: str,
    mode: str,
    *,
    clients: int = 100,
    pool: int = 20,
    database: str = "*",
    users: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    proven: bool = True,
) -> Iterator[str]:
    """Run PgBouncer in `session` or `transaction` mode before a database; gives the DSN that leads through it.

    `users` have passwords, else everyone is let in; `settings` are more of pgbouncer.ini's; not `proven`, nobody has
    connected through it before the test does.
    """
    program = binary()
    known = conninfo_to_dict(dsn)
    upstream = {key: known[key] for key in ("host", "port", "user", "password") if key in known}
    port = _free_port()
    folder = Path(tempfile.mkdtemp(prefix="agent-vault-pooler-"))
    file = folder / "pgbouncer.ini"
    words = " ".join(f"{key}={value}" for key, value in upstream.items())
    more = {**_authentication(folder, users), **(settings or {})}
    lines = "\n".join(f"{key} = {value}" for key, value in more.items())
    file.write_text(
        _INI.format(database=database, upstream=words, port=port, mode=mode, clients=clients, pool=pool, settings=lines)
    )
    user = _other_user() if os.geteuid() == 0 else None  # it refuses to run as root
    if user:
        for one in (folder, *folder.iterdir()):
            shutil.chown(one, user)
    through = make_conninfo(dsn, host="127.0.0.1", port=port)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(file)], user=user, stdout=log, stderr=log, cwd="/")
        try:
            _wait(process, through if proven else f"host=127.0.0.1 port={port}", folder / "log", proven=proven)
            yield through
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _authentication(folder: Path, users: Mapping[str, str] | None) -> dict[str, str]:
    if users is None:
        return {"auth_type": "any"}
    file = folder / "users"
    file.write_text("".join(f'"{name}" "{password}"\n' for name, password in users.items()))
    return {"auth_type": "scram-sha-256", "auth_file": str(file)}


def _other_user() -> str:
    """The user that the embedded server runs as, whose socket nobody else may open; or any other that is not root."""
    names = {one.pw_name for one in pwd.getpwall()}
    return "pgserver" if "pgserver" in names else "nobody"


def _wait(process: subprocess.Popen[bytes], through: str, log: Path, *, proven: bool) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            if not proven:
                port = int(str(conninfo_to_dict(through)["port"]))
                return socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return psycopg.connect(through, connect_timeout=5).close()
        except (psycopg.OperationalError, OSError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"pgbouncer did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.05)
