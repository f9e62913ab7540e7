"""The command `agent-vault jobs`, as a process: what it shows, what it asks, what it refuses."""

import json
import os
import pty
import shlex
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import letters
import psycopg
import pytest

from sql.session import Session

DOCS = Path(__file__).parents[2] / "docs" / "dead-letters.md"
NOBODY = "00000000-0000-4000-8000-000000000009"

Done = subprocess.CompletedProcess[str]
Jobs = Callable[..., Done]


@pytest.fixture
def jobs(run: Callable[..., Done], dsn: str) -> Jobs:
    """Run `agent-vault jobs` over the test's database, without a terminal."""
    return lambda *arguments, **options: run("jobs", *arguments, DATABASE_URL=dsn, **options)


@pytest.fixture
def terminal() -> Iterator[Callable[[str], int]]:
    """A terminal on which this answer is typed."""
    opened: list[int] = []

    def typed(answer: str) -> int:
        ours, theirs = pty.openpty()
        opened.extend((ours, theirs))
        os.write(ours, answer.encode())
        return theirs

    yield typed
    for one in opened:
        os.close(one)


def statuses(database: psycopg.Connection) -> list[str]:
    """The status of every job, the oldest job first."""
    return [one for (one,) in database.execute("select status from public.jobs order by created_at, id").fetchall()]


def refused(done: Done, *words: str, status: int = 1) -> None:
    """Fail unless a command said so in one line and did nothing else."""
    assert (status, "") == (done.returncode, done.stdout)
    line = done.stderr.splitlines()[-1]
    if status == 1:  # with 2 the usage stands before it
        assert 1 == len(done.stderr.splitlines())
    for word in words:
        assert word in line


def test_it_lists_dead_letters(jobs: Jobs, database: psycopg.Connection) -> None:
    """One line each, with what a person looks for; an error cannot touch the terminal, a payload is not shown."""
    job_id = letters.dead(database, finished_at="2 hours", attempts=5, last_error="500: \x1b[31mred\nline", replay=True)
    letters.dead(database, status="done")
    (line,) = jobs().stdout.splitlines()
    assert f"{job_id}  failed 2 hours ago  GMAIL_NEW  default  attempt 5 of 5  replay  500:  [31mred line" == line


def test_choices_narrow_the_list(jobs: Jobs, database: psycopg.Connection) -> None:
    """Status, type, queue, age, error and number."""
    old = letters.dead(database, finished_at="3 days", last_error="timeout")
    new = letters.dead(database, finished_at="1 hour", type="GITHUB_PUSH", queue="work")
    queued = letters.dead(database, status="queued", finished_at=None)
    cases: list[tuple[list[str], list[uuid.UUID]]] = [
        ([], [new, old]),
        (["--status", "queued"], [queued]),
        (["--status", "processing"], []),
        (["--type", "GITHUB_*"], [new]),
        (["--type", "gmail_new"], [old]),
        (["--queue", "work"], [new]),
        (["--older", "2h"], [old]),
        (["--newer", "1d"], [new]),
        (["--since", "1d"], [new]),
        (["--until", "2h"], [old]),
        (["--newer", "4d", "--older", "90m"], [old]),
        (["--error", "TIME"], [old]),
        (["--limit", "1"], [new]),
    ]
    for arguments, expected in cases:
        shown = [json.loads(line)["id"] for line in jobs(*arguments, "--json").stdout.splitlines()]
        assert [str(one) for one in expected] == shown, arguments
    assert "no processing job\n" == jobs("--status", "processing").stdout
    assert "these are the first 1: --limit shows more" == jobs("--limit", "1").stdout.splitlines()[-1]


def test_it_shows_a_job(jobs: Jobs, database: psycopg.Connection) -> None:
    """All that is known, for a person or as JSON; the payload's words only when asked for."""
    learning = uuid.uuid4()
    given = {"attempts": 4, "claims": 7, "lapses": 2, "outcome": '{"status": 500}', "locked_by": "mac"}
    job_id = letters.dead(database, **given, learning_id=learning)
    shown = dict(line.split(maxsplit=1) for line in jobs("show", str(job_id)).stdout.splitlines())
    expected = {
        "job": str(job_id), "type": "GMAIL_NEW", "status": "failed (1 minute ago)", "attempts": "4 of 5",
        "claims": "7", "lapses": "2", "learning": str(learning), "outcome": '{"status": 500}',
        "last": "error  500: no", "worker": "mac",
    }  # fmt: skip
    assert expected == {name: shown[name] for name in expected}
    assert 7 == json.loads(jobs("show", str(job_id), "--json").stdout)["claims"]
    assert 7 == json.loads(jobs("--json", "show", str(job_id)).stdout)["claims"]
    for words in ([], ["--json"]):
        assert "canary" not in jobs("show", str(job_id), *words).stdout
        assert "canary" in jobs("show", str(job_id), "--payload", *words).stdout


