"""The crash matrix: each part killed at each stage of a delivery's way, under a steady load, and nothing lost.

A stage is reached by what is seen from outside: bytes at a proxy, a gateway that holds its answer, the state of rows.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from faults.postgres import CrashablePostgres, crashable
from installation import Installation, installation
from programs import until
from psycopg import sql
from psycopg.conninfo import make_conninfo

from sql.migrate import migrate

pytestmark = pytest.mark.faults

Stage = Callable[[Installation], Awaitable[None]]


async def before_the_commit(whole: Installation) -> None:
    """The vault's batch has left it and not reached Postgres."""
    await whole.vault_wire.stall("server", at=b"record_batch").comes()


async def after_the_commit(whole: Installation) -> None:
    """The batch is committed, and the vault has not heard of it."""
    before = learnings(whole)
    await whole.vault_wire.stall("server", at=b"record_batch", answers=True).comes()
    await until(lambda: learnings(whole) > before, "the rows of the stalled batch")


async def after_the_claim(whole: Installation) -> None:
    """A job is leased, and the daemon has not heard of it."""
    await whole.daemon_wire.stall("server", at=b"claim_jobs", answers=True).comes()
    await until(lambda: count(whole, "status = 'processing'"), "a job under way")


async def during_the_post(whole: Installation) -> None:
    """The gateway has the event and holds its answer."""
    whole.fake.held.clear()
    posts = len(whole.fake.posts)
    await until(lambda: len(whole.fake.posts) > posts, "a held wake")


async def after_the_post(whole: Installation) -> None:
    """The gateway has answered, and the completion has left the daemon and not reached Postgres."""
    await whole.daemon_wire.stall("server", at=b"complete_job").comes()


async def after_the_completion(whole: Installation) -> None:
    """The job is done, and the daemon has not heard of it."""
    await whole.daemon_wire.stall("server", at=b"complete_job", answers=True).comes()


async def during_the_renewal(whole: Installation) -> None:
    """The gateway takes longer than a third of a lease, and the renewal has not reached Postgres."""
    whole.fake.held.clear()
    await whole.daemon_wire.stall("server", at=b"extend_jobs").comes()


async def during_the_outage(whole: Installation) -> None:
    """Postgres is away, and deliveries are answered from the spool."""
    await fill_the_spool(whole)


async def during_the_drain(whole: Installation) -> None:
    """Postgres was away, what came meanwhile is in the spool, and its first batch has not reached Postgres."""
    await fill_the_spool(whole)
    stall = whole.vault_wire.stall("server", at=b"record_batch")
    whole.vault_wire.heal()
    await stall.comes()


async def after_the_drain(whole: Installation) -> None:
    """The spool's first batch is committed, and the vault has not heard of it."""
    await fill_the_spool(whole)
    before = learnings(whole)
    stall = whole.vault_wire.stall("server", at=b"record_batch", answers=True)
    whole.vault_wire.heal()
    await stall.comes()
    await until(lambda: learnings(whole) > before, "the rows of the stalled batch")


async def fill_the_spool(whole: Installation) -> None:
    """Take Postgres away from the vault until some deliveries were answered without it."""
    whole.vault_wire.refuse()
    await until(lambda: whole.load.spooled >= 5, "five spooled deliveries")


def learnings(whole: Installation) -> int:
    """How many learnings are committed."""
    with psycopg.connect(whole.dsn) as connection:
        return int(connection.execute("select count(*) from public.agent_learnings").fetchone()[0])


def count(whole: Installation, condition: str) -> int:
    """How many jobs are in a state."""
    with psycopg.connect(whole.dsn) as connection:
        return int(connection.execute(f"select count(*) from public.jobs where {condition}").fetchone()[0])


VAULT: tuple[Stage, ...] = (before_the_commit, after_the_commit, during_the_drain, after_the_drain, during_the_outage)
DAEMON: tuple[Stage, ...] = (
    after_the_claim,
    during_the_post,
    after_the_post,
    after_the_completion,
    during_the_renewal,
)
# the drain's stages are those at which the batch of a spool waits for Postgres; the vault's own are the same call
POSTGRES: tuple[Stage, ...] = (*VAULT[:3], *DAEMON)


@dataclass(frozen=True, slots=True)
class Bed:
    """A server of these tests' own with one database, migrated."""

    server: CrashablePostgres
    dsn: str


@pytest.fixture(scope="module")
def server() -> Iterator[CrashablePostgres]:
    """A server that is crashed and started again."""
    with crashable() as one:
        yield one


@pytest.fixture
async def whole(server: CrashablePostgres, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation over a database of its own, under load."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("drop database if exists crashed with (force)"))
        admin.execute(sql.SQL("create database crashed"))
    dsn = make_conninfo(server.dsn, dbname="crashed")
    migrate(dsn)
    async with installation(dsn, tmp_path) as one:
        yield one


def heal(whole: Installation) -> None:
    """Let everything that was held go on."""
    for wire in (whole.vault_wire, whole.daemon_wire):
        wire.release()
        wire.heal()
    whole.fake.held.set()


async def settle_accounts(whole: Installation) -> None:
    """Nothing is lost, every repetition is explained by a second claim, and there are no more than were in flight."""
    account = await whole.account()
    assert account.accepted == account.rows == account.told
    assert () == account.unexplained


@pytest.mark.parametrize("stage", VAULT, ids=lambda stage: stage.__name__)
async def test_the_vault_is_killed(whole: Installation, stage: Stage) -> None:
    """Whatever it had answered with 2xx arrives; what it had not is sent again by Composio, and stored once."""
    await stage(whole)
    await whole.kill("vault")
    heal(whole)
    await whole.start("vault")
    await settle_accounts(whole)


@pytest.mark.parametrize("stage", DAEMON, ids=lambda stage: stage.__name__)
async def test_the_daemon_is_killed(whole: Installation, stage: Stage) -> None:
    """The next run takes up its jobs; only what the gateway had and the database did not hear of comes twice."""
    await stage(whole)
    await whole.kill("daemon")
    heal(whole)
    await whole.start("daemon")
    await settle_accounts(whole)


@pytest.mark.parametrize("crash", ["immediate", "kill"])
@pytest.mark.parametrize("stage", POSTGRES, ids=lambda stage: stage.__name__)
async def test_postgres_is_killed(whole: Installation, server: CrashablePostgres, stage: Stage, crash: str) -> None:
    """Both programs live on, the vault answers from its spool, and all goes on where it was."""
    await stage(whole)
    getattr(server, crash)()
    heal(whole)
    await until(lambda: whole.load.spooled, "an answer without Postgres")
    server.start()
    await settle_accounts(whole)
