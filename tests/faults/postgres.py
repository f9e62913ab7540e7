"""A Postgres server of the test's own, to be crashed and started again."""

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from vault.embedded import EmbeddedPostgres, _binaries

# what did not wait for the disk never comes there by itself: a crash forgets it for sure
FORGETFUL = {"wal_writer_delay": "10s", "autovacuum": "off"}


class CrashablePostgres:
    """An embedded server; whoever kills it starts it again with `start()`, over the same data."""

    def __init__(self, folder: Path, version: int = 18, **settings: str) -> None:
        usual = {"fsync": "off", "max_connections": "100"}
        self._server = EmbeddedPostgres(folder, version=version, settings={**usual, **settings})

    @property
    def dsn(self) -> str:
        """The superuser's connection string; it stays the same over crashes."""
        return self._server.dsn

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._server.stop()
        self._server.start()

    def stop(self) -> None:
        """Shut it down in order."""
        self._server.stop()

    def immediate(self) -> None:
        """`pg_ctl stop -m immediate`: no checkpoint, no good-bye; the next start recovers."""
        pg_ctl = str(_binaries(self._server.version) / "pg_ctl")
        command = [pg_ctl, "stop", "-m", "immediate", "-w", "-D", str(self._server.data)]
        subprocess.run(command, user=self._server.user, cwd="/", check=True, capture_output=True)

    def kill(self) -> None:
        """Kill the postmaster and every backend with SIGKILL."""
        parent = psutil.Process(self.pid)
        for one in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)
        psutil.wait_procs([parent], timeout=30)

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return int((self._server.data / "postmaster.pid").read_text().split("\n", 1)[0])


@contextlib.contextmanager
def crashable(**settings: str) -> Iterator[CrashablePostgres]:
    """Run one for the length of the block, with settings of its own."""
    folder = Path(tempfile.mkdtemp(prefix="agent-vault-test-"))
    server = CrashablePostgres(folder / "pg", **settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
