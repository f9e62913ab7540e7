"""Install and uninstall the daemon as a service that launchd or systemd keeps alive."""

import argparse
import os
import pwd
import sys
from pathlib import Path
from typing import Protocol

from daemon import launchd, systemd
from daemon.installation import PROGRAM, Installation, code_paths, find_program, find_user, has_database
from daemon.steps import Runner, ServiceError, Step, carry_out, run_command
from notifier.secrecy import OpenSecretError, refuse_open_files
from notifier.sources import at_home, is_there

__all__ = ["ServiceError", "add_arguments", "install", "secrets_folders", "uninstall"]


class Manager(Protocol):
    """What `launchd` and `systemd` both know; pure, so that either can be planned on any machine."""

    def service_file(self, it: Installation) -> Path:
        """Say where the plist or the unit goes."""

    def secrets_folder(self, it: Installation) -> Path:
        """Say where the secrets lie, one file for each."""

    def log_place(self, it: Installation) -> str:
        """Say where the log is read."""

    def install_steps(self, it: Installation) -> list[Step]:
        """Plan an install, also over an older one."""

    def uninstall_steps(self, it: Installation) -> list[Step]:
        """Plan the removal of the service."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `install` and `uninstall` understand."""
    parser.add_argument("--system", action="store_true", help="for the whole machine, from boot on (needs sudo)")
    parser.add_argument("--user", metavar="NAME", help="with --system: whose daemon (default: who called sudo)")
    parser.add_argument("--dry-run", action="store_true", help="print all files and commands, change nothing")
    # suppressed, so that a --config before the verb keeps its value
    parser.add_argument("--config", metavar="PATH", default=argparse.SUPPRESS, help="what the service is to read")


def install(args: argparse.Namespace, platform: str = sys.platform, run: Runner = run_command) -> int:
    """Install the service and start it, in place of an older one; 1 where it cannot work yet. Raises ServiceError."""
    manager, it = manager_of(platform), chosen(args)
    refuse_protected(it, platform)
    if not args.dry_run:
        refuse_caller(it, os.geteuid())
    refuse_second(it, manager)
    refuse_missing(it)
    refuse_open_secrets(it, manager)
    is_complete = announce_missing(it, manager)
    finish(manager.install_steps(it), run, dry_run=args.dry_run)
    say(f"agent-daemon {'would be' if args.dry_run else 'is'} installed; its log: {manager.log_place(it)}")
    return int(not is_complete)


def uninstall(args: argparse.Namespace, platform: str = sys.platform, run: Runner = run_command) -> int:
    """Stop the service and remove its file, never the secrets; raises ServiceError."""
    manager, it = manager_of(platform), chosen(args)
    if not args.dry_run:
        if not manager.service_file(it).exists():
            say(f"agent-daemon is not installed: there is no {manager.service_file(it)}")
            return 0
        refuse_caller(it, os.geteuid())
    finish(manager.uninstall_steps(it), run, dry_run=args.dry_run)
    say(f"agent-daemon {'would be' if args.dry_run else 'is'} uninstalled; kept: {manager.secrets_folder(it)}")
    return 0


def finish(steps: list[Step], run: Runner, *, dry_run: bool) -> None:
    """Print the plan or carry it out."""
    if dry_run:
        say(*(step.text for step in steps))
    else:
        carry_out(steps, run)


def manager_of(platform: str) -> Manager:
    """Choose the service manager of a platform, named as in sys.platform; raises ServiceError."""
    managers: dict[str, Manager] = {"darwin": launchd, "linux": systemd}
    if platform not in managers:
        raise ServiceError(f"no service manager known on {platform}: keep `agent-daemon run` alive by other means")
    return managers[platform]


def secrets_folders(platform: str = sys.platform) -> list[Path]:
    """Say where a service of this user and one of the machine have their secrets; nowhere where there is none."""
    own = Installation(program=Path(PROGRAM), user="", uid=os.geteuid(), home=at_home(Path("~")))
    try:
        manager = manager_of(platform)
    except ServiceError:
        return []
    return list(dict.fromkeys(manager.secrets_folder(one) for one in (own, own.other_kind)))


def chosen(args: argparse.Namespace) -> Installation:
    """Read the arguments; raises ServiceError."""
    account, config = account_of(args), getattr(args, "config", None)
    return Installation(
        program=find_program(sys.argv[0], sys.executable),
        user=account.pw_name,
        uid=account.pw_uid,
        home=Path(account.pw_dir),
        system=args.system,
        config=Path(config).expanduser().absolute() if config else None,
    )


def account_of(args: argparse.Namespace) -> pwd.struct_passwd:
    """Find whose daemon it is: for the machine the named user or the one behind sudo, else the caller."""
    if args.user and not args.system:
        raise ServiceError("--user goes with --system only: add it, or run the command as that user")
    # sudo's word on who called it, no setting of ours
    name = (args.user or os.environ.get("SUDO_USER")) if args.system else None
    account = find_user(name) if name else pwd.getpwuid(os.geteuid())
    if args.system and account.pw_uid == 0 and not args.user:
        raise ServiceError("the daemon should not run as root: say whose it is with --user NAME")
    return account


def refuse_protected(it: Installation, platform: str) -> None:
    """Refuse, on a Mac, a program in a folder that macOS closes to services; raises ServiceError."""
    if platform == "darwin":
        launchd.refuse_protected(it.home, code_paths(it))


def refuse_caller(it: Installation, euid: int) -> None:
    """Refuse to do as root what is the user's, and the reverse; raises ServiceError."""
    if it.system and euid:
        raise ServiceError(f"--system needs root: run with sudo, as sudo {it.program} and the same words")
    if not it.system and not euid and os.environ.get("SUDO_USER"):
        raise ServiceError("a user's service is not for root: run without sudo, or add --system")


def refuse_second(it: Installation, manager: Manager) -> None:
    """Refuse a second daemon beside one of the other kind; raises ServiceError."""
    other = manager.service_file(it.other_kind)
    if other.exists():
        words = "uninstall" if it.system else "uninstall --system"
        raise ServiceError(f"{other} is installed already: run agent-daemon {words} first")


def refuse_missing(it: Installation) -> None:
    """Refuse a configuration that is not there, with which the daemon would not start; raises ServiceError."""
    if it.config and not is_there(it.config):
        raise ServiceError(f"there is no {it.config}: correct --config, or make the file first")


def refuse_open_secrets(it: Installation, manager: Manager) -> None:
    """Refuse secrets that others can read, with which the daemon would not start; raises ServiceError."""
    try:
        refuse_open_files(manager.secrets_folder(it))
    except OpenSecretError as error:
        raise ServiceError(f"{error}, then run this again") from None


def announce_missing(it: Installation, manager: Manager) -> bool:
    """Say where DATABASE_URL goes when it is nowhere, as a service does not see the shell's; tell whether it is set."""
    secret = manager.secrets_folder(it) / "database_url"
    is_set = has_database(it, secret)
    if not is_set:
        say(f"DATABASE_URL is nowhere yet: put it into {secret} (mode 0600), then run this again")
    return is_set


def say(*lines: str) -> None:
    """Print to the person who called."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
