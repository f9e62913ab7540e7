"""The two functions that existing workers call, by name, over PostgREST."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from sql.migrate import migrate

CLAIM = "select id, lease_until - locked_at as lease, status, locked_by from claim_next_job(p_worker_id => %s)"
COMPLETE = "select complete_job(p_job_id => %s, p_status => 'done', p_last_error => 'late')"
LAPSE = "update jobs set lease_until = now() - interval '1 s'"


def insert(connection: psycopg.Connection) -> UUID:
    """Put one job in as an Edge Function does."""
    row = connection.execute(
        "insert into jobs (type, payload, status) values ('chat', '{\"text\": \"hello\"}', 'queued') returning id"
    ).fetchone()
    return UUID(str(row[0]))


def row(connection: psycopg.Connection, job_id: UUID) -> dict[str, Any]:
    """The whole job."""
    found = connection.cursor(row_factory=dict_row).execute("select * from jobs where id = %s", [job_id]).fetchone()
    assert found is not None
    return found


def old_claim(database: psycopg.Connection) -> UUID:
    """Put a job in and claim it as an old worker does."""
    job_id = insert(database)
    assert [job_id] == [claim[0] for claim in database.execute(CLAIM, ["old"]).fetchall()]
    return job_id


def test_service_role_claims_and_completes(project: str, api: Callable[[str, str], Any]) -> None:
    """With the service key, by parameter names: one job a call, fifteen minutes, done with or without an error."""
    migrate(project)
    with api(project, "service_role") as call:
        made = [insert(call), insert(call)]
    claims = []
    for _ in range(3):
        with api(project, "service_role") as call:
            claims.append(call.execute(CLAIM, ["mac"]).fetchall())
    assert [[(made[0], "processing", "mac")], [(made[1], "processing", "mac")], []] == [
        [(job_id, status, worker) for job_id, _, status, worker in claim] for claim in claims
    ]
    assert timedelta(minutes=14, seconds=59) < claims[0][0][1] <= timedelta(minutes=15)
    with api(project, "service_role") as call:
        call.execute("select complete_job(p_job_id => %s, p_status => 'done')", [made[0]])
        call.execute("select complete_job(p_job_id => %s, p_status => 'failed', p_last_error => '400')", [made[1]])
    with psycopg.connect(project) as connection:
        done, failed = (row(connection, job_id) for job_id in made)
    assert ("done", None, None) == (done["status"], done["last_error"], done["lease_until"])
    assert done["delivered_at"] <= done["finished_at"]
    assert ("failed", "400", None) == (failed["status"], failed["last_error"], failed["delivered_at"])
    assert failed["finished_at"] is not None


def test_a_claim_returns_the_whole_row(database: psycopg.Connection) -> None:
    """PostgREST answers the columns that old workers read, under their names."""
    job_id = insert(database)
    cursor = database.cursor(row_factory=dict_row)
    claimed = cursor.execute("select * from claim_next_job(p_worker_id => 'mac')").fetchone()
    assert row(database, job_id) == claimed
    assert ("chat", {"text": "hello"}, 1) == (claimed["type"], claimed["payload"], claimed["attempts"])


def test_a_late_completion_counts_while_nobody_else_claimed(database: psycopg.Connection) -> None:
    """An old worker that was slow and whose lease lapsed ends its job all the same."""
    job_id = old_claim(database)
    database.execute(LAPSE)
    database.execute("select agent_vault.return_lapsed('default')")
    assert "queued" == row(database, job_id)["status"]
    database.execute(COMPLETE, [job_id])
    assert "done" == row(database, job_id)["status"]


def test_given_back_is_queued_again(database: psycopg.Connection) -> None:
    """An old worker that says queued gives its job back, and then has it no more."""
    job_id = old_claim(database)
    database.execute("select complete_job(p_job_id => %s, p_status => 'queued')", [job_id])
    assert ("queued", None) == (row(database, job_id)["status"], row(database, job_id)["locked_by"])
    unchanged(database, job_id)


def unchanged(database: psycopg.Connection, job_id: UUID) -> None:
    """Show that an old completion now does nothing."""
    before = row(database, job_id)
    database.execute(COMPLETE, [job_id])
    assert before == row(database, job_id)


def requeued_by_function(database: psycopg.Connection) -> UUID:
    """Fail an old worker's job, then requeue it as `agent-vault` does."""
    job_id = old_claim(database)
    database.execute("select complete_job(%s, 'failed')", [job_id])
    database.execute("select agent_vault.requeue_job(%s)", [job_id])
    return job_id


