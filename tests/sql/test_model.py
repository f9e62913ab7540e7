"""The queue beside a model of it: random calls of several workers, one at a time, with a clock that the test moves.

After every call the model says what must have become of each job, and what no sequence of calls may bring about is
looked for by itself: two claims that can settle one job, a job that no living worker ever gets, and so on.

TEST_MODEL_EXAMPLES is the number of random sequences, 60 unless it is set; a failing one is printed as a program.
A new call gets a method in the model, one here, and its weight in `ACTS`.
"""

import contextlib
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

import psycopg
import pytest
import queue_calls
from clocked import NAME_TAKEN, Calls, Claim, ClockedDatabase
from handling_model import HandlingQueue
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from names_model import SILENCE_S, Names
from queue_model import LEASE_LOST, MOVES, OLD_LEASE_S, Row

from sql import dead_letters, jobs, names, old_workers, settling
from sql.names import Identity

# how often each happens; in one rule, since hypothesis leaves whole rules out of half of all sequences
ACTS = {
    "insert": 1,
    "pass_time": 3,
    "claim": 4,
    "settle_current": 4,
    "settle_any": 1,
    "settle_many": 2,
    "await_handling": 3,
    "handle": 3,
    "resend": 1,
    "revoke": 1,
    "extend": 2,
    "release_unheld": 1,
    "step_in": 1,
    "claim_as_of_old": 1,
    "settle_as_of_old": 2,
    "start": 1,
    "use_name": 3,
}
REFUSALS = {LEASE_LOST, NAME_TAKEN}
SETTLEMENTS = ("complete", "fail", "retry", "release")
QUEUES = ["default", "mail"]
FIRST_JOBS = [("default", 1, 1), ("default", 2, None), ("default", 3, 1), ("mail", 2, 2)]
LEARNINGS = [UUID(int=100 + number) for number in range(3)]
MAX_JOBS = 8
MAX_RUNS = 6
PASSING_S = [1, 4, 16, 31, 61, 901, 5000]
LEASES_S = [5, 60]
DELAYS_S = [0, 0, -1, 30]
BEGAN_NOW_S = -1.0  # a gateway so young that it has none of the wakes

T = TypeVar("T")


class Draw(Protocol):
    """Chance, as hypothesis has it: one of some options, printed under a label."""

    def __call__(self, label: str, options: Sequence[T]) -> T:
        """Choose one."""


@dataclass(frozen=True, slots=True)
class Held:
    """A claim, and who made it; it is kept after it is over, as a worker that hangs would.

    Its time is as the test counts it.
    """

    worker: str
    job: jobs.Job

    @property
    def key(self) -> Claim:
        """The job, and the number and time of the claim."""
        return self.job.id, self.job.claims, self.job.claimed_at

    def __repr__(self) -> str:
        """Be short in a printed sequence."""
        return f"<claim {self.job.claims} of job {self.job.id.int} by {self.worker}>"


