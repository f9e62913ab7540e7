"""The command `agent-vault`: the server, and what its operator needs."""

import argparse
import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psycopg
import structlog

from notifier.ages import say_age
from notifier.arguments import Command
from notifier.complaint import one_line
from notifier.configuration import CONFIGURATION, SettingsError
from notifier.logs import open_logs
from notifier.loop import fast_loop
from notifier.streams import standard_streams
from sql import migrate
from sql.connecting import explain
from sql.logins import LoginError
from sql.migrate import SchemaTooOldError
from sql.version import __version__
from vault import settings, up
from vault.data_folder import FolderError, default_data
from vault.doctor import add_doctor
from vault.embedded import EmbeddedError
from vault.jobs_cli import add_jobs
from vault.logins_cli import add_grant, add_revoke
from vault.send_cli import add_send
from vault.sender import SendFailed
from vault.serve import ListenError, serve
from vault.up import UpError

PORT_MAX: Final = 65_535
MISTAKES = (
    SettingsError,
    SchemaTooOldError,
    LoginError,
    ListenError,
    SendFailed,
    UpError,
    FolderError,
    EmbeddedError,
    psycopg.Error,
    OSError,
)

REMEDIES: Final[tuple[tuple[type[Exception], str, str], ...]] = (  # by an error's kind and words, the first that fits
    (
        psycopg.errors.InsufficientPrivilege,
        "for (function|schema agent_vault)",
        (
            "this login is not for that: take that of the tables' owner (on Supabase the role postgres), or for "
            "agent-vault jobs one that agent-vault grant operator made"
        ),
    ),
    (
        psycopg.errors.InsufficientPrivilege,
        "for (database|schema)",
        (
            "this login may create nothing there: run it as the database's owner, or grant it create on the database "
            "and on the schema public"
        ),
    ),
    (
        psycopg.errors.InsufficientPrivilege,
        "",
        "run it as the owner of the tables (on Supabase the role postgres)",
    ),
    (psycopg.errors.LockNotAvailable, "", "another session holds a table; nothing was changed, try again"),
)


def main() -> None:
    """Run the command and exit; a person's mistake is told in a line."""
    with standard_streams("agent-vault"):
        _main()


def _main() -> None:
    args = parser().parse_args()
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        sys.exit(run(args))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        raise  # of our output, whose reader has gone
    except MISTAKES as error:
        sys.exit(complain(error))


def complain(error: Exception) -> int:
    """Tell what is wrong on standard error, and return the exit status."""
    lines = error.lines if isinstance(error, SettingsError) else [one_line(error)]
    if isinstance(error, psycopg.OperationalError | psycopg.errors.ReadOnlySqlTransaction):
        lines = [explain(error)]
    if isinstance(error, OSError) and error.filename:
        lines = [f"{error.filename}: {(error.strerror or '').lower()}"]
    for kind, words, remedy in REMEDIES:
        if isinstance(error, kind) and re.search(words, one_line(error)):
            lines = [f"{one_line(error)}: {remedy}"]
            break
    for line in lines:
        print(f"agent-vault: {line}", file=sys.stderr)
    return CONFIGURATION if isinstance(error, SettingsError) else 1


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    root = Command("agent-vault", description="Composio webhooks to an OpenClaw agent, never lost.")
    root.add_argument("--version", action="version", version=f"agent-vault {__version__}")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    _add_up(commands.add_parser("up", help="run everything on this machine, over an embedded Postgres"))
    _add_serve(commands.add_parser("serve", help="run the webhook endpoint"))
    _add_migrate(commands.add_parser("migrate", help="create or adopt the tables, or bring them up to date"))
    add_grant(commands.add_parser("grant", help="make a login of its own for a daemon, a vault or an operator"))
    add_revoke(commands.add_parser("revoke", help="end such a login, and give back what a daemon holds"))
    add_send(commands.add_parser("send", help="send a signed delivery as Composio does"))
    add_doctor(commands.add_parser("doctor", help="look at the settings, the database and an old open door"))
    add_jobs(commands.add_parser("jobs", help="list failed jobs, retry or cancel them, replay events"))
    return root


def _add_up(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=_folder, default=default_data(), help="the folder that lasts (%(default)s)")
    command.add_argument("--port", type=_port, default=8080, help="of the vault; 0 takes a free one (%(default)s)")
    command.add_argument("--gateway", metavar="URL", help="a real OpenClaw gateway in place of the stand-in")
    command.add_argument(
        "--sample", action="store_true", help="send the sample to a real gateway too: it wakes the agent"
    )
    command.add_argument(
        "--check", action="store_true", help="send the sample through and exit: 0, or 1 with the stage"
    )
    command.set_defaults(run=_up)


def _add_serve(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, help="a TOML file (VAULT_CONFIG)")
    command.add_argument("--host", help="address to listen on (VAULT_HOST, 127.0.0.1)")
    command.add_argument("--port", type=_port, help="port to listen on (VAULT_PORT, 8080)")
    command.set_defaults(run=_serve)


def _add_migrate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, help="a TOML file (VAULT_CONFIG)")
    command.add_argument(
        "--keep-anon", action="store_true", help="leave the old functions to a worker with the anon key"
    )
    command.add_argument(
        "--print", action="store_true", help="print one SQL script to paste into an SQL editor instead"
    )
    command.set_defaults(run=_migrate)


def _folder(text: str) -> Path:
    """Read a folder's path, which is not nothing."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the folder has no name")
    return Path(text)


def _port(text: str) -> int:
    """Read a port's number."""
    if not text.isdecimal() or int(text) > PORT_MAX:
        raise argparse.ArgumentTypeError(
            f"{text} is no port: give a number from 1 to {PORT_MAX}, or 0 for any free one"
        )
    return int(text)


def _up(args: argparse.Namespace) -> int:
    return up.run(up.Plan.of(args))


def _serve(args: argparse.Namespace) -> int:
    with open_logs():
        try:
            chosen = settings.load(args.config, host=args.host, port=args.port)
            with open_logs(level=chosen.log_level), asyncio.Runner(loop_factory=fast_loop()) as runner:
                for note in chosen.notes:
                    structlog.get_logger().warning("setting_ignored", note=note)
                runner.run(serve(chosen))
        except (SettingsError, SchemaTooOldError, ListenError) as error:
            if sys.stdout.isatty():
                raise
            for line in str(error).splitlines():
                structlog.get_logger().critical("vault_refused_to_start", problem=line)
            return CONFIGURATION if isinstance(error, SettingsError) else 1
    return 0


def _migrate(args: argparse.Namespace) -> int:
    if args.print:
        print(migrate.script(keep_anon=args.keep_anon), end="")
        return 0
    chosen = settings.load_database(args.config)
    done = migrate.migrate(chosen.database_url.get_secret_value(), keep_anon=args.keep_anon)
    facts = {None: "was: no schema of ours", done.after: "up to date already"}
    before = facts.get(done.before, f"was: version {done.before}")
    print(f"schema version {done.after} ({before})")
    for notice in done.notices:
        print(notice)
    if done.open_jobs:
        open_jobs = [f"{one.count} {one.status} (oldest {say_age(one.oldest_s)})" for one in done.open_jobs]
        print(f"open jobs: {', '.join(open_jobs)}")
    return 0
