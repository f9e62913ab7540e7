"""What a failed connection tells a person, over the servers, poolers and networks that say it."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from daemons import free_port
from deliveries import Switch
from faults.pooler import pooler
from faults.postgres import crashable
from faults.proxy import proxy
from programs import until
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from supavisor import supavisor

from sql.connecting import ConnectError, explain
from sql.line import connect
from sql.migrate import migrate
from vault.embedded import EmbeddedPostgres

USER, PASSWORD, DATABASE = "quincy_vex", "wq7zKv0bJx", "zephyr_wold"
LIMITED = "quincy_one"
SECRETS = (USER, PASSWORD, DATABASE, "quincy", "zephyr", "wold.invalid")
RETRY = {"server_login_retry": "0.1"}  # seconds, of PgBouncer at its server
HBA = "local all postgres trust\nlocal all jamb reject\nlocal all plinth peer\nlocal all,unknown all scram-sha-256\n"

BUSY = "the pooler had no connection to the database to give in time: check that the database runs; a daemon keeps at"
NO_ROOM = "the database or its pooler has no connection left: a daemon keeps at most 2 and a vault 4, a session pooler"
LOGIN = "the database refused the login: check user and password"
NO_DATABASE = "the server has no such database: correct the name"
CLOSED = "the database is starting up, shutting down or closed to connections: wait"
UNKNOWN_PROJECT = "supabase's pooler knows no such project or user: copy host and user again"
POOLER_LOGIN = "the pooler itself cannot log in to the database: check that the database runs, and user and password"


@pytest.fixture(scope="module")
def scram() -> Iterator[EmbeddedPostgres]:
    """A server that asks for passwords, a user who has one, and another who may have one connection."""
    folder = Path(tempfile.mkdtemp(prefix="agent-vault-test-"))
    server = EmbeddedPostgres(folder / "pg", settings={"fsync": "off", "max_connections": "20"})
    try:
        server.start()
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute(f"create role {USER} login password '{PASSWORD}'")
            admin.execute(f"create role {LIMITED} login password '{PASSWORD}' connection limit 1")
            admin.execute("create role plinth login")
            admin.execute(f"create database {DATABASE} owner {USER}")
            (server.data / "pg_hba.conf").write_text(HBA)
            admin.execute("select pg_reload_conf()")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def login(scram: EmbeddedPostgres) -> str:
    """The string of that user."""
    return make_conninfo(scram.dsn, user=USER, password=PASSWORD, dbname=DATABASE)


async def told(dsn: str) -> str:
    """Fail to connect as the programs and as migrate do, and return the one line that both give."""
    with pytest.raises(ConnectError) as caught:
        await connect(dsn, name="test")
    with pytest.raises(ConnectError) as migrating:
        await asyncio.to_thread(migrate, dsn)  # what answers may run in this event loop
    line = str(caught.value)
    assert line == str(migrating.value) == explain(caught.value)
    for error in (caught.value, migrating.value):
        assert isinstance(error, psycopg.OperationalError)
        assert error.__cause__ is error.__context__ is None
        assert [] == [secret for secret in SECRETS if secret in "".join(traceback.format_exception(error))]
    assert "\n" not in line
    return line


async def test_a_wrong_password(login: str) -> None:
    """A server with scram names the cause, and neither user nor password."""
    assert (await told(make_conninfo(login, password="wrong"))).startswith(LOGIN)


async def test_an_unknown_user(login: str) -> None:
    """A role that is not there fails like a wrong password, and under trust in other words."""
    assert (await told(make_conninfo(login, user="quincy_x"))).startswith(LOGIN)


async def test_no_password(scram: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A string without a password, where one is asked for."""
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    line = await told(make_conninfo(scram.dsn, user=USER, dbname=DATABASE))
    assert line.startswith("the connection string has no password: put it between")


@pytest.mark.parametrize("user", ["jamb", "plinth"])
async def test_a_user_who_may_not_come_in_this_way(login: str, user: str) -> None:
    """What pg_hba.conf rejects, or lets in by another way than a password."""
    line = await told(make_conninfo(login, user=user))
    assert line.startswith("the database lets this user in from here in no way: check user, database and host")


async def test_an_unknown_database(login: str) -> None:
    """A database that is not there, behind a right password."""
    assert (await told(make_conninfo(login, dbname="zephyr_none"))).startswith(NO_DATABASE)


async def test_too_many_connections_of_a_role(login: str) -> None:
    """The role's limit is reached: how many connections the programs keep is named."""
    limited = make_conninfo(login, user=LIMITED, dbname="postgres")
    with psycopg.connect(limited):
        assert (await told(limited)).startswith(NO_ROOM)