class Workers(RuleBasedStateMachine):
    """Everything that can happen to jobs, in any order."""

    def __init__(self, database: ClockedDatabase) -> None:
        """Begin with no job and no worker."""
        super().__init__()
        self.database = database
        database.clear()
        self.calls = Calls(database.connection)
        self.model = HandlingQueue(database.now())
        self.names = Names()
        self.workers: list[Identity] = []
        self.sessions: dict[str, Calls] = {}
        self.before: dict[UUID, Row] = {}
        self.held: list[Held] = []
        self.handed_out: set[Claim] = set()
        self.forgotten: set[Claim] = set()
        self.uncounted: dict[UUID, int] = {}

    def teardown(self) -> None:
        """End every session, and with it its locks."""
        for session in self.sessions.values():
            self.database.end(session.connection)

    @initialize()
    def begin(self) -> None:
        """A few jobs and a worker, for a start."""
        for learning_id in LEARNINGS:
            self.database.learn(learning_id)
        self.model.handled = dict.fromkeys(LEARNINGS)
        for queue, max_attempts, learning in FIRST_JOBS:
            self.insert_one(queue, max_attempts, None if learning is None else LEARNINGS[learning])
        self.start_one("mac", listens=True)

    @rule(act=st.sampled_from([act for act, weight in ACTS.items() for _ in range(weight)]), chance=st.data())
    def happens(self, act: str, chance: st.DataObject) -> None:
        """One of the things that can happen."""
        getattr(self, act)(lambda label, options: chance.draw(st.sampled_from(options), label=label))

    def often(self, is_likely: Callable[[Row], bool]) -> list[UUID]:
        """All jobs, and those of interest more than once."""
        return [job_id for job_id, job in self.model.jobs.items() if is_likely(job)] * 3 + list(self.model.jobs)

    # what happens to jobs

    def insert(self, draw: Draw) -> None:
        """Somebody puts a job in."""
        if len(self.model.jobs) < MAX_JOBS:
            self.insert_one(
                draw("queue", QUEUES), draw("max_attempts", [1, 2, 3]), draw("learning", [None, *LEARNINGS])
            )

    def insert_one(self, queue: str, max_attempts: int, learning_id: UUID | None) -> None:
        """Put a job in, due at once."""
        job_id = UUID(int=len(self.model.jobs))
        self.database.insert(job_id, queue, max_attempts, learning_id)
        self.model.jobs[job_id] = self.database.rows()[job_id]
        self.uncounted[job_id] = 0

    def pass_time(self, draw: Draw) -> None:
        """Nobody does anything for a while."""
        self.database.pass_time(draw("seconds", PASSING_S))

    def claim(self, draw: Draw) -> None:
        """A worker claims; a suspect comes alone, and to none that is busy. A crash of the server may forget it."""
        worker, queue, limit = draw("worker", self.workers).worker, draw("queue", QUEUES), draw("limit", [1, 2, 3, 4])
        lease_s, busy = draw("lease_s", LEASES_S), draw("busy", [False, False, True])
        is_forgotten = draw("is_forgotten", [False, False, False, True])
        above = draw("above", [None] * 2 * len(self.model.jobs) + list(self.model.jobs))
        mark = None if above is None else self.model.jobs[above].run_at
        run_after = None if mark is None else self.database.stored(mark)
        got = self.make(
            jobs.claim_jobs(self.calls, queue, worker, limit, lease_s, run_after=run_after, busy=busy),
            lambda: self.model.claim(queue, worker, limit, lease_s, run_after=mark, busy=busy),
            shown=lambda claimed: [job.id for job in claimed],
            is_forgotten=is_forgotten,
        )
        for job in got:
            assert not job.alone or ([job] == got and not busy)
            held = Held(worker, replace(job, claimed_at=self.database.shown(job.claimed_at)))
            self.held.append(held)
            if is_forgotten:
                self.forgotten.add(held.key)
                continue
            row = self.model.jobs[job.id]
            assert (row.claims, row.attempts, row.lapses) == (job.claims, job.attempts, job.lapses)
            assert row.sent == job.sent_before
            self.hand_out(*held.key)

    def hand_out(self, job_id: UUID, claims: int, claimed_at: datetime | None) -> None:
        """Remember a claim; none has a number that another one had, unless that was forgotten."""
        assert (job_id, claims) not in {one[:2] for one in self.handed_out}
        self.handed_out.add((job_id, claims, claimed_at))
        self.model.claimed_at[job_id] = claimed_at

    def shown(self, held: Held) -> jobs.Job:
        """A claim as its worker shows it: with its time as the database has it by now."""
        return replace(held.job, claimed_at=self.database.stored(held.job.claimed_at))

    def extend(self, draw: Draw) -> None:
        """A worker extends claims, which may be over or another's."""
        if not self.held:
            return
        held = [draw("claim", self.held[::-1]) for _ in range(draw("count", [1, 2, 3]))]
        worker, lease_s = held[0].worker, draw("lease_s", LEASES_S)
        kept = self.make(
            jobs.extend_jobs(self.calls, worker, [one.job for one in held], lease_s),
            lambda: self.model.extend(worker, [one.key[:2] for one in held], lease_s),
        )
        shown = {one.key[:2] for one in held}
        for job_id in kept:
            assert (job_id, self.before[job_id].claims) in shown
            assert worker == self.before[job_id].locked_by

    def settle_current(self, draw: Draw) -> None:
        """A worker ends a job under way, by its newest claim, whether the lease holds or not."""
        live = {(job_id, job.claims) for job_id, job in self.model.jobs.items() if job.status == "processing"}
        if current := [held for held in self.held[::-1] if held.key[:2] in live]:
            self.settle(draw("claim", current), draw("how", SETTLEMENTS), draw("delay_s", DELAYS_S))

    def settle_any(self, draw: Draw) -> None:
        """A worker ends a claim that may be long over."""
        if self.held:
            self.settle(draw("claim", self.held[::-1]), draw("how", SETTLEMENTS), draw("delay_s", DELAYS_S))

    def settle(self, held: Held, how: str, delay_s: float) -> None:
        """End a claim; only the newest of a job is ever accepted."""
        job, outcome = self.shown(held), {"how": how}
        if how == "complete":
            call = queue_calls.complete_job(self.calls, job, outcome, 0)
            answer = self.make(call, lambda: self.model.complete(*held.key, outcome))
        elif how == "fail":
            call = queue_calls.fail_job(self.calls, job, "400", outcome)
            answer = self.make(call, lambda: self.model.fail(*held.key, outcome))
        elif how == "retry":
            call = queue_calls.retry_job(self.calls, job, delay_s, "500", outcome)
            answer = self.make(call, lambda: self.model.retry(*held.key, delay_s, outcome))
        else:
            call = queue_calls.release_job(self.calls, job, delay_s, "away")
            answer = self.make(call, lambda: self.model.release(*held.key, delay_s))
        if answer != LEASE_LOST:
            assert held.key == max(one for one in self.handed_out if one[0] == job.id)

    def settle_many(self, draw: Draw) -> None:
        """A worker ends several claims at once, of which some may be over: those change nothing and fail no other."""
        if not self.held:
            return
        held = list({one.key: one for one in [draw("claim", self.held[::-1]) for _ in range(3)]}.values())
        batch, keys, outcome = [self.shown(one) for one in held], [one.key for one in held], {"how": "many"}
        how, delay_s = draw("how", SETTLEMENTS), draw("delay_s", DELAYS_S)
        if how == "complete":
            self.make(
                settling.complete_jobs(self.calls, batch, outcome, 0),
                lambda: {key[0] for key in keys if self.model.complete(*key, outcome) is None},
            )
        elif how == "fail":
            self.make(
                settling.fail_jobs(self.calls, batch, "400", outcome),
                lambda: {key[0] for key in keys if self.model.fail(*key, outcome) is None},
            )
        elif how == "retry":
            self.make(
                settling.retry_jobs(self.calls, batch, delay_s, "500", outcome),
                lambda: {
                    key[0]: status for key in keys if (status := self.model.retry(*key, delay_s, outcome)) != LEASE_LOST
                },
            )
        else:
            self.make(
                settling.release_jobs(self.calls, batch, delay_s, "away"),
                lambda: {key[0] for key in keys if self.model.release(*key, delay_s) is None},
            )

    # what the agent does

    def await_handling(self, draw: Draw) -> None:
        """A worker leaves what it sent to the agent, or says so again, or much too late."""
        live = [one for one in self.held[::-1] if self.model.settles(*one.key)]
        if not self.held:
            return
        held = list({one.key: one for one in [draw("claim", live * 3 + self.held) for _ in range(2)]}.values())
        outcome, within_s = {"wake": draw("wake", ["a", "b"])}, draw("within_s", LEASES_S)
        self.make(
            settling.await_handling(self.calls, [self.shown(one) for one in held], outcome, 0, within_s),
            lambda: {
                one.job.id: handled
                for one in held
                if (handled := self.model.await_handling(*one.key, outcome, within_s)) is not None
            },
        )

    def handle(self, draw: Draw) -> None:
        """The agent, or a person, reads or acknowledges an event by its own id, a job's, or one that is nobody's."""
        asked = draw("id", [*LEARNINGS, *self.often(lambda job: job.awaits), UUID(int=999)])
        how = draw("how", ["read", "acknowledged"])
        self.make(
            queue_calls.handle_event(self.calls, asked, how),
            lambda: self.model.handle(asked, how),
            shown=lambda answer: (answer.found, set(answer.ended)),
        )

    def resend(self, draw: Draw) -> None:
        """A daemon hears that its gateway began anew."""
        daemon, queues = draw("daemon", ["mac", "mini"]), draw("queues", [QUEUES, QUEUES[:1]])

        def predict() -> int:
            resent = self.model.resend(daemon, queues)
            for job_id in resent:
                self.uncounted[job_id] += 1  # no budget is looked at
            return len(resent)

        self.make(settling.resend_unhandled(self.calls, daemon, queues, BEGAN_NOW_S), predict)

    def revoke(self, draw: Draw) -> None:
        """The login of a daemon is revoked, and with it all that the daemon has."""
        daemon = draw("daemon", ["mac", "mini"])

        def predict() -> int:
            had = self.model.revoke(daemon)
            for job_id, is_sent in had.items():
                self.uncounted[job_id] += is_sent
            self.names.revoke(daemon)
            return len(had)

        call = self.calls.fetch("select agent_vault.revoke_daemon(%s)", [daemon])
        self.make(call, predict, shown=lambda rows: rows[0][0])

    def release_unheld(self, draw: Draw) -> None:
        """A worker gives back what it never heard of."""
        worker = draw("worker", self.workers).worker
        known = [held.job.id for held in self.held if held.worker == worker and draw("known", [True, False])]
        self.make(
            jobs.release_unheld(self.calls, worker, known),
            lambda: self.model.release_unheld(worker, known),
            shown=set,
        )

    def step_in(self, draw: Draw) -> None:
        """A person wants a job to be tried again, by the function or in a table editor, or cancels it."""
        job_id = draw("job", self.often(lambda job: job.finished))
        by = draw("by", ["requeue", "update", "cancel"])
        if by == "requeue":
            self.make(jobs.requeue_job(self.calls, job_id), lambda: self.model.requeue(job_id))
        elif by == "cancel":
            self.make(dead_letters.cancel_job(self.calls, job_id), lambda: self.model.cancel(job_id))
        else:
            self.uncounted[job_id] += self.before[job_id].status == "processing"
            update = self.calls.fetch("update public.jobs set status = 'queued' where id = %s", [job_id])
            self.make(update, lambda: self.model.queue_by_hand(job_id), shown=lambda _: None)

    # workers that show no number

    def claim_as_of_old(self, draw: Draw) -> None:
        """An old worker claims, and hears no number."""
        worker = draw("worker", ["mac", "old"])
        got = self.make(
            old_workers.claim_next_job(self.calls, worker),
            lambda: self.model.claim("default", worker, 1, OLD_LEASE_S, fenced=False),
            shown=lambda claimed: [claimed["id"]] if claimed else [],
        )
        if got:
            self.hand_out(got["id"], self.model.jobs[got["id"]].claims, None)

    def settle_as_of_old(self, draw: Draw) -> None:
        """An old worker ends a job, or gives it back: its attempt stays counted, and no budget is looked at."""
        job_id = draw("job", self.often(lambda job: job.claims > 0 and not job.fenced))
        status = draw("status", ["done", "failed", "queued"])
        self.uncounted[job_id] += status == "queued"
        self.make(
            old_workers.complete_job(self.calls, job_id, status, None),
            lambda: self.model.old_complete(job_id, status),
        )

    # daemons and their names

    def start(self, draw: Draw) -> None:
        """A run of a daemon starts and wants the name, also while an earlier one lives."""
        if len(self.workers) < MAX_RUNS:
            self.start_one(draw("daemon", ["mac", "mini"]), listens=draw("listens", [True, False]))

    def start_one(self, daemon: str, *, listens: bool) -> None:
        """Start a run, with a session of its own or over those of a pooler."""
        worker = Identity(daemon, str(len(self.workers) + 1), SILENCE_S)
        self.workers.append(worker)
        if listens:
            self.sessions[worker.worker] = Calls(self.database.session())
        self.take(worker)

    def use_name(self, draw: Draw) -> None:
        """A run takes its name again, keeps it or gives it back, or loses its session."""
        act = draw("name", ["take", "take", "keep", "leave", "lose"])
        {"take": self.take, "keep": self.keep, "leave": self.leave, "lose": self.lose_session}[act](
            draw("worker", self.workers)
        )

    def take(self, worker: Identity) -> None:
        """Take the name: the leases of other runs end with it."""
        daemon, name = worker.daemon, worker.worker
        # the silence is measured while the call runs: too close to its end nobody can say what comes out
        if 0 <= self.names.silence_left_s(daemon, self.database.now()) < 5:
            self.database.pass_time(5)
        self.make(
            names.take_name(self.calls_of(worker), worker, QUEUES, listens=worker.worker in self.sessions),
            lambda: (
                self.model.end_leases(daemon, name)
                if self.names.take(daemon, name, self.model.now, listens=worker.worker in self.sessions)
                else NAME_TAKEN
            ),
            over=self.calls_of(worker),
        )

    def calls_of(self, worker: Identity) -> Calls:
        """The session of a run, or that which all others share, as through a pooler."""
        return self.sessions.get(worker.worker, self.calls)

    def keep(self, worker: Identity) -> None:
        """A run gives its pulse, and hears what waits."""
        daemon, name = worker.daemon, worker.worker
        got = self.make(
            names.keep_name(self.calls_of(worker), worker, QUEUES, listens=worker.worker in self.sessions),
            lambda: (
                None
                if self.names.keep(daemon, name, self.model.now, listens=worker.worker in self.sessions)
                else NAME_TAKEN
            ),
            shown=lambda _: None,
            over=self.calls_of(worker),
        )
        if got != NAME_TAKEN:
            due = self.model.next_due(QUEUES)
            assert (due is None) == (got.next_due_ms is None)
            assert got.work_waits or due is None or due > self.model.now
            assert not got.work_waits or due <= self.database.shown(got.database_time)

    def leave(self, worker: Identity) -> None:
        """A run gives its name back."""
        daemon, name = worker.daemon, worker.worker
        self.make(names.leave_name(self.calls, worker), lambda: self.names.leave(daemon, name))

    def lose_session(self, worker: Identity) -> None:
        """A run is killed, or its network fails; calls of its own may still arrive over another connection."""
        if session := self.sessions.pop(worker.worker, None):
            self.database.end(session.connection)
            self.names.end(worker.daemon, worker.worker)

    # what must hold

    def make(
        self,
        call: Coroutine[Any, Any, Any],
        predict: Callable[[], Any],
        *,
        shown: Callable[[Any], Any] = lambda answer: answer,
        over: Calls | None = None,
        is_forgotten: bool = False,
    ) -> Any:
        """Make a call, show that it answers what the model says, and return the answer."""
        connection = (over or self.calls).connection
        remembered = deepcopy(self.model) if is_forgotten else None
        self.model.now = self.database.begin(connection)
        got = self.database.finish(connection, call, is_forgotten=is_forgotten)
        was_refused = isinstance(got, str) and got in REFUSALS
        assert predict() == (got if was_refused else shown(got))
        self.model = remembered or self.model
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
        assert self.model.handled == self.database.handled()
        for job_id, before in self.before.items():
            self.obeys(before, rows[job_id], self.uncounted[job_id])
        self.before = rows

    def obeys(self, before: Row, after: Row, uncounted: int) -> None:
        """Show that the last call did to a job nothing that no call may do."""
        assert before.claims <= after.claims <= before.claims + 1
        assert after.attempts <= after.max_attempts + uncounted
        assert after.lapses >= 0
        assert (after.status == "processing") == (after.lease_until is not None)
        assert not after.awaits or (after.status == "processing" and after.sent)
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
        """Of all claims that were ever made of a job the newest alone can end it, and only while its lease holds.

        None that was forgotten can, though another has its number.
        """
        self.model.now = self.database.begin(self.database.connection)
        can = self.database.can_settle([*self.handed_out, *self.forgotten])
        self.database.connection.execute("rollback")
        newest = {job_id: claims for job_id, claims, _ in sorted(self.handed_out, key=lambda one: one[:2])}
        assert {claim[:2] for claim, call in can if call != "complete"} <= set(newest.items())
        assert can == {
            (claim, call)
            for claim in self.handed_out
            for call in SETTLEMENTS
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
            stateful_step_count=50,
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