def test_what_awaits_handling_is_shown(jobs: Jobs, database: psycopg.Connection) -> None:
    """It is under way in the agent's hands, since it was sent; what nobody handled says so when it failed."""
    sent = letters.dead(
        database, status="processing", finished_at=None, last_error=None, awaits_handling=True,
        delivered_at="5 minutes", attempts=2,
    )  # fmt: skip
    (line,) = jobs("--status", "processing").stdout.splitlines()
    assert f"{sent}  awaits handling, sent 5 minutes ago  GMAIL_NEW  default  attempt 2 of 5" == line
    assert "status      awaits handling (sent 5 minutes ago)" in jobs("show", str(sent)).stdout.splitlines()
    assert json.loads(jobs("show", str(sent), "--json").stdout)["awaits_handling"]
    database.execute("update public.jobs set attempts = 5, lease_until = now() - interval '1 s'")
    database.execute("select agent_vault.return_lapsed('default')")
    letters.age(database, "jobs", sent, "2 hours")
    (line,) = jobs().stdout.splitlines()
    assert f"{sent}  failed 2 hours ago  GMAIL_NEW  default  attempt 5 of 5  not handled" == line


def test_a_job_that_waits_for_ever_is_shown(jobs: Jobs, database: psycopg.Connection) -> None:
    """A time that is none, a payload beyond Python's numbers, a job without any: all of it can be looked at."""
    number = "1" * 5000
    payload = f'{{"number": {number}}}'
    parked = letters.dead(database, status="queued", finished_at=None, payload=payload)
    database.execute("update public.jobs set run_at = 'infinity', created_at = 'infinity'")
    bare = letters.dead(database, payload=None)
    assert "infinity" in jobs("show", str(parked)).stdout
    assert number in jobs("show", str(parked), "--payload").stdout
    assert "infinity" in jobs("--status", "queued").stdout
    assert 0 == jobs("show", str(bare), "--payload").returncode


def test_one_job_is_retried(jobs: Jobs, database: psycopg.Connection) -> None:
    """At once and without a question; the second time it is no more failed, which is said and changes nothing."""
    job_id = letters.dead(database)
    assert f"job {job_id} is queued again\n" == jobs("retry", str(job_id)).stdout
    before = letters.job(database, job_id)
    refused(jobs("retry", str(job_id)), f"job {job_id} is queued, not failed: nothing was changed")
    refused(jobs("retry", NOBODY), f"there is no job {NOBODY}")
    assert before == letters.job(database, job_id)


def test_a_job_is_cancelled(jobs: Jobs, database: psycopg.Connection) -> None:
    """Queued or under way it ends as failed; what is over is left as it is, which is said."""
    for status in ("queued", "processing"):
        job_id = letters.dead(database, status=status, finished_at=None, last_error=None)
        assert f"job {job_id} is cancelled\n" == jobs("cancel", str(job_id)).stdout
        before = letters.job(database, job_id)
        assert {"reason": "cancelled"} == before["outcome"]
        refused(jobs("cancel", str(job_id)), f"job {job_id} is failed, neither queued nor processing: nothing was")
        assert before == letters.job(database, job_id)
    refused(jobs("cancel", NOBODY), f"there is no job {NOBODY}")


def test_a_cancelled_job_is_retried(jobs: Jobs, database: psycopg.Connection) -> None:
    """Nothing says any more that it was cancelled, nor that it has been queued since it came."""
    job_id = letters.dead(database, status="queued", finished_at=None, last_error=None, created_at="8 minutes")
    assert 0 == jobs("cancel", str(job_id)).returncode
    assert 0 == jobs("retry", str(job_id)).returncode
    (line,) = jobs("--status", "queued").stdout.splitlines()
    assert f"{job_id}  queued, came 8 minutes ago  GMAIL_NEW  default  attempt 0 of 5" == line
    page = jobs("show", str(job_id)).stdout
    assert "status      queued (came 8 minutes ago)" in page.splitlines()
    assert "cancelled" not in page


