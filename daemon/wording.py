"""What the agent is told of a job: never a word that a stranger wrote."""

import re

from sql.jobs import Job

# of a webhook only this much may reach the agent; everything else in it could be instructions
SAFE_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
NO_SLUG = "composio_trigger"


def wake_text(job: Job) -> str | None:
    """Return the text of the wake: rebuilt from slug and ids for a webhook, the producer's own for other jobs.

    None means that the job has no text to send. The ids tell two wakes apart, which the gateway would otherwise
    collapse into one (its only dedupe is an equal text).
    """
    if job.trigger_name is None:
        return job.wake_text or None
    slug = job.trigger_name if SAFE_SLUG.fullmatch(job.trigger_name) else NO_SLUG
    learning = f" Learning {job.learning_id}," if job.learning_id else ""
    return f"New Composio trigger ({slug}). Check latest composio_trigger learnings.{learning} job {job.id}."
