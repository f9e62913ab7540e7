"""The message of an agent run: the owner's template, filled with a slug, ids and a count, never a word of the event."""

from string import Formatter
from typing import Final

from daemon.wording import slug, wake_text
from sql.jobs import Job

PLACEHOLDERS: Final = ("slug", "type", "job_id", "learning_id", "attempt")
_THERE_ARE: Final = "there are " + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
_NAME_CHARS: Final = 40


def check_template(text: str) -> str:
    """Return the template; raises ValueError for a placeholder that is none of ours, and for a stray brace."""
    try:
        parts = list(Formatter().parse(text))
    except ValueError:
        raise ValueError(f"a brace in it is not closed, or stands alone: {_THERE_ARE}, and {{{{ is a brace") from None
    for _, name, form, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or form or conversion):
            raise ValueError(f"{{{name[:_NAME_CHARS]}}} is no placeholder, or says more than its name: {_THERE_ARE}")
    return text


def agent_message(template: str | None, job: Job) -> str | None:
    """Return what the agent is told of a job; without a template it is what a wake would say.

    Another producer's own text is never replaced. None means that the job has no text to send.
    """
    has_own_text = job.trigger_name is None and job.wake_text
    if template is None or has_own_text:
        return wake_text(job)
    return template.format(
        slug=slug(job.trigger_name or job.type),
        type=slug(job.type),
        job_id=job.id,
        learning_id=job.learning_id or "none",
        attempt=job.attempts,
    )
