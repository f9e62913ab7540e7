"""The queue as a model: what each call does to a job, said a second time, in plain Python.

A new call gets one method here, one in tests/sql/test_model.py, and its name in `MOVES`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

# every database function that updates a job
MOVES = frozenset(
    {
        "agent_vault.await_handling",
        "agent_vault.cancel_job",
        "agent_vault.claim_jobs",
        "agent_vault.complete_jobs_each",
        "agent_vault.extend_jobs",
        "agent_vault.fail_jobs",
        "agent_vault.handle_event",
        "agent_vault.release_jobs",
        "agent_vault.release_unheld",
        "agent_vault.requeue_job",
        "agent_vault.resend_unhandled",
        "agent_vault.retry_jobs",
        "agent_vault.return_lapsed",
        "agent_vault.revoke_daemon",
        "agent_vault.take_name",
        "public.claim_next_job",
        "public.complete_job",
    }
)
LEASE_LOST = "JB001"
LAPSED = {"reason": "lapsed"}
NOT_HANDLED = {"reason": "not handled"}
CANCELLED = {"reason": "cancelled"}
OLD_LEASE_S = 900


def seconds(number: float) -> timedelta:
    """A span of time."""
    return timedelta(seconds=number)


@dataclass(slots=True)
class Row:
    """What the model knows of a job; every field but the last is a column."""

    queue: str
    max_attempts: int
    created_at: datetime
    run_at: datetime
    status: str = "queued"
    attempts: int = 0
    claims: int = 0
    lapses: int = 0
    fenced: bool = False
    locked_by: str | None = None
    lease_until: datetime | None = None
    outcome: Any = None
    awaits: bool = False
    sent: bool = False
    learning: UUID | None = None
    finished: bool = False

    def queued(self, run_at: datetime) -> None:
        """Wait, due from then on."""
        self.status, self.run_at, self.lease_until, self.finished, self.awaits = "queued", run_at, None, False, False

    def ended(self, status: str, outcome: Any) -> None:
        """Be over."""
        self.status, self.outcome, self.lease_until, self.finished, self.awaits = status, outcome, None, True, False

    def untried(self, run_at: datetime) -> None:
        """Be given back, the attempt uncounted."""
        self.queued(run_at)
        self.locked_by = None
        self.attempts = max(self.attempts - 1, 0)


@dataclass(slots=True)
class Queue:
    """All jobs, and the time of the call that is being made."""

    now: datetime
    jobs: dict[UUID, Row] = field(default_factory=dict)
    handled: dict[UUID, str | None] = field(default_factory=dict)  # how, by learning
    claimed_at: dict[UUID, datetime] = field(default_factory=dict)  # the latest claim that shows its time, by job

    def is_of(self, job_id: UUID, claimed_at: datetime | None) -> bool:
        """Tell whether the latest claim was made at this time, or none is shown: a number alone may be given twice."""
        return claimed_at is None or self.claimed_at.get(job_id) == claimed_at

    def settles(self, job_id: UUID, claims: int, claimed_at: datetime | None) -> bool:
        """Tell whether this claim may end its job now: it is the newest, and its lease holds."""
        job = self.jobs[job_id]
        is_newest = job.claims == claims and self.is_of(job_id, claimed_at)
        return is_newest and job.lease_until is not None and job.lease_until >= self.now

    def said_before(self, job_id: UUID, claims: int, claimed_at: datetime | None) -> bool:
        """Tell whether this claim has completed its job, and may say so again."""
        job = self.jobs[job_id]
        return job.claims == claims and self.is_of(job_id, claimed_at) and job.status == "done" and job.fenced

    def lapse(self, queue: str) -> None:
        """Return the leases of a queue that ran out."""
        for job in self.jobs.values():
            if job.queue == queue and job.status == "processing" and job.lease_until < self.now:
                job.lapses += not job.awaits
                if job.attempts < job.max_attempts:
                    job.queued(self.now)
                else:
                    job.run_at = self.now
                    job.ended("failed", NOT_HANDLED if job.awaits else LAPSED)

    def claim(
        self,
        queue: str,
        worker: str,
        limit: int,
        lease_s: float,
        *,
        run_after: datetime | None = None,
        busy: bool = False,
        fenced: bool = True,
    ) -> list[UUID]:
        """Lease what is due; a suspect only at the head, alone, and to a worker that is not busy."""
        if run_after is None:
            self.lapse(queue)
        due = [
            job_id
            for job_id, job in self.jobs.items()
            if job.status == "queued" and job.queue == queue and job.run_at <= self.now and not (busy and job.lapses)
            if run_after is None or job.run_at >= run_after
        ]
        due = sorted(due, key=lambda job_id: (self.jobs[job_id].run_at, self.jobs[job_id].created_at))[:limit]
        if due and self.jobs[due[0]].lapses:
            taken = due[:1]
        else:
            taken = [job_id for job_id in due if not self.jobs[job_id].lapses]
        for job in map(self.jobs.__getitem__, taken):
            job.status, job.locked_by, job.fenced = "processing", worker, fenced
            job.lease_until = self.now + seconds(lease_s)
            job.claims += 1
            job.attempts += 1
            if job.learning is not None:
                self.handled[job.learning] = None
        return taken

    def extend(self, worker: str, held: Iterable[tuple[UUID, int]], lease_s: float) -> set[UUID]:
        """Extend what nobody else claimed, whatever its lapse made of it."""
        kept = {
            job_id
            for job_id, claims in held
            if self.jobs[job_id].claims == claims
            and self.jobs[job_id].locked_by == worker
            and (self.jobs[job_id].status in {"processing", "queued"} or self.jobs[job_id].outcome == LAPSED)
        }
        for job in map(self.jobs.__getitem__, kept):
            if job.status != "processing":
                job.lapses -= 1
            if job.status == "failed":
                job.outcome = None
            job.status, job.finished = "processing", False
            job.lease_until = self.now + seconds(lease_s)
        return kept

    def complete(self, job_id: UUID, claims: int, claimed_at: datetime | None, outcome: Any) -> str | None:
        """End a job as done, or hear again that it is."""
        if self.settles(job_id, claims, claimed_at):
            self.jobs[job_id].ended("done", outcome)
            self.jobs[job_id].sent = True
            return None
        return None if self.said_before(job_id, claims, claimed_at) else LEASE_LOST

    def fail(self, job_id: UUID, claims: int, claimed_at: datetime | None, outcome: Any) -> str | None:
        """End a job as failed."""
        if not self.settles(job_id, claims, claimed_at):
            return LEASE_LOST
        self.jobs[job_id].ended("failed", outcome)
        return None

    def retry(self, job_id: UUID, claims: int, claimed_at: datetime | None, delay_s: float, outcome: Any) -> str:
        """Try a job again later, or fail it."""
        if not self.settles(job_id, claims, claimed_at):
            return LEASE_LOST
        job = self.jobs[job_id]
        job.locked_by, job.outcome, job.run_at = None, outcome, self.now + seconds(max(delay_s, 0))
        if job.attempts < job.max_attempts:
            job.queued(job.run_at)
        else:
            job.ended("failed", outcome)
        return job.status

    def release(self, job_id: UUID, claims: int, claimed_at: datetime | None, delay_s: float) -> str | None:
        """Give a job back, its attempt uncounted."""
        if not self.settles(job_id, claims, claimed_at):
            return LEASE_LOST
        self.jobs[job_id].untried(self.now + seconds(max(delay_s, 0)))
        return None

    def release_unheld(self, worker: str, known: Sequence[UUID]) -> set[UUID]:
        """Give back what a worker has and does not know of."""
        unheld = {
            job_id
            for job_id, job in self.jobs.items()
            if job.status == "processing" and job.locked_by == worker and job_id not in known and not job.awaits
        }
        for job_id in unheld:
            self.jobs[job_id].untried(self.now)
        return unheld

    def requeue(self, job_id: UUID) -> bool:
        """Give a failed job all its attempts back."""
        job = self.jobs[job_id]
        if job.status != "failed":
            return False
        job.queued(self.now)
        job.locked_by, job.attempts, job.lapses, job.outcome = None, 0, 0, None
        return True

    def cancel(self, job_id: UUID) -> bool:
        """End a job that is not over, and fence its worker out."""
        job = self.jobs[job_id]
        if job.finished:
            return False
        job.claims += 1
        job.ended("failed", CANCELLED)
        return True

    def queue_by_hand(self, job_id: UUID) -> None:
        """Be updated to queued by a person, in a table editor."""
        job = self.jobs[job_id]
        if job.finished:
            job.attempts, job.lapses, job.outcome = 0, 0, None
        if job.status != "queued":
            job.queued(max(job.run_at, self.now))
            job.locked_by = None

    def old_complete(self, job_id: UUID, status: str) -> None:
        """End an old worker's latest claim, or give it back."""
        job = self.jobs[job_id]
        if job.fenced or not job.claims or job.locked_by is None or job.finished:
            return
        if status == "queued":
            job.queued(self.now)
            job.locked_by = None
        else:
            job.ended(status, job.outcome)
            job.sent |= status == "done"

    def end_leases(self, daemon: str, worker: str) -> None:
        """Let the leases of a daemon's other runs lapse."""
        for job in self.jobs.values():
            is_of_daemon = job.fenced and job.locked_by is not None and job.locked_by.split("/")[0] == daemon
            is_held = job.status == "processing" and job.lease_until >= self.now and not job.awaits
            if is_of_daemon and job.locked_by != worker and is_held:
                job.lease_until = self.now - timedelta(milliseconds=1)

    def next_due(self, queues: Sequence[str]) -> datetime | None:
        """When the next job of these queues is due or lapses."""
        times = {"queued": "run_at", "processing": "lease_until"}
        return min(
            (getattr(job, times[job.status]) for job in self.jobs.values() if job.queue in queues and not job.finished),
            default=None,
        )