async def test_a_right_login_is_no_error(login: str) -> None:
    """What all of these change is all that keeps them out."""
    connection = await connect(login, name="test")
    await connection.close()


async def test_a_database_that_lets_nobody_in(server_dsn: str, dsn: str) -> None:
    """`allow_connections false`, as a provider does it to a project."""
    Switch(server_dsn, str(conninfo_to_dict(dsn)["dbname"])).off()
    assert (await told(dsn)).startswith(CLOSED)


async def test_a_database_that_shuts_down() -> None:
    """A smart shutdown waits for the last session and lets no new one in."""
    with crashable() as server, psycopg.connect(server.dsn, autocommit=True) as last:
        os.kill(server.pid, signal.SIGTERM)
        await until(lambda: refuses(server.dsn), "a closed door")
        assert (await told(server.dsn)).startswith(CLOSED)
        assert last.execute("select 1").fetchone() == (1,)


def refuses(dsn: str) -> bool:
    """Tell whether a server lets nobody in."""
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return True
    return False


async def test_a_server_without_encryption(login: str) -> None:
    """sslmode=require, and a server that has no certificate."""
    async with proxy(login) as wire:
        line = await told(make_conninfo(wire.dsn, sslmode="require"))
    assert line.startswith("the server offers no encryption, and sslmode asks for it: set it up there")


async def test_too_many_clients_of_a_pooler(login: str) -> None:
    """PgBouncer's max_client_conn is reached."""
    with pooler(login, "session", clients=1) as through, psycopg.connect(through):
        assert (await told(through)).startswith(NO_ROOM)


async def test_a_pooler_with_no_connection_to_give(login: str) -> None:
    """A session pooler whose pool is in use lets a client wait, and at last go."""
    waits = {"query_wait_timeout": "1"}
    with pooler(login, "session", pool=1, settings=waits) as through, psycopg.connect(through) as other:
        assert other.execute("select 1").fetchone() == (1,)
        connection = await connect(through, name="test")
        with pytest.raises(psycopg.OperationalError) as caught:
            await connection.execute("select 1")
        await connection.close()
    assert explain(caught.value).startswith(BUSY)


async def test_a_wrong_password_at_a_pooler(login: str) -> None:
    """PgBouncer's own words for it."""
    with pooler(login, "session", users={USER: PASSWORD}) as through:
        assert (await told(make_conninfo(through, password="wrong"))).startswith(LOGIN)
        assert (await told(make_conninfo(through, user="quincy_x"))).startswith(LOGIN)


@pytest.mark.parametrize("database", ["*", DATABASE])
async def test_an_unknown_database_at_a_pooler(login: str, database: str) -> None:
    """Whether PgBouncer knows its databases or asks the server."""
    with pooler(login, "session", database=database, users={USER: PASSWORD}, settings=RETRY) as through:
        assert (await told(make_conninfo(through, dbname="zephyr_none"))).startswith(NO_DATABASE)


async def test_a_pooler_whose_own_login_fails(login: str) -> None:
    """The server refuses PgBouncer's password, and PgBouncer passes that on."""
    with pooler(make_conninfo(login, password="wrong"), "session", settings=RETRY, proven=False) as through:
        assert (await told(through)).startswith((POOLER_LOGIN, LOGIN))


async def test_a_pooler_whose_server_is_away(login: str) -> None:
    """PgBouncer reaches no server."""
    away = make_conninfo(login, host="127.0.0.1", port=free_port())
    with pooler(away, "session", settings={"query_wait_timeout": "1", **RETRY}, proven=False) as through:
        assert (await told(through)).startswith((POOLER_LOGIN, BUSY))


async def test_a_pooler_that_takes_no_options(login: str) -> None:
    """A start-up parameter that PgBouncer does not know."""
    with pooler(login, "session") as through:
        line = await told(make_conninfo(through, options="-c statement_timeout=1"))
    assert line.startswith("the pooler does not take a parameter of the connection string: leave out options")


