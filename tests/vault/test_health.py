"""Whether the vault lives and is ready, as probes see it."""

import asyncio

import psycopg
import pytest
from aiohttp.test_utils import TestClient
from deliveries import Switch, deliver, sample
from programs import until
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from sql.migrate import SchemaTooOldError, latest, migrate
from sql.session import Session
from vault.circuit import Circuit
from vault.health import Health
from vault.keys import HEALTH


@pytest.fixture
def owner(blank_dsn: str) -> str:
    """The DSN of a migrated database's owner; it is no copy, so that it has roles."""
    migrate(blank_dsn)
    return blank_dsn


async def probe(vault: TestClient, path: str) -> tuple[int, bool]:
    """Return what a probe is answered."""
    async with vault.get(path) as response:
        return response.status, (await response.json())["ok"]


async def test_ready(vault: TestClient) -> None:
    """A vault with a database that has its schema lives and is soon ready."""
    assert (200, True) == await probe(vault, "/livez")
    await until(lambda: vault.app[HEALTH].ready, "readiness")
    assert (200, True) == await probe(vault, "/readyz")


async def test_database_away(vault: TestClient, switch: Switch) -> None:
    """Without its database the vault lives on and is not ready, until the database is back."""
    switch.off()
    await vault.app[HEALTH].look()
    assert (503, False) == await probe(vault, "/readyz")
    assert (200, True) == await probe(vault, "/livez")
    switch.on()
    await vault.app[HEALTH].look()
    assert (200, True) == await probe(vault, "/readyz")


async def test_looks_by_itself(vault: TestClient, switch: Switch) -> None:
    """Nobody has to ask: the change is seen in the background."""
    switch.off()
    await until(lambda: not vault.app[HEALTH].ready, "the loss to be seen")
    switch.on()
    await until(lambda: vault.app[HEALTH].ready, "the return to be seen")


async def test_database_hangs(vault: TestClient, database: psycopg.Connection) -> None:
    """While the database's answer to the health check is awaited, probes and deliveries do not wait for it."""
    await vault.app[HEALTH].look()
    with database.transaction():
        database.execute("lock table agent_vault.migrations in access exclusive mode")
        look = asyncio.create_task(vault.app[HEALTH].look())
        await until(
            lambda: database.execute("select from pg_locks where relation::regclass::text = 'agent_vault.migrations'"
                                     " and not granted").fetchone() is not None,
            "a health check that hangs",
        )  # fmt: skip
        for _ in range(20):
            assert (200, True) == await probe(vault, "/readyz")
        assert 200 == (await deliver(vault, sample()))[0]
        assert not look.done()
    await look


async def test_hangs_for_too_long(dsn: str, database: psycopg.Connection) -> None:
    """A database that does not answer within the deadline is one that is away."""
    session = Session(dsn, name="test", deadline_s=0.1)
    health = Health(session)
    await health.look()
    assert health.ready
    with database.transaction(), capture_logs() as logs:
        database.execute("lock table agent_vault.migrations in access exclusive mode")
        await health.look()
    assert (False, ["database_away"]) == (health.ready, [log["event"] for log in logs])
    await session.close()


@pytest.mark.parametrize("schema", ["none", "old"])
async def test_schema_too_old(session: Session, database: psycopg.Connection, schema: str) -> None:
    """A schema that this program cannot use is no readiness, and at start a reason to stop."""
    if schema == "none":
        database.execute("drop schema agent_vault cascade")
    else:
        database.execute("update agent_vault.migrations set version = -version")
    health = Health(session)
    with pytest.raises(SchemaTooOldError, match="run agent-vault migrate"):
        await health.look(refuse_old_schema=True)
    with capture_logs() as logs:
        await health.look()
        await health.look()
    assert (False, ["schema_too_old"]) == (health.ready, [log["event"] for log in logs])


async def test_schema_comes(session: Session, database: psycopg.Connection) -> None:
    """A newer schema is as good as the current one, is told in one line, and readiness comes with it."""
    database.execute("update agent_vault.migrations set version = -version")
    health = Health(session)
    with capture_logs() as logs:
        await health.look()
        database.execute("update agent_vault.migrations set version = %s where version = %s", [latest() + 1, -latest()])
        await health.look()
        await health.look()
    assert (True, ["schema_too_old", "schema_newer", "vault_ready"]) == (health.ready, [log["event"] for log in logs])


@pytest.mark.parametrize("kind", ["daemon", "operator", "nobody"])
async def test_a_login_of_another_kind(owner: str, kind: str) -> None:
    """Whose login may not record events is not ready, and is told what login may; it is ready once that may."""
    with psycopg.connect(owner, autocommit=True) as admin:
        name = f"av_{kind}_{admin.info.backend_pid}"
        database = admin.info.dbname
        role = f" in role vault_{kind}_{database}" if kind != "nobody" else ""
        admin.execute(f"create role {name} login password 'right'" + role)
        session = Session(make_conninfo(owner, user=name, password="right"), name="test")
        health = Health(session)
        try:
            with capture_logs() as logs:
                await health.look(refuse_old_schema=True)
                assert not health.ready
                assert not health.usable
                admin.execute(f"grant vault_server_{database} to {name}")
                await health.look()
            assert health.ready
            assert health.usable
        finally:
            await session.close()
            admin.execute(f"drop role {name}")
    told, back = logs
    assert ("login_not_allowed", "error", "vault_ready") == (told["event"], told["log_level"], back["event"])
    assert "take one that agent-vault grant server made" in told["error"]


async def test_what_is_wrong_is_told_once() -> None:
    """Where the schema or the login is what keeps deliveries from the database, that is told, and no outage."""
    fits = True
    circuit = Circuit(lambda: fits)
    with capture_logs() as logs:
        fits = False
        circuit.trip("permission denied for function record_batch")
        assert not circuit.closed
        assert [] == logs
        fits = True
        circuit.trip("the connection was cut")
    assert ["database_away"] == [log["event"] for log in logs]
