"""The command `agent-daemon events`: how the agent, or a person, learns what happened and says what is dealt with.

It uses the daemon's own login and sees the daemon's queues alone. The agent runs it from a shell.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from daemon import events_text, persons_settings
from notifier.ages import parse_moment
from sql import events
from sql.dead_letters import database_time
from sql.migrate import require_version
from sql.session import Session

SINCE: Final = timedelta(days=7)
LIMIT: Final = 20
LIMIT_MAX: Final = 100
BATCH: Final = 500


def add_events(command: argparse.ArgumentParser) -> None:
    """Describe the command and those below it."""
    below = command.add_subparsers(required=True, metavar="COMMAND")
    listing = below.add_parser("list", help="what is new: ids, types and times, and no word of an event")
    listing.add_argument("--all", action="store_true", help="what is handled too")
    listing.add_argument("--since", type=_moment, default=SINCE, metavar="T", help="a time, or an age as in 2h (7d)")
    listing.add_argument("--limit", type=_limit, default=LIMIT, help=f"how many, at most {LIMIT_MAX} (%(default)s)")
    listing.set_defaults(verb=_list)
    show = below.add_parser("show", help="one event whole; it counts as read")
    show.add_argument("id", type=_id, metavar="ID", help="of the event, or of its job")
    show.set_defaults(verb=_show)
    ack = below.add_parser("ack", help="say that events are dealt with: they are not sent again")
    ack.add_argument("ids", type=_id, metavar="ID", nargs="+", help="of an event, or of a job")
    ack.set_defaults(verb=_acknowledge)
    for one in (listing, show, ack):
        one.add_argument("--json", action="store_true", help="JSON on a terminal too")
        # suppressed, so that a --config before the verb keeps its value
        one.add_argument("--config", type=Path, default=argparse.SUPPRESS, help="a TOML file (DAEMON_CONFIG)")


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with: its connection, the loop that this one lives in, and the queues that it sees."""

    session: Session
    loop: asyncio.Runner
    queues: Sequence[str]


@contextlib.contextmanager
def _opened(args: argparse.Namespace) -> Iterator[Desk]:
    """Connect for the length of a command. Raises SettingsError, SchemaTooOldError and psycopg.Error."""
    chosen = persons_settings.load_database(args.config)
    session = Session(chosen.database_url.get_secret_value(), name="agent-daemon events")
    with asyncio.Runner() as loop:
        try:
            loop.run(require_version(session))
            yield Desk(session, loop, chosen.queues)
        finally:
            loop.run(session.close())


def _list(args: argparse.Namespace) -> int:
    with _opened(args) as desk:
        now = desk.loop.run(database_time(desk.session))
        since = now - args.since if isinstance(args.since, timedelta) else args.since
        if since > now:
            print(f"agent-daemon: --since {since.isoformat()} is still to come, so there is nothing", file=sys.stderr)
        found = desk.loop.run(
            events.list_events(desk.session, desk.queues, since=since, new=not args.all, limit=args.limit + 1)
        )
    listed, more = found[: args.limit], len(found) > args.limit
    if _wants_json(args):
        return _put(events_text.listed(listed, more=more))
    if not listed:
        print("no event" if args.all else "nothing new")
        return 0
    for line in events_text.table(listed, now):
        print(line)
    if more:
        print(f"these are the newest {args.limit}: --limit shows up to {LIMIT_MAX}")
    return 0


def _show(args: argparse.Namespace) -> int:
    with _opened(args) as desk:
        event = desk.loop.run(events.read_event(desk.session, args.id, desk.queues))
    if event is None:
        return _not_found(desk, "event", [args.id])
    if _wants_json(args):
        return _put(events_text.shown(event))
    for line in events_text.page(event):
        print(line)
    return 0


def _acknowledge(args: argparse.Namespace) -> int:
    ids = list(dict.fromkeys(args.ids))
    with _opened(args) as desk:
        done = [
            one
            for start in range(0, len(ids), BATCH)
            for one in desk.loop.run(events.acknowledge_events(desk.session, ids[start : start + BATCH], desk.queues))
        ]
    missing = [one.id for one in done if not one.found]
    if _wants_json(args):
        _put(events_text.acknowledged(done))
    else:
        print(f"acknowledged: {len(done) - len(missing)}")
    return _not_found(desk, "event or job", missing) if missing else 0


def _wants_json(args: argparse.Namespace) -> bool:
    return args.json or not sys.stdout.isatty()


def _put(document: bytes) -> int:
    """Print JSON, which is UTF-8 whatever the locale says, and return the exit status."""
    sys.stdout.buffer.write(document + b"\n")
    sys.stdout.flush()
    return 0


def _not_found(desk: Desk, what: str, ids: Sequence[UUID]) -> int:
    """Name what there is not, and return the exit status."""
    place = f"queue {desk.queues[0]}" if len(desk.queues) == 1 else f"queues {', '.join(desk.queues)}"
    told = f"no {what} {' '.join(map(str, ids))} in the {place}: agent-daemon events list --all shows what there is"
    print(f"agent-daemon: {told}", file=sys.stderr)
    return 1


def _id(written: str) -> UUID:
    try:
        return UUID(written)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{written!r} is no uuid") from None


def _moment(written: str) -> object:
    try:
        return parse_moment(written)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _limit(written: str) -> int:
    if not (written.isascii() and written.isdigit()) or not 1 <= int(written[:9]) <= LIMIT_MAX:
        raise argparse.ArgumentTypeError(f"{written!r} is no number from 1 to {LIMIT_MAX}")
    return int(written)