def test_many_are_retried_after_a_count(
    jobs: Jobs, database: psycopg.Connection, terminal: Callable[[str], int]
) -> None:
    """It says how many and shows a few, and does nothing before a yes."""
    for _ in range(5):
        letters.dead(database, finished_at="3 hours", last_error="timeout", type="GMAIL_NEW")
    for other in ({"type": "SLACK"}, {"last_error": "400"}, {"finished_at": "1 minute"}):
        letters.dead(database, **{"finished_at": "3 hours", "last_error": "timeout", **other})
    choice = ("retry", "--type", "GMAIL_*", "--older", "2h", "--error", "time")
    for answer in ("n\n", "\n", "\x04", "yess\n"):
        asked = jobs(*choice, stdin=terminal(answer))
        lines = asked.stdout.splitlines()
        assert (1, "failed jobs: 5", "  and 2 more") == (asked.returncode, lines[0], lines[4])
        assert "  3 hours ago  GMAIL_NEW  default  timeout" in lines[1]
        assert lines[5].startswith("queue them again? [y/N]")
        assert asked.stdout.endswith("nothing was changed\n")
        assert ["failed"] * 8 == statuses(database)
    assert jobs(*choice, stdin=terminal("y\n")).stdout.endswith("queued again: 5\n")
    assert 5 == statuses(database).count("queued")


def test_without_a_terminal_it_needs_a_yes(jobs: Jobs, database: psycopg.Connection) -> None:
    """A script that did not say --yes changes nothing, and hears why."""
    letters.dead(database)
    asked = jobs("retry", "--type", "*")
    assert (1, "failed jobs: 1") == (asked.returncode, asked.stdout.splitlines()[0])
    assert "agent-vault: nothing was changed: give --yes where there is no terminal to ask on\n" == asked.stderr
    assert ["failed"] == statuses(database)
    assert 0 == jobs("retry", "--type", "*", "--yes").returncode
    assert ["queued"] == statuses(database)
    nothing = jobs("retry", "--type", "*", "--yes")
    told = "no failed job is meant (one that was cancelled needs its ID): nothing was changed\n"
    assert (0, told) == (nothing.returncode, nothing.stdout)


def test_more_than_a_batch_is_retried(jobs: Jobs, database: psycopg.Connection) -> None:
    """All that were counted, over as many statements as it takes."""
    database.execute("insert into public.jobs (type, status) select 'X', 'failed' from generate_series(1, 1201)")
    assert jobs("retry", "--type", "X", "--yes").stdout.endswith("queued again: 1201\n")
    assert ["queued"] * 1201 == statuses(database)


def test_more_than_one_command_takes(jobs: Jobs, database: psycopg.Connection) -> None:
    """Of more than ten thousand the longest dead are retried, and it is said; the same command takes the rest."""
    database.execute("insert into public.jobs (type, status) select 'X', 'failed' from generate_series(1, 10003)")
    asked = jobs("retry", "--newer", "1d", "--yes")
    assert "failed jobs, the longest dead of more: 10000" == asked.stdout.splitlines()[0]
    assert 3 == statuses(database).count("failed")
    assert jobs("retry", "--newer", "1d", "--yes").stdout.endswith("queued again: 3\n")


async def test_events_are_replayed(
    jobs: Jobs, session: Session, database: psycopg.Connection, terminal: Callable[[str], int]
) -> None:
    """Those of the span, type and queue, after a count and a yes, as new jobs."""
    names = [letters.event(1), letters.event(2, "GITHUB_PUSH", "work"), letters.event(3)]
    old, other, new = await letters.record(session, *names)
    letters.age(database, "agent_learnings", old, "3 days")
    letters.age(database, "agent_learnings", new, "1 hour")
    at = letters.learning(database, new)["created_at"].isoformat()
    choice = ("replay", "--since", at, "--type", "gmail_*")
    asked = jobs(*choice, stdin=terminal("n\n"))
    assert (1, "events: 1") == (asked.returncode, asked.stdout.splitlines()[0])
    assert f"  {new}  1 hour ago  GMAIL_NEW  default" == asked.stdout.splitlines()[1]
    assert 1 == jobs(*choice).returncode
    assert 3 == len(statuses(database))
    assert jobs(*choice, stdin=terminal("y\n")).stdout.endswith("new jobs: 1\n")
    assert [False, True] == [one["replay"] for one in letters.jobs_of(database, new)]
    assert jobs("replay", "--since", "4d", "--until", "2d", "--yes").stdout.endswith("new jobs: 1\n")
    assert jobs("replay", "--since", "4d", "--queue", "work", "--yes").stdout.endswith("new jobs: 1\n")
    assert [2, 2, 2] == [len(letters.jobs_of(database, one)) for one in (old, other, new)]
    assert "no event is meant: nothing was changed\n" == jobs("replay", "--since", "2d", "--until", "1d").stdout


