"""The command line of `agent-vault jobs`, and what a person may get wrong in it."""

import argparse
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from notifier.ages import parse_age, parse_moment

STATUSES: Final = ("failed", "queued", "processing", "done")
LIST_MAX: Final = 10_000


def add_config(command: argparse.ArgumentParser, **default: Any) -> None:
    """Add the option that every command has."""
    command.add_argument("--config", type=Path, help="a TOML file (VAULT_CONFIG)", **default)


def add_choice(command: argparse.ArgumentParser, **default: Any) -> None:
    """Add what chooses jobs by their kind."""
    command.add_argument("--type", type=text, metavar="GLOB", help="of this type, such as 'GMAIL_*'", **default)
    command.add_argument("--queue", type=text, help="of this queue", **default)


def add_dead(command: argparse.ArgumentParser, **default: Any) -> None:
    """Add what chooses jobs by their age and error."""
    ended = "that ended (open ones: came)"
    for name, like_replay, told in (("older", "until", "more"), ("newer", "since", "less")):
        command.add_argument(
            f"--{name}",
            f"--{like_replay}",
            type=age,
            metavar="AGE",
            help=f"{ended} {told} than this ago, as in 2h",
            **default,
        )
    command.add_argument("--error", type=text, metavar="TEXT", help="with this in the last error", **default)


def add_json(command: argparse.ArgumentParser, **default: Any) -> None:
    """Add the option for log tools."""
    command.add_argument("--json", action="store_true", help="one JSON object a line", **default)


def job_id(written: str) -> UUID:
    """Read a job's id."""
    try:
        return UUID(written)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{written!r} is no uuid") from None


def age(written: str) -> timedelta:
    """Read an age."""
    try:
        return timedelta(seconds=parse_age(written))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def moment(written: str) -> datetime | timedelta:
    """Read a time, which without an offset is UTC, or an age."""
    try:
        return parse_moment(written)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def limit(written: str) -> int:
    """Read how many jobs to show."""
    if not re.fullmatch("[0-9]{1,5}", written) or not 1 <= int(written) <= LIST_MAX:
        raise argparse.ArgumentTypeError(f"{written!r} is no number from 1 to {LIST_MAX}")
    return int(written)


def text(written: str) -> str:
    """Read a text that the database can hold."""
    try:
        written.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("it is not in UTF-8") from None
    return written
