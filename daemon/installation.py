"""What is installed, and for whom."""

import pwd
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from daemon.openclaw import OpenClawFiles
from daemon.settings import DaemonSettings
from daemon.steps import ServiceError
from notifier.configuration import SettingsError
from notifier.sources import TomlFile, is_there

PROGRAM = "agent-daemon"
# given, so that openclaw.json is not searched for what an installation need not know
_HOOKS = {"hook_token": "unused", "hooks_path": "/hooks"}


@dataclass(frozen=True, slots=True)
class Installation:
    """One daemon, kept alive for one user; `system` means by the machine, from boot on."""

    program: Path
    user: str
    uid: int
    home: Path
    system: bool = False
    config: Path | None = None

    @property
    def other_kind(self) -> "Installation":
        """Say the same for the machine in place of the user, or the reverse."""
        return replace(self, system=not self.system)

    @property
    def command(self) -> list[str]:
        """Say what the service manager starts."""
        return [str(self.program), "run", *(["--config", str(self.config)] if self.config else [])]


def find_program(invoked_as: str, python: str) -> Path:
    """Find the installed script: as it was called, else beside the Python that runs it; never resolved.

    pipx and uv keep a stable link to a script that moves with each upgrade, so links are kept as they are.
    """
    called = Path(invoked_as).absolute()
    for script in (called, Path(python).absolute().parent / PROGRAM):
        if script.name == PROGRAM and script.is_file():
            return script
    raise ServiceError(
        f"no {PROGRAM} script beside {python}: install agent-vault with pipx, uv or pip and run it again"
    )


def find_user(name: str) -> pwd.struct_passwd:
    """Find the account whose daemon it is; raises ServiceError."""
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise ServiceError(f"no user {name} on this machine: create it or name another with --user") from error


def code_paths(it: Installation) -> tuple[Path, ...]:
    """List what the service has to read: script, Python, package, configuration; as named, and with links resolved."""
    config = [it.config] if it.config else []
    found = (it.program, Path(sys.executable), Path(sys.prefix), Path(__file__), *config)
    return (*found, *(path.resolve() for path in found))


def has_database(it: Installation, secret: Path) -> bool:
    """Tell whether something sets DATABASE_URL for the service, which does not see this shell's environment."""
    config = it.config or it.home / ".config/agent-vault/daemon.toml"
    try:
        known = _HOOKS | TomlFile(DaemonSettings, (config,))({})
    except SettingsError:
        return True  # the service itself says what is wrong with the file, so there is nothing to say
    return is_there(secret) or "database_url" in known | OpenClawFiles(DaemonSettings, {}, it.home)(known)
