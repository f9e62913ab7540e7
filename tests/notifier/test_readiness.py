"""What systemd hears, over real datagram sockets."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifier.readiness import Readiness


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A datagram socket, not yet bound."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.settimeout(30)
        yield one


@pytest.fixture
def notify_socket(listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The listener's path, named as systemd names it."""
    # Bound from within, because macOS allows 104 bytes for a socket's path and its temporary folders are deep.
    monkeypatch.chdir(tmp_path)
    listener.bind("notify")
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    return "notify"


@pytest.mark.usefixtures("notify_socket")
def test_systemd_hears_each_step(listener: socket.socket) -> None:
    """Ready and stopping arrive, a datagram each."""
    readiness = Readiness.from_environment()
    readiness.ready()
    assert b"READY=1" == listener.recv(100)
    readiness.stopping()
    assert b"STOPPING=1" == listener.recv(100)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket_is_reached(listener: socket.socket) -> None:
    """A leading @ stands for the NUL of an abstract socket."""
    name = f"agent-vault-test-{os.getpid()}"
    listener.bind(f"\0{name}")
    Readiness(f"@{name}").ready()
    assert b"READY=1" == listener.recv(100)


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No NOTIFY_SOCKET, no message."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    readiness = Readiness.from_environment()
    assert readiness.socket_path is None
    readiness.ready()


@pytest.mark.parametrize("path", ["", "@", "/nowhere/at/all", "/" + "x" * 500, "nul\0within", "vsock:2:1234"])
def test_a_wrong_socket_is_no_failure(path: str) -> None:
    """Whatever NOTIFY_SOCKET says, the program goes on."""
    Readiness(path).ready()


def test_a_full_socket_is_not_waited_for(listener: socket.socket, notify_socket: str) -> None:
    """Messages that nobody takes are given up: more are sent than any queue holds, and the first is heard."""
    for _ in range(5000):
        Readiness(notify_socket).ready()
    assert b"READY=1" == listener.recv(100)
