"""The commands `agent-vault grant` and `revoke`: a login of its own for each machine with a daemon."""

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


def add_grant(command: argparse.ArgumentParser) -> None:
    """Describe `grant`."""
    daemon = _add_daemon(command, "make a login that can serve these queues and nothing else, and show it once", _grant)
    daemon.add_argument(
        "--queue", type=_queue, action="append", metavar="Q", help="one that it serves; may come again (default)"
    )


def add_revoke(command: argparse.ArgumentParser) -> None:
    """Describe `revoke`."""
    _add_daemon(command, "end a login, and give back the jobs that it holds", _revoke)


def _add_daemon(command: argparse.ArgumentParser, what: str, run: Any) -> argparse.ArgumentParser:
    below = command.add_subparsers(required=True, metavar="KIND")
    daemon = below.add_parser("daemon", help=what)
    daemon.add_argument("name", type=_name, metavar="NAME", help="of the daemon (DAEMON_NAME) and of its login")
    daemon.add_argument("--config", type=Path, help="a TOML file (VAULT_CONFIG)")
    daemon.set_defaults(run=run)
    return daemon


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
    return settings.load(args.config, composio_webhook_secrets="unused").database_url.get_secret_value()


def _grant(args: argparse.Namespace) -> int:
    queues = tuple(dict.fromkeys(args.queue or ["default"]))
    granted = logins.grant_daemon(_dsn(args), args.name, queues)
    print(granted.dsn)
    what = "is made" if granted.is_new else "has another password and these queues from now on"
    print(
        f"the login {granted.name} {what}; its connection string is shown this once. on its machine set DATABASE_URL "
        f"to it, DAEMON_NAME to {granted.name} and DAEMON_QUEUES to {','.join(queues)}",
        file=sys.stderr,
    )
    return 0


def _revoke(args: argparse.Namespace) -> int:
    given_back = logins.revoke_daemon(_dsn(args), args.name)
    print(f"the login {args.name} is gone; jobs given back: {given_back}")
    return 0
