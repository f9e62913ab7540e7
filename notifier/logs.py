"""Structured logs of both programs: JSON on a pipe or file, colour on a terminal, never in the way of work."""

import atexit
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.typing import EventDict, Processor, WrappedLogger

from notifier import log_line
from notifier.log_pipe import LogPipe
from notifier.log_sources import adopt_exceptions, adopt_logging

STDOUT: Final = 1
RENDERING: Final[tuple[Processor, ...]] = (
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
)
METHODS: Final = ("debug", "info", "warning", "error", "critical")


@contextmanager
def open_logs(*, level: str = "info", fd: int = STDOUT) -> Iterator[None]:
    """Send events, stdlib records, warnings and uncaught exceptions to `fd`; leaving waits a second at most.

    Everything stays in place after the block, for what fails while the interpreter ends is a line as well.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    steps = _steps(terminal=os.isatty(fd))
    pipe = LogPipe(fd, lambda count: _line(steps, "warning", {"event": "logs_dropped", "count": count}))
    sink = SimpleNamespace(**dict.fromkeys(METHODS, pipe.write))
    structlog.configure(
        processors=steps,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: sink,
    )
    adopt_logging(threshold)
    adopt_exceptions()
    atexit.register(pipe.flush)
    try:
        yield
    finally:
        pipe.flush()


def _steps(*, terminal: bool) -> list[Processor]:
    """List what happens to an event on its way from the caller to bytes."""
    if not terminal:
        return [_json]
    return [structlog.processors.add_log_level, _stamp, *RENDERING, _hide_keys, *_colour(), _finish]


def _colour() -> list[Processor]:
    # not settings of ours: NO_COLOR is everybody's (https://no-color.org), TERM the terminal's word on itself
    has_colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    # The default formatter shows the values of local variables, secrets among them, where Rich is installed.
    show = ConsoleRenderer(colors=has_colour, timestamp_key="time", exception_formatter=plain_traceback)
    return [lambda _logger, _method, event: log_line.as_shown(event), show]


def _stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    event["time"] = f"{_utc(seconds)}.{nanoseconds // 1000:06}Z"
    return event


@lru_cache(1)
def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _json(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    event["level"] = method
    line = log_line.quickly(_stamp(logger, method, event))
    if line:
        return line + b"\n"
    fields: Any = event
    for step in (*RENDERING, _hide_keys):
        fields = step(logger, method, fields)
    return _finish(logger, method, log_line.as_json(fields))


def _hide_keys(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return log_line.hide_keys(event)


def _finish(_logger: WrappedLogger, _method: str, line: Any) -> bytes:
    return f"{log_line.hide_text(line)}\n".encode("utf-8", "replace")


def _line(steps: list[Processor], level: str, event: Any) -> bytes:
    for step in steps:
        event = step(None, level, event)
    return bytes(event)
