"""The commands `agent-vault grant` and `revoke`: a login of its own for each daemon, vault and operator."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any, Final

from notifier.values import QUEUE_MUST
from sql import logins
from vault import settings

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_RESERVED: Final = ("public", "none")
_DAEMONS: Final = "of the daemon (DAEMON_NAME) and of its login"
_OWN: Final = "of the login"
_PROGRAMS: Final = {"server": "serve", "operator": "jobs"}


def add_grant(command: argparse.ArgumentParser) -> None:
    """Describe `grant`."""
    below = command.add_subparsers(required=True, metavar="KIND")
    what = "make a login that can serve these queues and nothing else, and show it once"
    daemon = _add_kind(below, "daemon", what, _DAEMONS, _grant_daemon)
    daemon.add_argument(
        "--queue", type=_queue, action="append", metavar="Q", help="one that it serves; may come again (default)"
    )
    _add_kind(below, "server", "make a login for agent-vault serve, and show it once", _OWN, _grant)
    _add_kind(below, "operator", "make a login for agent-vault jobs, and show it once", _OWN, _grant)


def add_revoke(command: argparse.ArgumentParser) -> None:
    """Describe `revoke`."""
    below = command.add_subparsers(required=True, metavar="KIND")
    _add_kind(below, "daemon", "end a login, and give back the jobs that it holds", _DAEMONS, _revoke_daemon)
    _add_kind(below, "server", "end the login of a vault", _OWN, _revoke)
    _add_kind(below, "operator", "end the login of an operator", _OWN, _revoke)


def _add_kind(below: Any, kind: str, what: str, name: str, run: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = below.add_parser(kind, help=what)
    command.add_argument("name", type=_name, metavar="NAME", help=name)
    command.add_argument("--config", type=Path, help="a TOML file (VAULT_CONFIG)")
    command.set_defaults(run=run, kind=kind)
    return command


def _name(text: str) -> str:
    """Read a name that a role and a daemon can both have."""
    if not _NAME.fullmatch(text) or text.startswith("pg_") or text in _RESERVED:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name for a login: take up to 63 of a-z, 0-9, _ and -, a letter first "
            "(pg_, public and none are the database's own)"
        )
    return text


def _queue(text: str) -> str:
    """Read the name of a queue."""
    if not re.fullmatch(r"[a-z0-9_]{1,40}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no queue: take {QUEUE_MUST}")
    return text


def _dsn(args: argparse.Namespace) -> str:
    # verifies nothing, so it does not ask for the webhook's secret
    return settings.load_database(args.config).database_url.get_secret_value()


def _grant_daemon(args: argparse.Namespace) -> int:
    queues = tuple(dict.fromkeys(args.queue or ["default"]))
    granted = logins.grant_daemon(_dsn(args), args.name, queues)
    where = (
        f"on its machine set DATABASE_URL to it, DAEMON_NAME to {granted.name} and DAEMON_QUEUES to {','.join(queues)}"
    )
    _show(granted, "another password and these queues", where)
    return 0


def _grant(args: argparse.Namespace) -> int:
    granted = logins.grant(_dsn(args), args.kind, args.name)
    _show(granted, "another password", f"set DATABASE_URL to it for agent-vault {_PROGRAMS[args.kind]}")
    return 0


def _show(granted: logins.Granted, change: str, where: str) -> None:
    print(granted.dsn)
    what = "is made" if granted.is_new else f"has {change} from now on"
    print(f"the login {granted.name} {what}; its connection string is shown this once. {where}", file=sys.stderr)


def _revoke_daemon(args: argparse.Namespace) -> int:
    given_back = logins.revoke_daemon(_dsn(args), args.name)
    print(f"the login {args.name} is gone; jobs given back: {given_back}")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    logins.revoke(_dsn(args), args.kind, args.name)
    print(f"the login {args.name} is gone")
    return 0
