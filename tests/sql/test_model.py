"""The queue beside a model of it: random calls of several workers, one at a time, with a clock that the test moves.

After every call the model says what must have become of each job, and what no sequence of calls may bring about is
looked for by itself: two claims that can settle one job, a job that no living worker ever gets, and so on.

TEST_MODEL_EXAMPLES is the number of random sequences, 60 unless it is set; a failing one is printed as a program.
"""

import contextlib
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest
from clocked import NAME_TAKEN, Calls, ClockedDatabase
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from names_model import SILENCE_S, Names
from queue_model import LEASE_LOST, MOVES, OLD_LEASE_S, Queue, Row

from sql import jobs, names, old_workers

ALL_QUEUES = ["default", "mail"]
REFUSALS = {LEASE_LOST, NAME_TAKEN}
CALLS = ("complete", "fail", "retry", "release")
QUEUES = st.sampled_from(["default", "default", "mail"])
LEASES_S = st.sampled_from([5, 60])
DELAYS_S = st.sampled_from([0, 0, -1, 30])
OLD_WORKERS = st.sampled_from(["mac", "old"])


@dataclass(frozen=True, slots=True)
class Worker:
    """A run of a daemon; one that listens has a session of its own."""

    identity: names.Identity
    listens: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A claim, and who made it; it is kept after it is over, as a worker that hangs would."""

    worker: str
    job: jobs.Job

    @property
    def key(self) -> tuple[UUID, int]:
        """The job and the number of the claim."""
        return self.job.id, self.job.claims


class Workers(RuleBasedStateMachine):
    """Everything that can happen to jobs, in any order."""

    made = Bundle("made")
    workers = Bundle("workers")
    claims = Bundle("claims")

    def __init__(self, database: ClockedDatabase) -> None:
        """Begin with no job and no worker."""
        super().__init__()
        self.database = database
        database.clear()
        self.calls = Calls(database.connection)
        self.model = Queue(database.now())
        self.names = Names()
        self.sessions: dict[str, Calls] = {}
        self.before: dict[UUID, Row] = {}
        self.handed_out: dict[tuple[UUID, int], str] = {}
        self.uncounted: dict[UUID, int] = {}
        self.runs = 0

    def teardown(self) -> None:
        """End every session, and with it its locks."""
        for session in self.sessions.values():
            self.database.end(session.connection)

    # what happens to jobs

    @initialize(target=made)
    def begin(self) -> MultipleResults[UUID]:
        """Two jobs, for a start."""
        return multiple(self.insert_one("default", 1), self.insert_one("default", 3))

    @initialize(target=workers)
    def begin_worker(self) -> Worker:
        """A worker, for a start."""
        return self.start_one("mac", listens=True)

    @rule(target=made, queue=QUEUES, max_attempts=st.integers(1, 3))
    @precondition(lambda self: len(self.model.jobs) < 6)
    def insert(self, queue: str, max_attempts: int) -> UUID:
        """Somebody puts a job in."""
        return self.insert_one(queue, max_attempts)

    def insert_one(self, queue: str, max_attempts: int) -> UUID:
        """Put a job in, due at once."""
        job_id = self.database.insert(queue, max_attempts)
        self.model.jobs[job_id] = self.database.rows()[job_id]
        self.uncounted[job_id] = 0
        return job_id

    @rule(number=st.sampled_from([1, 6, 16, 31, 61, 901, 5000]))
    def pass_time(self, number: float) -> None:
        """Nobody does anything for a while."""
        self.database.pass_time(number)

    @rule(target=claims, worker=workers, queue=QUEUES, limit=st.integers(1, 4), lease_s=LEASES_S, busy=st.booleans())
    def claim(self, worker: Worker, queue: str, limit: int, lease_s: float, *, busy: bool) -> MultipleResults[Held]:
        """A worker claims; a suspect comes alone, and to none that is busy."""
        name = worker.identity.worker
        got = self.make(
            jobs.claim_jobs(self.calls, queue, name, limit, lease_s, busy=busy),
            lambda: self.model.claim(queue, name, limit, lease_s, busy=busy),
            shown=lambda claimed: [job.id for job in claimed],
        )
        for job in got:
            row = self.model.jobs[job.id]
            assert (row.claims, row.attempts, row.lapses) == (job.claims, job.attempts, job.lapses)
            assert not job.alone or ([job] == got and not busy)
            self.hand_out(job.id, job.claims, name)
        return multiple(*(Held(name, job) for job in got))

    def hand_out(self, job_id: UUID, claims: int, worker: str) -> None:
        """Remember a claim; none has a number that another one had."""
        assert (job_id, claims) not in self.handed_out
        self.handed_out[job_id, claims] = worker

    @rule(held=st.lists(claims, min_size=1, max_size=3), lease_s=LEASES_S)
    def extend(self, held: list[Held], lease_s: float) -> None:
        """A worker extends claims, which may be over or another's."""
        worker = held[0].worker
        kept = self.make(
            jobs.extend_jobs(self.calls, worker, [one.job for one in held], lease_s),
            lambda: self.model.extend(worker, [one.key for one in held], lease_s),
        )
        shown = {one.key for one in held}
        for job_id in kept:
            assert (job_id, self.before[job_id].claims) in shown
            assert worker == self.before[job_id].locked_by

    @rule(held=claims)
    def complete(self, held: Held) -> None:
        """A worker says that a job is done."""
        outcome = {"status": 200}
        self.settle(
            held,
            jobs.complete_job(self.calls, held.job, outcome, 0),
            lambda: self.model.complete(*held.key, outcome),
        )

    @rule(held=claims)
    def fail(self, held: Held) -> None:
        """A worker says that a job cannot be done."""
        outcome = {"status": 400}
        self.settle(
            held, jobs.fail_job(self.calls, held.job, "400", outcome), lambda: self.model.fail(*held.key, outcome)
        )

    @rule(held=claims, delay_s=DELAYS_S)
    def retry(self, held: Held, delay_s: float) -> None:
        """A worker wants a job to be tried again."""
        outcome = {"status": 500}
        self.settle(
            held,
            jobs.retry_job(self.calls, held.job, delay_s, "500", outcome),
            lambda: self.model.retry(*held.key, delay_s, outcome),
        )

    @rule(held=claims, delay_s=DELAYS_S)
    def release(self, held: Held, delay_s: float) -> None:
        """A worker gives a job back."""
        self.settle(
            held,
            jobs.release_job(self.calls, held.job, delay_s, "away"),
            lambda: self.model.release(*held.key, delay_s),
        )

    def settle(self, held: Held, call: Coroutine[Any, Any, Any], predict: Callable[[], Any]) -> None:
        """End a claim; only the newest of a job is ever accepted."""
        if LEASE_LOST != self.make(call, predict):
            job_id, claims = held.key
            assert claims == max(number for one, number in self.handed_out if one == job_id)

    @rule(worker=workers, known=st.lists(claims, max_size=2))
    def release_unheld(self, worker: Worker, known: list[Held]) -> None:
        """A worker gives back what it never heard of."""
        name, ids = worker.identity.worker, [one.job.id for one in known]
        self.make(jobs.release_unheld(self.calls, name, ids), lambda: self.model.release_unheld(name, ids), shown=set)

    @rule(job_id=made)
    def requeue(self, job_id: UUID) -> None:
        """A person gives a job a second chance."""
        self.make(jobs.requeue_job(self.calls, job_id), lambda: self.model.requeue(job_id))

    @rule(job_id=made)
    def queue_by_hand(self, job_id: UUID) -> None:
        """A person writes queued into the row."""
        self.uncounted[job_id] += self.before[job_id].status == "processing"
        self.make(
            self.calls.fetch("update public.jobs set status = 'queued' where id = %s", [job_id]),
            lambda: self.model.queue_by_hand(job_id),
            shown=lambda _: None,
        )

    # workers that show no number

    @rule(worker=OLD_WORKERS)
    def old_claim(self, worker: str) -> None:
        """An old worker claims."""
        got = self.make(
            old_workers.claim_next_job(self.calls, worker),
            lambda: self.model.claim("default", worker, 1, OLD_LEASE_S, fenced=False),
            shown=lambda claimed: [claimed["id"]] if claimed else [],
        )
        if got:
            self.hand_out(got["id"], self.model.jobs[got["id"]].claims, worker)

    @rule(job_id=made, status=st.sampled_from(["done", "failed", "queued"]))
    def old_complete(self, job_id: UUID, status: str) -> None:
        """An old worker ends a job, or gives it back, its attempt counted and no budget looked at."""
        self.uncounted[job_id] += status == "queued"
        self.make(
            old_workers.complete_job(self.calls, job_id, status, None),
            lambda: self.model.old_complete(job_id, status),
        )

    # daemons and their names

    @rule(target=workers, daemon=st.sampled_from(["mac", "mini"]), listens=st.booleans())
    @precondition(lambda self: self.runs < 6)
    def start(self, daemon: str, *, listens: bool) -> Worker:
        """A run of a daemon starts and wants the name, also while an earlier one lives."""
        return self.start_one(daemon, listens=listens)

    def start_one(self, daemon: str, *, listens: bool) -> Worker:
        """Start a run."""
        self.runs += 1
        worker = Worker(names.Identity(daemon, str(self.runs), SILENCE_S), listens)
        if listens:
            self.sessions[worker.identity.worker] = Calls(self.database.session())
        self.take(worker)
        return worker

    @rule(worker=workers)
    def take_name(self, worker: Worker) -> None:
        """A run that is up wants the name again, as after a lost connection."""
        self.take(worker)

    def take(self, worker: Worker) -> None:
        """Take the name: the leases of other runs end with it."""
        daemon, name = worker.identity.daemon, worker.identity.worker
        # the silence is measured while the call runs: too close to its end nobody can say what comes out
        if 0 <= self.names.silence_left_s(daemon, self.database.now()) < 5:
            self.database.pass_time(5)
        self.make(
            names.take_name(self.calls_of(worker), worker.identity, ALL_QUEUES, listens=worker.listens),
            lambda: (
                self.model.end_leases(daemon, name)
                if self.names.take(daemon, name, self.model.now, listens=worker.listens)
                else NAME_TAKEN
            ),
            over=self.calls_of(worker),
        )

    def calls_of(self, worker: Worker) -> Calls:
        """The session of a run, or that which all others share, as through a pooler."""
        return self.sessions.get(worker.identity.worker, self.calls)

    @rule(worker=workers)
    def keep_name(self, worker: Worker) -> None:
        """A run gives its pulse, and hears what waits."""
        daemon, name = worker.identity.daemon, worker.identity.worker
        got = self.make(
            names.keep_name(self.calls_of(worker), worker.identity, ALL_QUEUES),
            lambda: None if self.names.keep(daemon, name, self.model.now) else NAME_TAKEN,
            shown=lambda _: None,
            over=self.calls_of(worker),
        )
        if got != NAME_TAKEN:
            due = self.model.next_due(ALL_QUEUES)
            assert (due is None) == (got.next_due_ms is None)
            assert got.work_waits or due is None or due > self.model.now
            assert not got.work_waits or due <= self.database.shown(got.database_time)

    @rule(worker=workers)
    def leave_name(self, worker: Worker) -> None:
        """A run gives its name back."""
        daemon, name = worker.identity.daemon, worker.identity.worker
        self.make(names.leave_name(self.calls, worker.identity), lambda: self.names.leave(daemon, name))

    @rule(worker=consumes(workers))
    def die(self, worker: Worker) -> None:
        """A run is killed; a call that it sent may still arrive."""
        name = worker.identity.worker
        if name in self.sessions:
            self.database.end(self.sessions.pop(name).connection)
            self.names.end(worker.identity.daemon, name)

    # what must hold

    def make(
        self,
        call: Coroutine[Any, Any, Any],
        predict: Callable[[], Any],
        *,
        shown: Callable[[Any], Any] = lambda answer: answer,
        over: Calls | None = None,
    ) -> Any:
        """Make a call, show that it answers what the model says, and return the answer."""
        connection = (over or self.calls).connection
        self.model.now = self.database.begin(connection)
        got = self.database.finish(connection, call)
        was_refused = isinstance(got, str) and got in REFUSALS
        assert predict() == (got if was_refused else shown(got))
        return got

    @invariant()
    def all_is_well(self) -> None:
        """The rows and names are those of the model, and the laws of the queue hold."""
        self.rows_are_as_the_model_says()
        self.names_are_as_the_model_says()
        self.one_claim_settles_a_job()
        self.no_job_is_stuck()

    def rows_are_as_the_model_says(self) -> None:
        """Every column that moves a job is what the model makes of it, to the microsecond."""
        rows = self.database.rows()
        assert self.model.jobs == rows
        for job_id, before in self.before.items():
            self.obeys(before, rows[job_id], self.uncounted[job_id])
        self.before = rows

    def obeys(self, before: Row, after: Row, uncounted: int) -> None:
        """Show that the last call did to a job nothing that no call may do."""
        assert before.claims <= after.claims <= before.claims + 1
        assert after.attempts <= after.max_attempts + uncounted
        assert after.lapses >= 0
        assert (after.status == "processing") == (after.lease_until is not None)
        if after.status == "queued" and before.status != "queued":
            assert after.run_at >= self.model.now

    def names_are_as_the_model_says(self) -> None:
        """Each name belongs to the run that the model says."""
        holders = self.database.holders()
        assert {name: (one.worker, one.locked) for name, one in self.names.holders.items()} == {
            name: (one.worker, one.locked) for name, one in holders.items()
        }
        for name, holder in holders.items():
            assert self.names.holders[name].seen_at <= holder.seen_at
        self.names.holders = holders  # a pulse is dated by the running clock

    def one_claim_settles_a_job(self) -> None:
        """Of all claims that were ever made of a job the newest alone can end it, and only while its lease holds."""
        self.model.now = self.database.begin(self.database.connection)
        can = self.database.can_settle(list(self.handed_out))
        self.database.connection.execute("rollback")
        newest = dict(sorted(self.handed_out))
        assert {(job_id, claims) for job_id, claims, call in can if call != "complete"} <= set(newest.items())
        assert can == {
            (*claim, call)
            for claim in self.handed_out
            for call in CALLS
            if self.model.settles(*claim) or (call == "complete" and self.model.said_before(*claim))
        }

    def no_job_is_stuck(self) -> None:
        """Whatever happened so far, time and one worker that lives bring every job to its end."""
        assert 0 == self.database.count_stuck()


@pytest.fixture
def clocked(dsn: str) -> Iterator[ClockedDatabase]:
    """A database whose time the test moves."""
    with contextlib.closing(ClockedDatabase(dsn)) as one:
        yield one


def test_the_queue_does_what_its_model_does(clocked: ClockedDatabase) -> None:
    """No sequence of calls makes the queue differ from its model, or break one of its laws."""
    run_state_machine_as_test(
        lambda: Workers(clocked),
        settings=settings(
            max_examples=int(os.environ.get("TEST_MODEL_EXAMPLES", "60")),
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_function_that_moves_a_job_is_in_the_model(database: psycopg.Connection) -> None:
    """A new way to move a job gets its method in the model and its rule here."""
    query = (
        "select n.nspname || '.' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
        " where p.prosrc ~* 'update public.jobs' and n.nspname in ('public', 'agent_vault')"
    )
    assert MOVES == {name for (name,) in database.execute(query)}
