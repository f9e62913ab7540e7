"""The command `agent-vault jobs`: dead letters and other jobs, read, retried, cancelled and replayed by a person."""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sql import dead_letters
from sql.dead_letters import Found, Wanted
from sql.jobs import requeue_job
from sql.migrate import require_version
from sql.session import Session
from vault import jobs_arguments as arguments
from vault import jobs_text, settings

MOST = 10_000  # that one command retries or replays
BATCH = 500
ANSWER_S = 60.0  # a replay of so many is one statement
NARROW = "give an ID, or --type, --queue, --older, --newer or --error (--type '*' is every failed job)"


def add_jobs(jobs: argparse.ArgumentParser) -> None:
    """Describe the command and those below it; an option may stand before or after these."""
    arguments.add_config(jobs)
    jobs.add_argument("--status", choices=arguments.STATUSES, default="failed", help="(%(default)s)")
    arguments.add_choice(jobs)
    arguments.add_dead(jobs)
    jobs.add_argument("--limit", type=arguments.limit, default=20, help="how many to show (%(default)s)")
    arguments.add_json(jobs)
    jobs.set_defaults(run=_list)
    below = jobs.add_subparsers(metavar="COMMAND")
    kept = {"default": argparse.SUPPRESS}  # so that what stands before the command is not undone
    show = below.add_parser("show", help="show all that is known of a job, less its payload")
    retry = below.add_parser("retry", help="queue failed jobs again, with all their attempts")
    cancel = below.add_parser("cancel", help="end a job that is queued or under way as failed")
    replay = below.add_parser("replay", help="queue events of a span of time again, as new jobs")
    for command in (show, retry, cancel, replay):
        arguments.add_config(command, **kept)
    for command in (show, cancel):
        command.add_argument("id", type=arguments.job_id, metavar="ID")
    show.add_argument("--payload", action="store_true", help="its payload too, which may hold anybody's words")
    arguments.add_json(show, **kept)
    retry.add_argument("id", type=arguments.job_id, metavar="ID", nargs="?")
    arguments.add_dead(retry, **kept)
    replay.add_argument("--since", type=arguments.moment, metavar="T", required=True, help="a time, or an age")
    replay.add_argument("--until", type=arguments.moment, metavar="T", help="a time, or an age (now)")
    for command in (retry, replay):
        arguments.add_choice(command, **kept)
        command.add_argument("--yes", action="store_true", help="ask nothing")
    show.set_defaults(run=_show)
    retry.set_defaults(run=_retry, refuse=retry.error)
    cancel.set_defaults(run=_cancel)
    replay.set_defaults(run=_replay, refuse=replay.error)


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with: its connection, the loop that this one lives in, and the database's time."""

    session: Session
    loop: asyncio.Runner
    now: datetime


@contextlib.contextmanager
def _opened(args: argparse.Namespace) -> Iterator[Desk]:
    """Connect for the length of a command. Raises SchemaTooOldError and psycopg.Error."""
    chosen = settings.load_database(args.config)
    session = Session(chosen.database_url.get_secret_value(), name="agent-vault jobs", deadline_s=ANSWER_S)
    with asyncio.Runner() as loop:
        try:
            loop.run(require_version(session))
            yield Desk(session, loop, loop.run(dead_letters.database_time(session)))
        finally:
            loop.run(session.close())


def _list(args: argparse.Namespace) -> int:
    with _opened(args) as desk:
        documents = desk.loop.run(
            dead_letters.list_jobs(desk.session, args.status, _wanted(args, desk.now), args.limit)
        )
    for document in documents:
        print(bytes(document).decode() if args.json else jobs_text.line(jobs_text.read(document), desk.now))
    if len(documents) == args.limit:
        print(f"these are the first {args.limit}: --limit shows more", file=sys.stderr if args.json else sys.stdout)
    if not args.json and not documents:
        print(f"no {args.status} job")
    return 0


def _show(args: argparse.Namespace) -> int:
    with _opened(args) as desk:
        document = desk.loop.run(dead_letters.show_job(desk.session, args.id, with_payload=args.payload))
    if document is None:
        return _nothing(f"there is no job {args.id}")
    if args.json:
        print(bytes(document).decode())
        return 0
    for line in jobs_text.page(jobs_text.read(document), desk.now):
        print(line)
    return 0


