"""An ear for notifications, which knows when it has heard them all."""

import psycopg


class Ear:
    """A connection that listens as the daemon's does."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Listen to two queues, and to a channel that marks the end."""
        self._connection = connection
        for channel in ("agent_vault_default", "agent_vault_mail", "the_end"):
            connection.execute(f"listen {channel}")

    def heard(self) -> list[tuple[str, str]]:
        """Channel and payload of every notification that was committed since the last call."""
        heard = []
        self._connection.execute("notify the_end")  # it comes after all that were committed before
        for notify in self._connection.notifies(timeout=30):
            if notify.channel == "the_end":
                return heard
            heard.append((notify.channel, notify.payload))
        raise AssertionError(f"the end was never heard, only {heard}")
