"""The daemon under launchd: an agent of a logged-in user, or a daemon of the machine."""

import plistlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from daemon.installation import Installation
from daemon.steps import AwaitGone, MakeDir, Remove, Run, ServiceError, Step, Write

LABEL = "agent-vault.daemon"
STOP_S = 45  # the daemon needs up to 30 s to finish or release what it holds
LAUNCHCTL = "/bin/launchctl"
MACHINE = Path("/Library/LaunchDaemons")
# what launchctl answers where there is no such domain: over SSH with nobody logged in, `gui` is not there
NO_DOMAIN = frozenset({112, 125})
# macOS lets no service read these, and nobody is there to click on its question
PROTECTED = ("Desktop", "Documents", "Downloads", "Library/Mobile Documents")


def secrets_folder(it: Installation) -> Path:
    """Say where the daemon's secrets lie, one file for each."""
    return it.home / ".config/agent-vault/secrets"


def log_file(it: Installation) -> Path:
    """Say where the daemon's log goes."""
    return it.home / "Library/Logs/agent-vault/agent-daemon.log"


def log_place(it: Installation) -> str:
    """Say where the log is read."""
    return str(log_file(it))


def service_file(it: Installation) -> Path:
    """Say where launchd looks for the plist."""
    folder = MACHINE if it.system else it.home / "Library/LaunchAgents"
    return folder / f"{LABEL}.plist"


def plist(it: Installation, session: str = "Aqua") -> str:
    """Render the plist: absolute paths only, since launchd expands nothing, and no secret."""
    keys: dict[str, Any] = {
        "Label": LABEL,
        "ProgramArguments": it.command,
        # a daemon of the machine may be given no HOME, or root's
        "EnvironmentVariables": {"CREDENTIALS_DIRECTORY": str(secrets_folder(it)), "HOME": str(it.home)},
        "RunAtLoad": True,
        # launchd knows no exit status that means 'do not restart': a wrong setting is tried again each 10 s
        "KeepAlive": True,
        "ThrottleInterval": 10,
        "ExitTimeOut": STOP_S,
        # Background, Standard and no type at all are throttled in CPU and I/O and their timers put off:
        # seconds, for a daemon that should wake in milliseconds
        "ProcessType": "Interactive",
        "Umask": 0o077,
        "StandardOutPath": str(log_file(it)),
        "StandardErrorPath": str(log_file(it)),
    }
    return plistlib.dumps(keys | _whose(it, session), sort_keys=False).decode()


def _whose(it: Installation, session: str) -> dict[str, Any]:
    """Name the user of a machine's daemon, or the kind of session that an agent is loaded into."""
    if it.system:
        return {"UserName": it.user}
    # one kind only: with both, launchd may load the agent twice, into `gui` and into `user`
    return {"LimitLoadToSessionType": session}


def install_steps(it: Installation) -> list[Step]:
    """Stop what runs, write the plist, load it."""
    load = _load_system(it) if it.system else _load_agent(it)
    return [*_folders(it), *_unload(it), *load]


def uninstall_steps(it: Installation) -> list[Step]:
    """Stop what runs and remove the plist; right also where nothing is installed."""
    return [*_unload(it), Remove(service_file(it))]


def _folders(it: Installation) -> list[Step]:
    private = [secrets_folder(it), log_file(it).parent]
    if not it.system:
        return [*(MakeDir(path, 0o700) for path in private), MakeDir(service_file(it).parent)]
    # as the user, not as root: they lie in the user's home, who must own them and whose links root must not follow
    return [Run(("/usr/bin/sudo", "-u", it.user, "/usr/bin/install", "-d", "-m", "700", str(path))) for path in private]


def _domains(it: Installation) -> list[str]:
    return ["system"] if it.system else [f"gui/{it.uid}", f"user/{it.uid}"]


def _unload(it: Installation) -> list[Step]:
    """Boot the service out of where it may be and wait until it is gone.

    `bootout` returns at once while the daemon still stops, and `bootstrap` fails until then (5, or 37). It
    also fails when nothing is loaded (3, 113): so its answer says little, and the wait says all.
    """
    targets = [f"{domain}/{LABEL}" for domain in _domains(it)]
    return [
        *(Run((LAUNCHCTL, "bootout", target), may_fail=True) for target in targets),
        *(AwaitGone((LAUNCHCTL, "print", target), STOP_S + 15) for target in targets),
    ]


def _prepare(it: Installation, domain: str, session: str) -> list[Step]:
    """Write and enable: a service that was once disabled cannot be bootstrapped."""
    return [
        Write(service_file(it), plist(it, session)),
        Run((LAUNCHCTL, "enable", f"{domain}/{LABEL}"), may_fail=True),
    ]


def _bootstrap(it: Installation, domain: str, instead: Iterable[Step] = ()) -> Run:
    argv = (LAUNCHCTL, "bootstrap", domain, str(service_file(it)))
    codes = NO_DOMAIN if instead else frozenset[int]()
    return Run(argv, remedy=f"read {log_file(it)} and install again", instead_on=codes, instead=tuple(instead))


def _load_system(it: Installation) -> list[Step]:
    return [*_prepare(it, "system", ""), _bootstrap(it, "system")]


def _load_agent(it: Installation) -> list[Step]:
    """Load into the desktop session, or where there is none into the user's background session."""
    desktop, background = _domains(it)
    elsewhere = [*_prepare(it, background, "Background"), _bootstrap(it, background)]
    return [*_prepare(it, desktop, "Aqua"), _bootstrap(it, desktop, elsewhere)]


def refuse_protected(home: Path, paths: Iterable[Path]) -> None:
    """Refuse what macOS would not let the service read; raises ServiceError."""
    # folded, as the disk is: ~/documents is ~/Documents
    folders = [f"{home}/{name}/".casefold() for name in PROTECTED]
    for path in paths:
        if any(f"{path}/".casefold().startswith(folder) for folder in folders):
            raise ServiceError(
                f"{path} cannot be used by a service, macOS denies it Desktop, Documents, Downloads and iCloud: "
                "install agent-vault elsewhere, with pipx for one, and run agent-daemon install again"
            )