def _cancel(args: argparse.Namespace) -> int:
    with _opened(args) as desk:
        if not desk.loop.run(dead_letters.cancel_job(desk.session, args.id)):
            return _not_so(desk, args.id, "neither queued nor processing")
    print(f"job {args.id} is cancelled")
    return 0


def _retry(args: argparse.Namespace) -> int:
    is_narrowed = any(one is not None for one in (args.type, args.queue, args.older, args.newer, args.error))
    if is_narrowed == (args.id is not None):
        args.refuse(NARROW if args.id is None else "an ID and other choices do not go together")
    with _opened(args) as desk:
        return _retry_one(desk, args.id) if args.id else _retry_many(desk, args)


def _retry_one(desk: Desk, job_id: UUID) -> int:
    if not desk.loop.run(requeue_job(desk.session, job_id)):
        return _not_so(desk, job_id, "not failed")
    print(f"job {job_id} is queued again")
    return 0


def _retry_many(desk: Desk, args: argparse.Namespace) -> int:
    found = desk.loop.run(dead_letters.find_failed(desk.session, _wanted(args, desk.now), MOST + 1))
    if not found:
        print("no failed job is meant (one that was cancelled needs its ID): nothing was changed")
        return 0
    _tell(desk, "failed jobs, the longest dead of more" if len(found) > MOST else "failed jobs", found[:MOST])
    if not _agreed("queue them again?", is_sure=args.yes):
        return 1
    ids = [one.id for one in found[:MOST]]
    batches = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
    count = sum(desk.loop.run(dead_letters.requeue_jobs(desk.session, batch)) for batch in batches)
    print(f"queued again: {count}")
    return 0


def _replay(args: argparse.Namespace) -> int:
    with _opened(args) as desk:
        since, until = (_moment(desk, at) for at in (args.since, args.until or timedelta()))
        if since > until:
            args.refuse("--since is later than --until")
        wanted = Wanted(type=args.type, queue=args.queue, since=since, until=until)
        found = desk.loop.run(dead_letters.find_events(desk.session, wanted, MOST + 1))
        if len(found) > MOST:
            return _nothing(f"there are more than {MOST} events: narrow --since and --until, nothing was changed")
        if not found:
            print("no event is meant: nothing was changed")
            return 0
        _tell(desk, "events", found)
        if not _agreed("queue a new job for each?", is_sure=args.yes):
            return 1
        count = desk.loop.run(dead_letters.replay_learnings(desk.session, [one.id for one in found]))
    print(f"new jobs: {count}")
    return 0


def _moment(desk: Desk, at: datetime | timedelta) -> datetime:
    """Return a time; an age counts back from the database's now."""
    return desk.now - at if isinstance(at, timedelta) else at


def _wanted(args: argparse.Namespace, now: datetime) -> Wanted:
    since, until = (None if age is None else now - age for age in (args.newer, args.older))
    return Wanted(type=args.type, queue=args.queue, since=since, until=until, error=args.error)


def _tell(desk: Desk, what: str, found: Sequence[Found]) -> None:
    """Say how many are meant, and show some."""
    print(f"{what}: {len(found)}")
    for line in jobs_text.examples(found, desk.now):
        print(line)


def _agreed(question: str, *, is_sure: bool) -> bool:
    """Ask; without a terminal nobody is there to answer."""
    if is_sure:
        return True
    if not sys.stdin.isatty():
        _nothing("nothing was changed: give --yes where there is no terminal to ask on")
        return False
    print(f"{question} [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    print("nothing was changed")
    return False


def _not_so(desk: Desk, job_id: UUID, must: str) -> int:
    """Say of a job that it is not what the command is for."""
    document = desk.loop.run(dead_letters.show_job(desk.session, job_id, with_payload=False))
    if document is None:
        return _nothing(f"there is no job {job_id}")
    return _nothing(f"job {job_id} is {jobs_text.read(document).status}, {must}: nothing was changed")


def _nothing(why: str) -> int:
    """Say why nothing was done, and return the exit status."""
    sys.stdout.flush()  # what it is about comes first
    print(f"agent-vault: {why}", file=sys.stderr)
    return 1
