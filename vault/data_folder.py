"""The folder that `agent-vault up` keeps: one `up` at a time, a secret that lasts, what its programs read."""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import platformdirs

from notifier.secrecy import read_secret

LET_GO_S = 45.0
SAMPLE_USER = "agent-vault-sample"
SAMPLE_QUEUE = "sample"

# the sample's own queue: a daemon that serves a real gateway never listens to it, whatever crashed before
_OURS = "# written by agent-vault up at every start\n"
_VAULT_TOML = f"""{_OURS}[[queues]]
user = "{SAMPLE_USER}"
queue = "{SAMPLE_QUEUE}"
"""


class FolderError(Exception):
    """The folder cannot be used; the message says why and what to do."""


def default_data() -> Path:
    """Return the folder of `up` in the platform's place for a user's data."""
    return Path(platformdirs.user_data_path("agent-vault", appauthor=False))


class DataFolder:
    """The folder's parts; every file is for its owner alone."""

    def __init__(self, path: Path) -> None:
        """Take the folder's path; it is made by `claim()`."""
        self.path = path
        self.postgres = path / "postgres"
        self.secrets = path / "secrets"
        self.vault_toml = path / "vault.toml"
        self.daemon_toml = path / "daemon.toml"
        self.logs = path / "logs"
        self.spool = path / "spool"
        self.lock_fd = -1

    def claim(self, waits: Callable[[], None]) -> None:
        """Make the folder and lock it, for as long as this process or anything that it leashed lives.

        Calls `waits` where what an earlier `up` leashed must end first. Raises FolderError when another one has it, or
        a person's settings are in it.
        """
        self._refuse_foreign()
        try:
            for folder in (self.path, self.secrets, self.logs):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise FolderError(
                f"cannot use {self.path} ({error.strerror}): choose another folder with --data"
            ) from error
        self._lock(waits)
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, str(os.getpid()).encode(), 0)
        self.vault_toml.write_text(_VAULT_TOML)
        self.daemon_toml.write_text(_OURS)

    def webhook_secret(self) -> str:
        """Return the secret that deliveries are signed with, made once and kept; raises OpenSecretError."""
        file = self.secrets / "composio_webhook_secret"
        with contextlib.suppress(FileNotFoundError):
            return read_secret(file).decode().strip()
        secret = secrets.token_hex(32)
        fresh = file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(secret)
        fresh.rename(file)
        return secret

    def _refuse_foreign(self) -> None:
        """Leave a folder as it is whose settings a person wrote; an empty file may be of an `up` that was killed."""
        for file in (self.vault_toml, self.daemon_toml):
            written = file.read_bytes() if file.exists() else b""
            if written and not written.startswith(_OURS.encode()):
                raise FolderError(f"{file} is not of agent-vault up: choose another folder with --data")

    def _lock(self, waits: Callable[[], None]) -> None:
        """Take the lock; wait for the children of an `up` that was killed, which end by themselves."""
        deadline = time.monotonic() + LET_GO_S
        is_told = False
        while True:
            with contextlib.suppress(BlockingIOError):
                return fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            holder = os.pread(self.lock_fd, 20, 0).decode()
            if _lives(holder) or time.monotonic() > deadline:
                raise FolderError(
                    f"agent-vault up is already running over {self.path} (process {holder or 'unknown'}): "
                    "stop it, or choose another folder with --data (and another port with --port)"
                )
            if not is_told:
                waits()
                is_told = True
            time.sleep(0.1)


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