def test_too_many_events_are_not_replayed(jobs: Jobs, database: psycopg.Connection) -> None:
    """A replay is all or nothing, so that one of more than ten thousand events is refused."""
    database.execute(
        "insert into agent_learnings (learning, event_id, queued_at) select 'x', n::text, now()"
        " from generate_series(1, 10001) n"
    )
    refused(jobs("replay", "--since", "1d", "--yes"), "more than 10000 events: narrow --since and --until")
    assert [] == statuses(database)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--status", "lost"], ["--status", "lost"]),
        (["--older", "soon"], ["'soon' is no age: write a number and one of s, m, h, d and w"]),
        (["--older", "-3d"], ["--older"]),
        (["--newer", "999999w"], ["longer than a hundred years"]),
        (["--limit", "0"], ["'0' is no number from 1 to 10000"]),
        (["--limit", "many"], ["'many' is no number from 1 to 10000"]),
        (["--error", os.fsdecode(b"\xff")], ["not in UTF-8"]),
        (["show", "7"], ["'7' is no uuid"]),
        (["show"], ["ID"]),
        (["retry", "7"], ["'7' is no uuid"]),
        (["retry"], ["give an ID, or --type"]),
        (["retry", NOBODY, "--type", "X"], ["an ID and other choices do not go together"]),
        (["cancel", "7"], ["'7' is no uuid"]),
        (["replay"], ["--since"]),
        (["--since", "soon"], ["'soon' is no age"]),
        (["replay", "--since", "1h", "--until", "2h"], ["--since is later than --until"]),
        (["replay", "--since", "2999-12-31T08:00Z", "--yes"], ["--since is later than --until"]),
        (["replay", "--since", "noon"], ["'noon' is no time: write it as in 2026-01-31T08:00Z, or as an age"]),
        (["lose"], ["lose"]),
    ],
)
def test_a_mistake_is_told_in_a_line(jobs: Jobs, arguments: list[str], words: list[str]) -> None:
    """What cannot be meant is refused before anything is looked at, with what it must be."""
    refused(jobs(*arguments), *words, status=2)


def test_an_age_of_nothing_is_an_age(jobs: Jobs, database: psycopg.Connection) -> None:
    """0s is now, and no missing choice."""
    letters.dead(database)
    assert 1 == len(jobs("--older", "0s").stdout.splitlines())
    assert "no failed job\n" == jobs("--newer", "0s").stdout
    assert 0 == jobs("retry", "--older", "0s", "--yes").returncode


def test_it_names_what_is_missing(run: Callable[..., Done], blank_dsn: str) -> None:
    """No setting, no database and no schema are told as the other commands tell them."""
    unset = run("jobs")
    assert (78, True) == (unset.returncode, "DATABASE_URL is not set" in unset.stderr)
    assert "COMPOSIO_WEBHOOK_SECRET" not in unset.stderr
    refused(run("jobs", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none"), "agent-vault: ")
    refused(run("jobs", DATABASE_URL=blank_dsn), "run agent-vault migrate")


def documented() -> list[str]:
    """The commands of the page."""
    blocks = DOCS.read_text("utf-8").split("```")[1::2]
    return [line for block in blocks for line in block.strip().splitlines()]


@pytest.mark.parametrize("command", documented())
async def test_the_documented_commands_run(
    jobs: Jobs, session: Session, database: psycopg.Connection, terminal: Callable[[str], int], command: str
) -> None:
    """Each command of the page does what it is there for, over a database that has something for it."""
    program, group, *arguments = shlex.split(command)
    assert ("agent-vault", "jobs") == (program, group)
    failed = letters.dead(database, id=NOBODY[:-1] + "1", finished_at="3 hours", last_error="timeout")
    letters.dead(database, id=NOBODY[:-1] + "3", finished_at="1 minute", last_error="timeout")
    letters.dead(database, id=NOBODY[:-1] + "4", finished_at="4 days", type="GMAIL_NEW")
    letters.dead(database, id=NOBODY[:-1] + "2", finished_at=None, status="queued", queue="work")
    (event,) = await letters.record(session, letters.event(1, "GITHUB_PUSH", "work"))
    if "2026-01-31T08:00Z" in command:
        database.execute("update public.agent_learnings set created_at = '2026-01-31T08:00Z'")
    before = statuses(database), len(letters.jobs_of(database, event)), letters.job(database, failed)
    done = jobs(*arguments, stdin=terminal("y\n"))
    assert (0, "") == (done.returncode, done.stderr)
    assert not done.stdout.startswith("no ")
    after = statuses(database), len(letters.jobs_of(database, event)), letters.job(database, failed)
    changes = arguments[:1] in (["retry"], ["cancel"], ["replay"])
    assert changes == (before != after)
