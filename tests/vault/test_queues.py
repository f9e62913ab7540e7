"""The queue of an event: the first rule that matches."""

from dataclasses import dataclass

import pytest

from vault.queues import choose_queue


@dataclass(frozen=True)
class Rule:
    """A rule as the settings have it."""

    slug: str = "*"
    account: str = "*"
    user: str = "*"
    queue: str = "hit"


@pytest.mark.parametrize(
    ("expected", "rule"),
    [
        ("hit", Rule()),
        ("hit", Rule(slug="GMAIL_*")),
        ("hit", Rule(slug="gmail_*")),
        ("hit", Rule(slug="GMAIL_NEW_GMAIL_MESSAG?")),
        ("hit", Rule(account="ca_1", user="user-*")),
        ("hit", Rule(user="[uv]ser-123")),
        ("default", Rule(slug="GITHUB_*")),
        ("default", Rule(slug="GMAIL")),
        ("default", Rule(account="CA_1")),
        ("default", Rule(slug="GMAIL_*", user="user-124")),
    ],
)
def test_globs(expected: str, rule: Rule) -> None:
    """All three globs must match; only the slug's ignores case."""
    assert expected == choose_queue([rule], "GMAIL_NEW_GMAIL_MESSAGE", "ca_1", "user-123")


def test_lower_slug() -> None:
    """A lifecycle event's type is matched without case too."""
    assert choose_queue([Rule(slug="Composio.*")], "composio.trigger.disabled", None, None) == "hit"


@pytest.mark.parametrize("rule", [Rule(slug="?*"), Rule(account="**"), Rule(user="[!x]*"), Rule(user="None")])
def test_none(rule: Rule) -> None:
    """What an event does not have matches only a bare star."""
    assert choose_queue([rule], None, None, None) == "default"
    assert choose_queue([Rule()], None, None, None) == "hit"


def test_first_wins() -> None:
    """The order of the rules decides."""
    rules = [Rule(slug="X*", queue="no"), Rule(slug="A*", queue="first"), Rule(queue="last")]
    assert choose_queue(rules, "ABC", None, None) == "first"
    assert choose_queue(rules, "B", None, None) == "last"


def test_no_rules() -> None:
    """Without rules there is one queue."""
    assert choose_queue([], "ABC", "ca_1", "user-1") == "default"