def requeued_by_hand(database: psycopg.Connection) -> UUID:
    """Fail an old worker's job, then requeue it as a person does in a table editor."""
    job_id = old_claim(database)
    database.execute("select complete_job(%s, 'failed')", [job_id])
    database.execute("update jobs set status = 'queued' where id = %s", [job_id])
    return job_id


def claimed_by_the_daemon(database: psycopg.Connection) -> UUID:
    """Let the daemon claim a job."""
    job_id = insert(database)
    database.execute("select agent_vault.claim_jobs('default', 'new', 1, 60)")
    return job_id


def lapsed_and_claimed_by_the_daemon(database: psycopg.Connection) -> UUID:
    """Let the daemon claim what an old worker let lapse."""
    job_id = old_claim(database)
    database.execute(LAPSE)
    database.execute("select agent_vault.claim_jobs('default', 'new', 1, 60)")
    return job_id


def lapsed_in_the_daemon(database: psycopg.Connection) -> UUID:
    """Let a claim of the daemon's lapse."""
    job_id = claimed_by_the_daemon(database)
    database.execute(LAPSE)
    database.execute("select agent_vault.return_lapsed('default')")
    return job_id


def finished(database: psycopg.Connection) -> UUID:
    """Let an old worker end its job, as failed."""
    job_id = old_claim(database)
    database.execute("select complete_job(p_job_id => %s, p_status => 'failed')", [job_id])
    return job_id


@pytest.mark.parametrize(
    "prepare",
    [
        insert,
        claimed_by_the_daemon,
        lapsed_in_the_daemon,
        lapsed_and_claimed_by_the_daemon,
        finished,
        requeued_by_function,
        requeued_by_hand,
    ],
)
def test_a_completion_that_is_not_its_own_changes_nothing(
    database: psycopg.Connection, prepare: Callable[[psycopg.Connection], UUID]
) -> None:
    """The old call shows no claim number, so it counts only while its own claim is the latest and not over."""
    unchanged(database, prepare(database))


def test_requeued_by_hand_is_as_fresh_as_by_function(database: psycopg.Connection) -> None:
    """A plain update from a finished status gives all attempts back and leaves no trace of the old end."""
    by_hand = requeued_by_hand(database)
    database.execute("update jobs set run_at = now() + interval '1 h'")  # out of the way of the other
    by_function = requeued_by_function(database)
    own = {"id", "run_at", "locked_at", "created_at", "updated_at"}
    rows = [{k: v for k, v in row(database, one).items() if k not in own} for one in (by_function, by_hand)]
    assert rows[0] == rows[1]


def test_an_unknown_status_is_refused(database: psycopg.Connection) -> None:
    """A status that would strand the job is an error, and the job stays as it was."""
    job_id = old_claim(database)
    for status in ("processing", "DONE", None):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="say done, failed or queued"):
            database.execute("select complete_job(p_job_id => %s, p_status => %s)", [job_id, status])
    assert "processing" == row(database, job_id)["status"]


def test_an_unknown_job_is_no_error(database: psycopg.Connection) -> None:
    """A completion of a job that was pruned is answered as it always was."""
    database.execute(COMPLETE, [uuid4()])
    assert (0,) == database.execute("select count(*) from jobs").fetchone()
