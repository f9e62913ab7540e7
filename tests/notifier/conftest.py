"""What the tests of the notifier share: a clock of their own."""

from clocks import clock  # noqa: F401 - a fixture
