"""Tell systemd how far the program is: its sd_notify protocol, one datagram a message."""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Readiness:
    """Speaks to the socket of a service manager; without one, or where it does not listen, does nothing.

    Protocol: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
    """

    socket_path: str | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """Take the socket that systemd names in `NOTIFY_SOCKET`."""
        # Not in the settings: it is the service manager's to set, and nothing that a person configures.
        return cls(os.environ.get("NOTIFY_SOCKET"))

    def ready(self) -> None:
        """Say that start-up is over: systemd starts what waits for this service."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the program is on its way out."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self.socket_path:
            return
        # Linux's abstract sockets have no file; systemd writes their leading NUL as '@'.
        address = "\0" + self.socket_path[1:] if self.socket_path.startswith("@") else self.socket_path
        # A service manager that is gone, busy or misnamed is no reason to fail or to wait.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)
            sender.sendto(message.encode("utf-8", "replace"), address)
