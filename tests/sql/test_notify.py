"""What wakes a listener and what does not, whoever makes the change."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from ear import Ear

from sql.migrate import migrate

DEFAULT = ("agent_vault_default", "")
MAIL = ("agent_vault_mail", "")


def insert(database: psycopg.Connection, **columns: object) -> UUID:
    """Put one job in and return its id."""
    columns = {"type": "chat", **columns}
    places = ", ".join(["%s"] * len(columns))
    row = database.execute(
        f"insert into jobs ({', '.join(columns)}) values ({places}) returning id", list(columns.values())
    ).fetchone()
    return UUID(str(row[0]))


def claimed(database: psycopg.Connection, **columns: object) -> UUID:
    """Put one job in and claim it."""
    job_id = insert(database, **columns)
    rows = database.execute("select id from agent_vault.claim_jobs('default', 'one', 1, 60)").fetchall()
    assert [(job_id,)] == rows
    return job_id


def finished(database: psycopg.Connection) -> UUID:
    """Put one job in and fail it."""
    job_id = claimed(database)
    database.execute("select agent_vault.fail_job(%s, 1, 'no', null)", [job_id])
    return job_id


def lapsed(database: psycopg.Connection) -> UUID:
    """Put one job in whose lease is over."""
    job_id = claimed(database)
    database.execute("update jobs set lease_until = now() - interval '1 s'")
    return job_id


def later(database: psycopg.Connection) -> UUID:
    """Put one job in that is due in an hour."""
    job_id = insert(database)
    database.execute("update jobs set run_at = now() + interval '1 h'")
    return job_id


def old_claimed(database: psycopg.Connection) -> UUID:
    """Put one job in and claim it as an old worker does."""
    job_id = insert(database)
    database.execute("select claim_next_job('old')")
    return job_id


def test_an_insert_notifies_once_per_queue(ear: Ear, database: psycopg.Connection) -> None:
    """One statement with many jobs of two queues is two notifications, and they carry nothing."""
    database.execute(
        "insert into jobs (type, queue) select 'chat', case when n %% 3 = 0 then 'mail' else 'default' end"
        " from generate_series(1, %s) n",
        [30],
    )
    assert [DEFAULT, MAIL] == sorted(ear.heard())


WAKES: dict[str, tuple[Callable[[psycopg.Connection], UUID], str]] = {
    "insert_for_later": (insert, "insert into jobs (type, run_at) values ('x', now() + interval '1 h') returning %s"),
    "release": (claimed, "select agent_vault.release_job(%s, 1, 0, 'the gateway is away')"),
    "release_for_later": (claimed, "select agent_vault.release_job(%s, 1, 3600, 'the gateway is away')"),
    "retry": (claimed, "select agent_vault.retry_job(%s, 1, 30, '503', null)"),
    "requeue": (finished, "select agent_vault.requeue_job(%s)"),
    "requeue_by_hand": (finished, "update jobs set status = 'queued' where id = %s"),
    "given_back_by_hand": (claimed, "update jobs set status = 'queued' where id = %s"),
    "given_back_by_an_old_worker": (old_claimed, "select complete_job(%s, 'queued')"),
    "lapse": (lapsed, "select %s, agent_vault.return_lapsed('default')"),
    "lapse_by_the_claim_of_another": (lapsed, "select %s, agent_vault.claim_jobs('default', 'two', 1, 60)"),
    "sooner": (later, "update jobs set run_at = now() where id = %s"),
    "into_the_queue": (lambda d: insert(d, queue="other"), "update jobs set queue = 'default' where id = %s"),
}

SILENT: dict[str, tuple[Callable[[psycopg.Connection], UUID], str]] = {
    "insert_of_a_done_job": (insert, "insert into jobs (type, status) values ('x', 'done') returning %s"),
    "claim": (insert, "select %s, agent_vault.claim_jobs('default', 'one', 1, 60)"),
    "old_claim": (insert, "select %s, claim_next_job(p_worker_id => 'old')"),
    "extend": (claimed, "select agent_vault.extend_jobs('one', array[%s]::uuid[], '{1}', 60)"),
    "complete": (claimed, "select agent_vault.complete_job(%s, 1, null, 0)"),
    "old_complete": (old_claimed, "select complete_job(p_job_id => %s, p_status => 'done')"),
    "fail": (claimed, "select agent_vault.fail_job(%s, 1, '400', null)"),
    "retry_of_the_last_attempt": (
        lambda d: claimed(d, max_attempts=1),
        "select agent_vault.retry_job(%s, 1, 30, '503', null)",
    ),
    "requeue_of_a_queued_job": (insert, "select agent_vault.requeue_job(%s)"),
    "postponed": (insert, "update jobs set run_at = now() + interval '1 h' where id = %s"),
    "another_column": (insert, "update jobs set last_error = 'seen', updated_at = now() where id = %s"),
    "into_the_queue_once_finished": (finished, "update jobs set queue = 'other' where id = %s"),
    "delete": (insert, "delete from jobs where id = %s"),
    "a_learning": (insert, "insert into agent_learnings (learning) values ('tea') returning %s"),
}


@pytest.mark.parametrize("change", WAKES)
def test_a_job_that_becomes_due_wakes(ear: Ear, database: psycopg.Connection, change: str) -> None:
    """Every insert and every move to queued, or to sooner, notifies once."""
    prepare, statement = WAKES[change]
    job_id = prepare(database)
    ear.heard()
    database.execute(statement, [job_id])
    assert [DEFAULT] == ear.heard()


@pytest.mark.parametrize("change", SILENT)
def test_nothing_else_wakes(ear: Ear, database: psycopg.Connection, change: str) -> None:
    """What makes no job due sooner costs no listener a wake-up."""
    prepare, statement = SILENT[change]
    job_id = prepare(database)
    ear.heard()
    assert 1 == database.execute(statement, [job_id]).rowcount
    assert [] == ear.heard()


def test_what_is_rolled_back_wakes_nobody(ear: Ear, database: psycopg.Connection) -> None:
    """A notification is part of the commit."""
    with database.transaction(force_rollback=True):
        insert(database)
    assert [] == ear.heard()
    with database.transaction():
        insert(database)
        assert [] == ear.heard()
    assert [DEFAULT] == ear.heard()


def test_existing_installs_wake_a_listener(
    project: str, listen: Callable[[str], Ear], api: Callable[[str, str], Any]
) -> None:
    """A plain insert of a learning and a job as service_role, as deployed Edge Functions do it, wakes the daemon."""
    migrate(project)
    ear = listen(project)
    with api(project, "service_role") as call:
        call.execute(
            "insert into agent_learnings (learning, category, source, tags, confidence, metadata)"
            " values ('Composio trigger', 'composio_trigger', 'composio_webhook', '{ca_1}', 1.0, '{}')"
        )
    assert [] == ear.heard()
    with api(project, "service_role") as call:
        call.execute("insert into jobs (type, payload, status) values ('chat', '{\"text\": \"hello\"}', 'queued')")
        assert [] == ear.heard()
    assert [DEFAULT] == ear.heard()
    with psycopg.connect(project) as connection:
        claimed = connection.execute("select queue, wake_text from agent_vault.claim_jobs('default', 'one', 9, 60)")
        assert [("default", "hello")] == claimed.fetchall()
