"""Logs of real programs, through real pipes and terminals."""

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

import msgspec
import pytest

LIMIT_S = 120
PROLOGUE = """
import structlog
from notifier.logs import open_logs
log = structlog.get_logger()
"""
TROUBLES = """
import asyncio, gc, logging, sys, threading, warnings

class Grave:
    def __del__(self):
        raise ValueError("in a destructor")

def fall():
    raise RuntimeError("in a thread")

async def forget():
    raise KeyError("in a task")

async def main():
    task = asyncio.create_task(forget())
    await asyncio.wait([task])
    del task
    gc.collect()
    asyncio.get_running_loop().call_exception_handler({"message": "in the loop", "exception": OSError("x")})

sys.at_the_very_end = Grave()
with open_logs(level="info"):
    log.debug("unheard")
    log.info("started", port=1)
    logging.getLogger("aiohttp").warning("bound to %d", 80)
    logging.getLogger("aiohttp").warning("bound to %d", "text")
    logging.getLogger("aiohttp").log(35, "between levels")
    warnings.warn("careful")
    thread = threading.Thread(target=fall)
    thread.start()
    thread.join()
    Grave()
    asyncio.run(main())
    raise SystemError("first line\\nsecond line")
"""
FLOOD = """
import pathlib, sys
with open_logs():
    for number in range(int(sys.argv[1])):
        log.info("counted", number=number)
    pathlib.Path(sys.argv[2]).write_text("done")
"""
ABRUPT = """
import os
with open_logs():
    for number in range(1000):
        log.info("counted", number=number)
os._exit(0)
"""
LATE_READER = """
import sys
with open_logs():
    for number in range(100_000):
        log.info("counted", number=number)
    sys.stderr.write("counted\\n")
    sys.stdin.read()
    log.info("read_again")
"""
LONG_LINES = """
import os
os.set_blocking(1, False)
with open_logs():
    for number in range(20):
        log.info("x" * 150_000, number=number)
    input()
"""
SHARED = """
import sys
with open_logs():
    for number in range(10_000):
        log.info("counted", number=number)
    sys.stderr.write("counted\\n")
    sys.stdin.read()
"""


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program in Python; one that hangs is killed, so that who reads from it goes on."""
    with ExitStack() as ends:

        def begin(code: str, *args: str, stdout: int | IO[bytes] = subprocess.PIPE) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", PROLOGUE + code, *args]
            pipe = subprocess.PIPE
            child = ends.enter_context(subprocess.Popen(command, stdin=pipe, stdout=stdout, stderr=pipe))
            watchdog = threading.Timer(LIMIT_S, child.kill)
            watchdog.start()
            ends.callback(watchdog.cancel)
            ends.callback(child.kill)
            return child

        yield begin


def _fields(lines: Iterable[bytes]) -> list[dict[str, object]]:
    """Read lines of JSON, strictly; each must have what every event has."""
    events = [msgspec.json.decode(line, type=dict[str, object]) for line in lines]
    for event in events:
        assert ["time", "level", "event"] == list(event)[:3]
    return events


def test_whatever_goes_wrong_is_a_line_of_json(start: Start) -> None:
    """Events, records, warnings and all kinds of uncaught exceptions are JSON, each once, and stderr is empty."""
    child = start(TROUBLES)
    out, err = child.communicate(timeout=LIMIT_S)
    events = _fields(out.splitlines())
    assert b"" == err
    assert 1 == child.returncode
    assert [
        ("info", None, "started"),
        ("warning", "aiohttp", "bound to 80"),
        ("warning", "aiohttp", "bound to %d ('text',)"),
        ("warning", "aiohttp", "between levels"),
        ("warning", "py.warnings", "UserWarning: careful"),
        ("critical", None, "thread_died"),
        ("error", None, "unraisable_exception"),
        ("error", "asyncio", "Task exception was never retrieved"),
        ("error", "asyncio", "in the loop"),
        ("critical", None, "uncaught_exception"),
    ] == [(event["level"], event.get("logger"), _gist(str(event["event"]))) for event in events]


def test_a_traceback_is_one_field(start: Start) -> None:
    """The traceback of an uncaught exception stands whole in one field of its line."""
    out, _ = start(TROUBLES).communicate(timeout=LIMIT_S)
    exception = str(_fields(out.splitlines())[-1]["exception"])
    assert exception.startswith("Traceback (most recent call last):\n")
    assert exception.endswith("\nSystemError: first line\nsecond line")


def test_time_has_microseconds_and_says_utc(start: Start) -> None:
    """The time of an event is ISO 8601 with microseconds, ending in Z."""
    out, _ = start('with open_logs(): log.info("x", time=1, level=2)').communicate(timeout=LIMIT_S)
    (event,) = _fields(out.splitlines())
    assert len("2026-01-02T03:04:05.000006Z") == len(str(event["time"]))
    assert str(event["time"]).endswith("Z")
    assert "info" == event["level"]


def test_leaving_the_block_writes_what_is_queued(start: Start) -> None:
    """Every line is out at the block's end, even where the program ends without ceremony after it."""
    child = start(ABRUPT)
    out, _ = child.communicate(timeout=LIMIT_S)
    assert list(range(1000)) == [event["number"] for event in _fields(out.splitlines())]


