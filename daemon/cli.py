"""The command `agent-daemon`: the daemon itself, and its installation as a service."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import structlog

from daemon import agent_skill, service, settings
from daemon.doctor import add_doctor
from daemon.events_cli import add_events
from daemon.routes_cli import add_routes
from daemon.run import run
from daemon.service import ServiceError
from notifier.arguments import Command
from notifier.complaint import one_line
from notifier.configuration import CONFIGURATION, SettingsError
from notifier.logs import open_logs
from notifier.loop import fast_loop
from notifier.streams import standard_streams
from sql.migrate import SchemaTooOldError
from sql.version import __version__


def main() -> None:
    """Run the command and exit; a person's mistake is told in a line."""
    with standard_streams("agent-daemon"):
        _main()


def _main() -> None:
    args = parser().parse_args()
    verb: Callable[[argparse.Namespace], int] = args.verb
    try:
        sys.exit(verb(args))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        raise  # of our output, whose reader has gone
    except (SettingsError, ServiceError, SchemaTooOldError, psycopg.Error, OSError) as error:
        for line in (one_line(error) if isinstance(error, psycopg.Error) else str(error)).splitlines():
            print(f"agent-daemon: {line}", file=sys.stderr)
        sys.exit(CONFIGURATION if isinstance(error, SettingsError) else 1)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    root = Command("agent-daemon", description="Takes events from the vault's database to OpenClaw.")
    root.add_argument("--version", action="version", version=f"agent-daemon {__version__}")
    root.add_argument("--config", type=Path, help="a TOML file (DAEMON_CONFIG)")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    running = commands.add_parser("run", help="deliver, until SIGTERM")
    running.add_argument("--config", type=Path, default=argparse.SUPPRESS, help="a TOML file (DAEMON_CONFIG)")
    running.set_defaults(verb=_run)
    add_routes(commands.add_parser("routes", help="show where jobs go, and what the agent would be told"))
    add_events(commands.add_parser("events", help="what happened: list, show and acknowledge events"))
    for name, verb, told in (
        ("install", service.install, "have launchd or systemd run it, now and after every start"),
        ("uninstall", service.uninstall, "end that"),
    ):
        command = commands.add_parser(name, help=told)
        service.add_arguments(command)
        command.set_defaults(verb=verb)
    add_doctor(commands.add_parser("doctor", help="look at the settings, the database and the gateway"))
    skill = commands.add_parser("install-skill", help="tell OpenClaw's agents how to read and acknowledge events")
    agent_skill.add_arguments(skill)
    skill.set_defaults(verb=agent_skill.install)
    return root


def _run(args: argparse.Namespace) -> int:
    with open_logs():
        try:
            chosen = settings.load(args.config)
        except SettingsError as error:
            if sys.stdout.isatty():
                raise
            for line in error.lines:
                structlog.get_logger().critical("daemon_refused_to_start", problem=line)
            return CONFIGURATION
        with open_logs(level=chosen.log_level):
            for note in chosen.notes:
                structlog.get_logger().warning("setting_ignored", note=note)
            for path, remedy in chosen.open_files:
                structlog.get_logger().warning("file_open_to_others", path=str(path), remedy=remedy)
            _run_to_the_end(chosen)
    # not a return: Python would wait for a thread that looks up a name, which may hang for half a minute
    sys.stdout.flush()
    os._exit(0)


def _run_to_the_end(chosen: settings.DaemonSettings) -> None:
    """Run the daemon, and leave its resolver threads behind."""
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(run(chosen))
        runner.get_loop().set_default_executor(ThreadPoolExecutor(1))  # the loop's end waits for this one instead