@contextlib.contextmanager
def encrypted(login: str) -> Iterator[tuple[str, Path]]:
    """A pooler that takes only encrypted connections, with a certificate that nobody signed."""
    folder = Path(tempfile.mkdtemp(prefix="agent-vault-test-"))
    key, certificate = folder / "key", folder / "certificate"
    openssl = shutil.which("openssl") or pytest.skip("no openssl on this machine to make a certificate")
    command = [openssl, "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=else", "-days", "1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    folder.chmod(0o755)
    key.chmod(0o644)
    tls = {"client_tls_sslmode": "require", "client_tls_key_file": str(key), "client_tls_cert_file": str(certificate)}
    try:
        with pooler(login, "session", settings=tls) as through:
            yield through, certificate
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def test_encryption_that_is_required_or_cannot_be_trusted(login: str) -> None:
    """sslmode=disable, an unknown authority, another's name and a file that is not there."""
    with encrypted(login) as (through, certificate):
        bare = await told(make_conninfo(through, sslmode="disable"))
        missing = await told(make_conninfo(through, sslmode="verify-full", sslrootcert="/no/zephyr"))
        other = await told(make_conninfo(through, sslmode="verify-full", sslrootcert=str(certificate)))
    assert bare.startswith("the database takes only encrypted connections: leave sslmode=disable out")
    assert missing.startswith("the database's certificate does not prove who it is: name the file of its authority")
    assert other.startswith("the database's certificate is another host's: write the host as its certificate names it")


async def test_a_host_that_is_nowhere() -> None:
    """A name that no resolver knows, and one that none can hold."""
    line = await told(f"postgresql://{USER}:{PASSWORD}@zephyr-wold.invalid/{DATABASE}")
    assert line.startswith(("the connection string's host is not to be found", "no name server answers"))
    line = await told(f"postgresql://{USER}:{PASSWORD}@zephyr..wold.invalid/{DATABASE}")
    assert "the connection string has a host that cannot be: copy it again (supabase: Connect, Session pooler)" == line


async def test_a_closed_port() -> None:
    """Nothing listens."""
    line = await told(f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{free_port()}/{DATABASE}")
    assert "nothing listens at that host and port: check both, and that the database runs" == line


async def test_a_socket_that_is_not_there() -> None:
    """A folder with no server."""
    line = await told(f"host=/nowhere/zephyr user={USER}")
    assert line.startswith("no database can be reached through that unix socket: check the folder")


async def test_a_service_that_is_not_there() -> None:
    """A name that no file of services has."""
    assert (await told("service=zephyr")).startswith("the connection string names a service that is not in pg_service")


async def test_a_value_that_libpq_does_not_know() -> None:
    """A parameter that is libpq's, with a value that is not."""
    assert (await told("host=127.0.0.1 sslmode=zephyr")).startswith(
        "a parameter of the connection string has a value that"
    )


async def test_no_answer(login: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that swallows everything; both ways to connect give up in time."""
    monkeypatch.setattr("sql.line.CONNECT_S", 0.3)
    monkeypatch.setattr("sql.migrate.CONNECT_S", 2.0)  # libpq's least
    async with proxy(login) as wire:
        wire.blackhole()
        line = await told(wire.dsn)
    assert line.startswith(
        "no answer from the database in time: check host and port, that the database runs, and that a"
    )


async def test_a_connection_that_is_reset(login: str) -> None:
    """Something on the way hangs up."""
    async with proxy(login) as wire:
        wire.refuse()
        line = await told(wire.dsn)
    assert line.startswith("the connection was cut: try again")


def without_network(dsn: str) -> str:
    """Connect in a process that has no network at all, and return what it tells."""
    alone = shutil.which("unshare") or pytest.skip("only Linux takes a network away from one process")
    code = (
        "import asyncio, sys; from sql.line import connect\n"
        "try: asyncio.run(connect(sys.argv[1], name='test'))\n"
        "except Exception as error: print(error)"
    )
    command = [alone, "--net", "--map-root-user", sys.executable, "-c", code, dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip(f"this system takes no network away: {done.stderr.strip()}")
    return done.stdout.strip() or done.stderr


def test_an_address_that_cannot_be_reached() -> None:
    """An ipv6 address on a machine without ipv6 has its own remedy; an ipv4 address has not."""
    line = without_network(f"host=2001:db8::2f user={USER} password={PASSWORD}")
    assert line.startswith(
        "the database's host has only an ipv6 address, and this machine has no ipv6: take the session"
    )
    line = without_network(f"host=192.0.2.7 user={USER} password={PASSWORD}")
    assert line.startswith("there is no way from this machine to the database's host: check the network or vpn")
    both = without_network(f"host=2001:db8::2f,192.0.2.7 user={USER} password={PASSWORD}")
    assert line == both


@pytest.mark.parametrize(
    ("sqlstate", "message", "expected"),
    [
        ("XX000", f"(ENOTFOUND) tenant/user {USER}.{DATABASE} not found", UNKNOWN_PROJECT),
        ("XX000", "Tenant or user not found", UNKNOWN_PROJECT),
        (
            "XX000",
            "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15",
            NO_ROOM,
        ),
        (
            "XX000",
            "MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size",
            NO_ROOM,
        ),
        ("XX000", "(EMAXCONN) max client connections reached, limit: 200", NO_ROOM),
        ("XX000", "Max client connections reached", NO_ROOM),
        (
            "XX000",
            "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after 15000ms in Session mode",
            BUSY,
        ),
        ("28P01", f'password authentication failed for user "{USER}"', LOGIN),
        ("28P01", "Wrong password", LOGIN),
        (
            "XX000",
            "(ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked",
            "the pooler lets nobody in for some minutes, because too many connections failed: correct user and",
        ),
        (
            "XX000",
            "(ENOIDENTIFIER) no tenant identifier provided (external_id or sni_hostname required)",
            "supabase's pooler cannot tell which project is meant: the user there is postgres.REF",
        ),
        (
            "XX000",
            '(EINVALIDUSERINFO) Authentication error, reason: "Invalid format for user or db_name"',
            "supabase's pooler cannot tell which project is meant: the user there is postgres.REF",
        ),
        ("XX000", "(EBANNED) tenant is banned: zephyr", "supabase has closed this project: see its dashboard"),
        (
            "XX000",
            "(EADDRNOTALLOWED) address not in tenant allow_list: {198, 51, 100, 7}",
            "supabase refuses this machine's address: add it in the project's Database Settings",
        ),
        (
            "XX000",
            f"(ESSLREQUIRED) SSL connection is required for user: {USER}",
            "the database takes only encrypted connections: leave sslmode=disable out",
        ),
        ("08006", "Failed to connect to database: {:error, :econnrefused}", POOLER_LOGIN),
        ("XX000", "(EAUTHQUERY) auth_query connection failed: tcp connect: zephyr", POOLER_LOGIN),
        ("57P03", "the database system is starting up", CLOSED),
        ("57P03", "the database system is in recovery mode", CLOSED),
        # not a word of it is known, and all of it is covered that could be of the string
        (
            "XX000",
            f'(EODD) {USER} "zephyr" {PASSWORD.upper()} at 198.51.100.7 or 2001:db8::5 of {DATABASE}',
            "(eodd) *** *** *** at *** or *** of ***",
        ),
    ],
)
async def test_supabases_pooler(sqlstate: str, message: str, expected: str) -> None:
    """Each of the things that it says, now or in earlier releases, over the real wire."""
    async with supavisor(sqlstate, message) as port:
        line = await told(f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}")
    assert line.startswith(expected)


BOTH_WAYS = (
    "Multiple connection attempts failed. All failures were: - host: 'x', port: 5432, hostaddr: '2001:db8::1':"
    ' connection failed: connection to server at "x" (2001:db8::1), port 5432 failed: Network is unreachable'
    " - host: 'x', port: 5432, hostaddr: '192.0.2.1': connection failed: connection to server at \"x\""
    ' (192.0.2.1), port 5432 failed: FATAL: password authentication failed for user "x"'
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # macOS
        ("failed to resolve host 'h': [Errno 8] nodename nor servname provided, or not known", "the connection string"),
        ('connection to server at "x" (2001:db8::1), port 5432 failed: No route to host', "the database's host has"),
        ("failed to resolve host 'h': [Errno -3] Temporary failure in name resolution", "no name server answers"),
        ("failed to resolve host 'scram-certificate': [Errno -2] Name or service not known", "the connection string's"),
        ("FATAL: cannot execute CREATE TABLE in a read-only transaction", "the database is read-only: connect to the"),
        ("session is read-only", "the database is read-only: connect to the primary"),
        ("FATAL: server login has been failing, cached error: no route (server_login_retry)", POOLER_LOGIN),
        ("FATAL: pgbouncer cannot connect to server", POOLER_LOGIN),
        ("FATAL: sorry, too many clients already", NO_ROOM),
        ("FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute", NO_ROOM),
        ('FATAL: too many connections for database "x"', NO_ROOM),
        ('FATAL: permission denied for database "x"', "this user may not connect to that database: grant it connect"),
        ("could not create socket: Too many open files", "this process has no file descriptor left: raise its limit"),
        (
            BOTH_WAYS,
            LOGIN,
        ),
    ],
)
def test_other_words(said: str, expected: str) -> None:
    """What other systems and states say."""
    assert explain(psycopg.OperationalError(said)).startswith(expected)


def test_an_sqlstate_says_it_in_any_language() -> None:
    """A server whose messages are in another language is understood by its code, where there is one."""
    assert explain(psycopg.errors.TooManyConnections("zu viele Verbindungen")).startswith(NO_ROOM)


def test_the_sqlstate_stays() -> None:
    """Who asks for the code still gets it."""
    error = psycopg.errors.InvalidPassword("falsches Passwort")
    assert ("28P01", True) == (ConnectError.of(error, "").sqlstate, str(ConnectError.of(error, "")).startswith(LOGIN))
