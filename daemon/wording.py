"""What the agent is told of a job: never a word that a stranger wrote."""

import re
from collections import Counter
from collections.abc import Sequence

from sql.jobs import Job

# of a webhook only this much may reach the agent; everything else in it could be instructions
SAFE_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
NO_SLUG = "composio_trigger"


def text_of(jobs: Sequence[Job]) -> str | None:
    """Return the text of the wake that stands for these jobs; None means that there is nothing to say."""
    return wake_text(jobs[0]) if len(jobs) == 1 else digest_text(jobs)


def wake_text(job: Job) -> str | None:
    """Return the text of one job's wake: rebuilt from slug and ids for a webhook, the producer's own for other jobs.

    None means that the job has no text to send. The ids tell two wakes apart, which the gateway would otherwise
    collapse into one (its only dedupe is an equal text).
    """
    if job.trigger_name is None:
        return job.wake_text or None
    learning = f" Learning {job.learning_id}," if job.learning_id else ""
    again = ", sent before and not handled yet" if job.sent_before else ""
    told = f"({slug(job.trigger_name)}){again}. Check latest composio_trigger learnings.{learning} job {job.id}."
    return f"New Composio trigger {told}"


def digest_text(jobs: Sequence[Job]) -> str:
    """Return the text of a wake that stands for many webhooks: how many of which slug, and their ids."""
    slugs = Counter(slug(job.trigger_name) for job in jobs)
    counts = ", ".join(f"{name} \N{MULTIPLICATION SIGN}{count}" for name, count in slugs.most_common())
    ids = ", ".join(str(job.id) for job in jobs)
    again = sum(job.sent_before for job in jobs)
    told = f", {again} of them sent before and not handled yet" if again else ""
    return f"{len(jobs)} new Composio triggers ({counts}){told}. Check latest composio_trigger learnings. Jobs: {ids}."


def slug(name: str | None) -> str:
    """Return a name that a stranger chose, a trigger's or a type's, or a word that stands for one that is not plain."""
    return name if name and SAFE_SLUG.fullmatch(name) else NO_SLUG
