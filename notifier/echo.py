"""Proof that notifications arrive: a nonce that is sent from another connection must come back."""

import secrets
from collections.abc import Callable

from notifier.ear import Ear
from sql.line import Connection, Line, Statements

ECHO_S = 1.5


class Echo:
    """Listens for one nonce among the notifications of a connection; the rest goes to who wants it."""

    def __init__(self, connection: Connection, heard: Callable[[str], None]) -> None:
        """Take the connection, and who hears of every other channel."""
        self.ear = Ear(connection, self._sort)
        self._connection = connection
        self._heard = heard
        self._nonce = f"agent_vault_nonce_{secrets.token_hex(8)}"
        self._came_back = False

    async def comes_back(self, sender: Statements) -> bool:
        """Tell whether the connection hears what another one, the sender, notifies.

        A transaction-mode pooler takes LISTEN and forgets it. A nonce sent over the same connection would prove
        nothing: PgBouncer hands back what the very statement brought along.
        """
        await self.ear.listen(Line(self._connection, deadline_s=ECHO_S), self._nonce)
        await sender.fetch("select pg_notify(%s, '')", [self._nonce])
        if not self._came_back:
            await self.ear.hear(ECHO_S)
        return self._came_back

    def _sort(self, channel: str) -> None:
        if channel == self._nonce:
            self._came_back = True
            self.ear.interrupt()
        else:
            self._heard(channel)
