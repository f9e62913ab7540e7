"""Which queue an event's job goes to: the first rule that matches."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Protocol


class QueueRule(Protocol):
    """Three globs and the queue for what matches all of them; "*" matches anything, and nothing too."""

    @property
    def slug(self) -> str:
        """A glob over the trigger slug; case makes no difference."""

    @property
    def account(self) -> str:
        """A glob over the connected account's id."""

    @property
    def user(self) -> str:
        """A glob over the user's id."""

    @property
    def queue(self) -> str:
        """The queue's name."""


def choose_queue(rules: Sequence[QueueRule], slug: str | None, account: str | None, user: str | None) -> str:
    """Return the queue of the first rule that matches, or "default"."""
    for rule in rules:
        if _applies(rule, slug, account, user):
            return rule.queue
    return "default"


def _applies(rule: QueueRule, slug: str | None, account: str | None, user: str | None) -> bool:
    # Composio writes slugs in upper case, but a lifecycle event's type, which stands in for one, in lower.
    upper_slug = slug.upper() if slug is not None else None
    return _matches(rule.slug.upper(), upper_slug) and _matches(rule.account, account) and _matches(rule.user, user)


def _matches(glob: str, value: str | None) -> bool:
    return glob == "*" if value is None else fnmatchcase(value, glob)
