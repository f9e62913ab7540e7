"""What the agent does with events, as a model beside that of the queue: it reads and acknowledges, or does not."""

from datetime import datetime
from uuid import UUID

from queue_model import NOT_HANDLED, Queue, Row, seconds


class HandlingQueue(Queue):
    """The queue, and the agent behind the gateway."""

    def await_handling(
        self, job_id: UUID, claims: int, claimed_at: datetime | None, outcome: dict[str, str], within_s: float
    ) -> bool | None:
        """Leave a sent job to the agent; True where it was quicker, None where the claim is over."""
        job = self.jobs[job_id]
        is_left = job.awaits or (job.status == "done" and "handled" in (job.outcome or {}))
        if job.claims == claims + 1 and self.is_of(job_id, claimed_at) and is_left:
            return not job.awaits
        if not self.settles(job_id, claims, claimed_at):
            return None
        how = self.handled.get(job.learning) if job.learning else None
        job.claims, job.sent = job.claims + 1, True
        if how is not None:
            job.ended("done", outcome | {"handled": how})
        else:
            job.awaits, job.outcome, job.lease_until = True, outcome, self.now + seconds(within_s)
        return how is not None

    def handle(self, asked: UUID, how: str) -> tuple[bool, set[UUID]]:
        """Mark an event, and end what need not be sent for it any more; tell whether there is one, and which ended."""
        learning = asked if asked in self.handled else self.jobs[asked].learning if asked in self.jobs else None
        if learning is None and (how == "read" or asked not in self.jobs):
            return False, set()
        if learning is not None and (how == "acknowledged" or self.handled[learning] is None):
            self.handled[learning] = how
        mine = {
            job_id: job
            for job_id, job in self.jobs.items()
            if job_id == asked or (learning is not None and job.learning == learning)
        }
        ended = {job_id for job_id, job in mine.items() if _is_over(job, how)}
        for job in map(self.jobs.__getitem__, ended):
            job.claims += job.status == "processing" and not job.awaits
            outcome = job.outcome if isinstance(job.outcome, dict) else {}
            job.ended("done", {key: value for key, value in outcome.items() if key != "reason"} | {"handled": how})
        return True, ended

    def resend(self, daemon: str, queues: list[str]) -> set[UUID]:
        """Send again what the gateway forgot."""
        forgotten = {
            job_id
            for job_id, job in self.jobs.items()
            if job.awaits and job.queue in queues and str(job.locked_by).split("/")[0] == daemon
        }
        for job in map(self.jobs.__getitem__, forgotten):
            job.queued(self.now)
            job.attempts = max(job.attempts - 1, 0)
        return forgotten

    def revoke(self, daemon: str) -> dict[UUID, bool]:
        """Give back all that a daemon has; say of each whether it was sent."""
        had = {
            job_id: job.awaits
            for job_id, job in self.jobs.items()
            if job.status == "processing" and job.fenced and str(job.locked_by).split("/")[0] == daemon
        }
        for job_id, is_sent in had.items():
            job, attempts = self.jobs[job_id], self.jobs[job_id].attempts
            job.untried(self.now)
            job.attempts = attempts if is_sent else job.attempts
        return had


def _is_over(job: Row, how: str) -> bool:
    is_sent = job.awaits or (job.status in {"queued", "processing"} and job.sent) or job.outcome == NOT_HANDLED
    return is_sent or (how == "acknowledged" and job.status in {"queued", "processing"})
