"""The daemon under systemd: a unit of the user's own manager, or of the machine's."""

import shlex
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from string import Template

from daemon.installation import Installation
from daemon.steps import MakeDir, Remove, Run, Step, Write

UNIT = "agent-daemon.service"
MACHINE = Path("/etc")


def secrets_folder(it: Installation) -> Path:
    """Say where the daemon's secrets lie, one file for each."""
    return MACHINE / "agent-vault/secrets" if it.system else it.home / ".config/agent-vault/secrets"


def service_file(it: Installation) -> Path:
    """Say where systemd looks for the unit."""
    return (MACHINE / "systemd/system" if it.system else it.home / ".config/systemd/user") / UNIT


def unit(it: Installation) -> str:
    """Render the unit."""
    return render(" ".join(quoted(word) for word in it.command), it.user, system=it.system)


def render(command: str, user: str, *, system: bool) -> str:
    """Fill in the unit: `command` as systemd reads it, quoted."""
    name = "agent-daemon.service" if system else "agent-daemon.user.service"
    text = files("daemon").joinpath("units", name).read_text(encoding="utf-8")
    return Template(text).substitute(command=command, user=user)


def quoted(word: str) -> str:
    """Quote a word for ExecStart=, where % and spaces mean something."""
    word = word.replace("\\", "\\\\").replace("%", "%%")
    return word if shlex.quote(word) == word else '"' + word.replace('"', '\\"') + '"'


def install_steps(it: Installation) -> list[Step]:
    """Write the unit, enable it, start it anew."""
    return [
        # first of all, so that nothing is left behind where no manager answers
        _systemctl(it, "show", "--property=Version", remedy=_manager_remedy(it)),
        MakeDir(secrets_folder(it), 0o700),
        MakeDir(service_file(it).parent),
        Write(service_file(it), unit(it)),
        _systemctl(it, "daemon-reload"),
        _systemctl(it, "enable", UNIT),
        *([] if it.system else [_linger(it)]),
        # not `enable --now`, which leaves a running daemon with the old unit
        _systemctl(it, "restart", UNIT, remedy=f"read {log_place(it)} and install again"),
    ]


def uninstall_steps(it: Installation) -> list[Step]:
    """Stop, disable and remove the unit."""
    return [
        # 5: no such unit; `disable` of one that is not there fails too, but by then the manager has answered
        replace(_systemctl(it, "stop", UNIT, remedy=_manager_remedy(it)), instead_on=frozenset({5})),
        replace(_systemctl(it, "disable", UNIT), may_fail=True),
        Remove(service_file(it)),
        _systemctl(it, "daemon-reload"),
    ]


def log_place(it: Installation) -> str:
    """Say which command shows the log."""
    return f"journalctl {'' if it.system else '--user '}-u agent-daemon"


def _systemctl(it: Installation, *words: str, remedy: str = "put that right and run the command again") -> Run:
    return Run(("systemctl", *(() if it.system else ("--user",)), *words), remedy=remedy)


def _manager_remedy(it: Installation) -> str:
    if it.system:
        return "run with sudo on a machine that systemd booted"
    return f"on a machine that systemd booted, log in as {it.user} itself, not through su or sudo, or use --system"


def _linger(it: Installation) -> Run:
    """Keep the user's manager running while nobody is logged in, and start it at boot."""
    return Run(
        ("loginctl", "enable-linger", it.user),
        remedy=f"run `sudo loginctl enable-linger {it.user}` and install again",
    )
