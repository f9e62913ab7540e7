"""The command `agent-vault`: the server, and what its operator needs."""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import platformdirs
import psycopg
import structlog

from notifier.ages import say_age
from notifier.complaint import one_line
from notifier.configuration import SettingsError
from notifier.logs import open_logs
from notifier.secrecy import read_secret
from sql import migrate
from sql.connecting import explain
from sql.logins import LoginError
from sql.migrate import SchemaTooOldError
from sql.version import __version__
from vault import sender, settings, up
from vault.data_folder import FolderError
from vault.doctor import add_doctor
from vault.embedded import EmbeddedError
from vault.jobs_cli import add_jobs
from vault.logins_cli import add_grant, add_revoke
from vault.sender import SendFailed
from vault.serve import ListenError, fast_loop, serve
from vault.up import UpError

CONFIGURATION: Final = 78  # EX_CONFIG of sysexits.h: a supervisor need not try again
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

REMEDIES: Final[dict[type[Exception], str]] = {
    psycopg.errors.InsufficientPrivilege: "run it as the owner of the tables (on Supabase the role postgres)",
    psycopg.errors.LockNotAvailable: "another session holds a table; nothing was changed, try again",
}


def main() -> None:
    """Run the command and exit; a person's mistake is told in a line."""
    args = parser().parse_args()
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        sys.exit(run(args))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # who read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MISTAKES as error:
        sys.exit(complain(error))


def complain(error: Exception) -> int:
    """Tell what is wrong on standard error, and return the exit status."""
    lines = error.lines if isinstance(error, SettingsError) else [one_line(error)]
    if isinstance(error, psycopg.OperationalError | psycopg.errors.ReadOnlySqlTransaction):
        lines = [explain(error)]
    if isinstance(error, OSError) and error.filename:
        lines = [f"{error.filename}: {(error.strerror or '').lower()}"]
    for kind, remedy in REMEDIES.items():
        if isinstance(error, kind):
            lines = [f"{one_line(error)}: {remedy}"]
    for line in lines:
        print(f"agent-vault: {line}", file=sys.stderr)
    return CONFIGURATION if isinstance(error, SettingsError) else 1


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    root = argparse.ArgumentParser("agent-vault", description="Composio webhooks to an OpenClaw agent, never lost.")
    root.add_argument("--version", action="version", version=f"agent-vault {__version__}")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    _add_up(commands.add_parser("up", help="run everything on this machine, over an embedded Postgres"))
    _add_serve(commands.add_parser("serve", help="run the webhook endpoint"))
    _add_migrate(commands.add_parser("migrate", help="create or adopt the tables, or bring them up to date"))
    add_grant(commands.add_parser("grant", help="make a login of its own for a daemon, a vault or an operator"))
    add_revoke(commands.add_parser("revoke", help="end such a login, and give back what a daemon holds"))
    _add_send(commands.add_parser("send", help="send a signed delivery as Composio does"))
    add_doctor(commands.add_parser("doctor", help="look at the settings, the database and an old open door"))
    add_jobs(commands.add_parser("jobs", help="list failed jobs, retry or cancel them, replay events"))
    return root


def _add_up(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=_folder, default=default_data(), help="the folder that lasts (%(default)s)")
    command.add_argument("--port", type=int, default=8080, help="of the vault; 0 takes a free one (%(default)s)")
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
    command.add_argument("--port", type=int, help="port to listen on (VAULT_PORT, 8080)")
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


def _add_send(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "slug", nargs="?", type=_slug, default="GMAIL_NEW_GMAIL_MESSAGE", help="the trigger (%(default)s)"
    )
    command.add_argument("--to", metavar="URL", default="http://127.0.0.1:8080", help="the vault (%(default)s)")
    command.add_argument("--body", metavar="FILE", type=Path, help="send this file's bytes as they are")
    command.add_argument("--count", type=_count, default=1, help="how many deliveries (%(default)s)")
    command.add_argument(
        "--secret-file", metavar="F", type=Path, help="the webhook secret (COMPOSIO_WEBHOOK_SECRET, or that of up)"
    )
    command.set_defaults(run=_send)


def _folder(text: str) -> Path:
    """Read a folder's path, which is not nothing."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the folder has no name")
    return Path(text)


def _slug(text: str) -> str:
    """Read the name of a trigger, which is not nothing."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the trigger has no name: give one like GMAIL_NEW_GMAIL_MESSAGE, or none")
    return text


def _count(text: str) -> int:
    """Read a number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)


def default_data() -> Path:
    """Return the folder of `up` in the platform's place for a user's data."""
    return Path(platformdirs.user_data_path("agent-vault", appauthor=False))


def _up(args: argparse.Namespace) -> int:
    return up.run(up.Plan.of(args))


def _serve(args: argparse.Namespace) -> int:
    with open_logs():
        try:
            chosen = settings.load(args.config, host=args.host, port=args.port)
            with open_logs(level=chosen.log_level), asyncio.Runner(loop_factory=fast_loop()) as runner:
                for note in settings.mistyped_names():
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
    # verifies nothing, so it does not ask for the webhook's secret
    chosen = settings.load(args.config, composio_webhook_secrets="unused")
    done = migrate.migrate(chosen.database_url.get_secret_value(), keep_anon=args.keep_anon)
    was = {None: "no schema of ours", done.after: "up to date already"}.get(done.before, f"version {done.before}")
    print(f"schema version {done.after} (was: {was})")
    for notice in done.notices:
        print(notice)
    if done.open_jobs:
        open_jobs = [f"{one.count} {one.status} (oldest {say_age(one.oldest_s)})" for one in done.open_jobs]
        print(f"open jobs: {', '.join(open_jobs)}")
    return 0


def _send(args: argparse.Namespace) -> int:
    url = args.to if args.to.rstrip("/").count("/") > 2 else args.to.rstrip("/") + up.WEBHOOK  # noqa: PLR2004 - //host/
    if args.body:
        messages = sender.raw_messages(args.body.read_bytes(), args.count)
    else:
        messages = sender.sample_messages(args.slug, args.count, time.time())
    receipts = asyncio.run(sender.send(url, _secret(args.secret_file), messages))
    for receipt in receipts:
        print(f"{receipt.webhook_id}  {receipt.status}  {receipt.ms:.1f} ms  {receipt.answer or ''}")
    return int(any(receipt.status != 200 for receipt in receipts))  # noqa: PLR2004


def _secret(file: Path | None) -> str:
    """Find the secret to sign with: the named file, the environment, or what `up` keeps."""
    kept = default_data() / "secrets" / "composio_webhook_secret"
    from_environment = os.environ.get("COMPOSIO_WEBHOOK_SECRET", "").split(",")[0].strip()
    if file is None and from_environment:
        return from_environment
    if file is None and not kept.exists():
        raise SettingsError("COMPOSIO_WEBHOOK_SECRET is not set: set it, or give --secret-file")
    return read_secret(file or kept).decode(errors="replace").strip()
