"""Whatever else would write text to stderr says it as an event: logging, warnings, uncaught exceptions."""

import atexit
import logging
import sys
import threading
from types import TracebackType

import structlog

from notifier.log_line import text

log = structlog.get_logger()


class RecordForwarder(logging.Handler):
    """Passes a record of the standard library's logging on as an event."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record's message as the event, with the name of its logger."""
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        # Structlog knows only the five levels: one between two of them becomes the lower.
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        log.log(level, _message(record), logger=record.name, exc_info=exc_info)


def adopt_logging(level: int) -> None:
    """Make events of all records and warnings from `level` up."""
    logging.basicConfig(handlers=[RecordForwarder()], level=level, force=True)
    logging.captureWarnings(capture=True)


def adopt_exceptions() -> None:
    """Make an event of an exception that nobody caught: in the program, in a thread, in a destructor."""
    sys.excepthook = _tell_uncaught
    threading.excepthook = _tell_thread
    sys.unraisablehook = _tell_unraisable
    atexit.register(_fall_silent)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage().strip()
    except Exception:  # noqa: BLE001 - a caller's wrong arguments; logging itself would print text to stderr
        return f"{text(record.msg)} {text(record.args)}"


def _tell_uncaught(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        log.warning("interrupted")
    else:
        log.critical("uncaught_exception", exc_info=(kind, error, where))


def _tell_thread(args: threading.ExceptHookArgs) -> None:
    if not issubclass(args.exc_type, SystemExit):
        log.critical("thread_died", thread=args.thread and args.thread.name, exc_info=args.exc_value)


def _tell_unraisable(args: "sys.UnraisableHookArgs") -> None:
    log.error("unraisable_exception", source=text(args.object), exc_info=args.exc_value)


def _fall_silent() -> None:
    # While the interpreter takes modules apart, structlog fails and no thread is left to write: a destructor
    # that fails then would be text on stderr. The lambda, because this module's own names may be gone as well.
    sys.unraisablehook = lambda _args: None