def test_a_reader_that_leaves_is_not_missed(start: Start, tmp_path: Path) -> None:
    """The program finishes its work, and complains neither then nor at its end."""
    child = start(FLOOD, "10000", str(tmp_path / "work"))
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    _, err = child.communicate(timeout=LIMIT_S)
    assert (0, b"", "done") == (child.returncode, err, (tmp_path / "work").read_text())


def test_a_closed_stdout_is_not_missed(tmp_path: Path) -> None:
    """A program that was started without a stdout works like any other."""
    command = 'exec "$0" -c "$1" 10000 "$2" >&-'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, PROLOGUE + FLOOD, str(tmp_path / "work")],
        stderr=subprocess.PIPE,
        timeout=LIMIT_S,
        check=False,
    )
    assert (0, b"", "done") == (done.returncode, done.stderr, (tmp_path / "work").read_text())


def test_a_reader_that_never_reads_holds_nothing_up(start: Start, tmp_path: Path) -> None:
    """The program logs a hundred thousand lines into a full pipe, finishes its work, and ends."""
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb") as out:  # noqa: PTH123 - descriptors, not paths
        child = start(FLOOD, "100000", str(tmp_path / "work"), stdout=out)
        _, err = child.communicate(timeout=LIMIT_S)
    assert (0, b"", "done") == (child.returncode, err, (tmp_path / "work").read_text())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_holds_nothing_up(start: Start, tmp_path: Path) -> None:
    """The program works on where its log can take no more."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        child = start(FLOOD, "10000", str(tmp_path / "work"), stdout=full)
        _, err = child.communicate(timeout=LIMIT_S)
    assert (0, b"", "done") == (child.returncode, err, (tmp_path / "work").read_text())


def test_dropped_lines_are_counted(start: Start) -> None:
    """A reader that was away is told how many lines it missed: they and those that it has are all there were."""
    child = start(LATE_READER)
    assert child.stdout is not None
    assert child.stderr is not None
    assert b"counted\n" == child.stderr.readline()
    lines = []
    while b"logs_dropped" not in (line := child.stdout.readline()):
        assert line, "the program ended and owned up to nothing"
        lines.append(line)
    (report,) = _fields([line])
    rest, _ = child.communicate(timeout=LIMIT_S)
    numbers = [event["number"] for event in _fields(lines)]
    assert list(range(len(numbers))) == numbers
    assert 100_000 == len(numbers) + int(str(report["count"]))
    assert ["read_again"] == [event["event"] for event in _fields(rest.splitlines())]


def test_long_lines_pass_a_pipe_that_does_not_block(start: Start) -> None:
    """Lines that no write takes whole arrive whole, in order."""
    child = start(LONG_LINES)
    assert child.stdout is not None
    events = _fields(child.stdout.readline() for _ in range(20))
    child.communicate(b"\n", timeout=LIMIT_S)
    assert [("x" * 150_000, number) for number in range(20)] == [(one["event"], one["number"]) for one in events]


def test_programs_that_share_a_pipe_do_not_cut_lines(start: Start) -> None:
    """Two programs that write as fast as they can into one pipe leave every line whole."""
    reader, writer = os.pipe()
    with open(reader, "rb") as shared:  # noqa: PTH123 - a descriptor, not a path
        with open(writer, "wb") as out:  # noqa: PTH123 - a descriptor, not a path
            children = [start(SHARED, stdout=out) for _ in range(2)]
        for child in children:  # both have more to write than the pipe takes, before anyone reads
            assert child.stderr is not None
            assert b"counted\n" == child.stderr.readline()
        events = _fields(shared.readline() for _ in range(20_000))
        for child in children:
            child.communicate(timeout=LIMIT_S)
    assert sorted([*range(10_000)] * 2) == sorted(int(str(event["number"])) for event in events)


def on_a_terminal(start: Start, code: str) -> bytes:
    """Run a program on a terminal, and return what is shown there."""
    terminal, end = pty.openpty()
    with open(end, "wb") as out:  # noqa: PTH123 - a descriptor, not a path
        child = start(code, stdout=out)
    shown = b""
    with open(terminal, "rb", buffering=0) as screen, suppress(OSError):  # noqa: PTH123 - Linux ends it with EIO
        while part := screen.read(4096):
            shown += part
    _, err = child.communicate(timeout=LIMIT_S)
    assert b"" == err
    return shown


def test_a_terminal_is_shown_colour(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a line is for people: coloured, no JSON, and without control characters of its values."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    shown = on_a_terminal(start, TROUBLES.replace('"started"', '"started\\x1b[2J"'))
    assert b"\x1b[1mstarted\\x1b[2J" in shown
    assert b"\nSystemError: first line\r\nsecond line\r\n" in shown
    assert not any(line.startswith(b"{") for line in shown.splitlines())


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_without_colour(start: Start, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Who wants none, or has none, sees the same words."""
    monkeypatch.setenv(name, value)
    shown = on_a_terminal(start, 'with open_logs():\n    log.info("started", queues=["default", "mail"])\n')
    assert b"\x1b" not in shown
    assert [b"started", b"queues=default,mail"] == shown.split()[-2:]


def _gist(event: str) -> str:
    """Cut what differs from run to run: a warning's place, a task's name."""
    return event.splitlines()[0].rpartition(": ")[2] if ": Us" not in event else "UserWarning: careful"
