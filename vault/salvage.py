"""What can still be read of a damaged spool file, saved into a new one; the old one is kept for a person."""

import itertools
import re
import time
from typing import Final

import structlog

from vault.spool import Spool
from vault.spool_file import SpoolError

ROWS: Final = 20  # in one commit
UNFINISHED: Final = r"\.salvage-[0-9]+"  # how the name of a file ends that is being saved
_BEGUN: Final = ".salvage-"
_DONE: Final = ".broken-"

log = structlog.get_logger()


def replace(spool: Spool, max_bytes: int) -> None:
    """Move a damaged file aside and begin a new one, with what can still be read of the old. Raises SpoolError."""
    damaged = Spool(spool.path.with_name(f"{spool.path.name}{_BEGUN}{time.time_ns()}"), max_bytes)
    spool.move(damaged.path)
    try:
        _save(damaged, spool)
    except SpoolError:  # the disk is full: all as it was, for another time
        spool.delete()
        damaged.move(spool.path)
        raise


def finish(spool: Spool, max_bytes: int) -> None:
    """Save what is left of damaged files whose process ended before it had. Raises SpoolError.

    What it did save comes twice, and its ids make one of both.
    """
    for path in spool.path.parent.glob(f"{spool.path.name}{_BEGUN}*"):
        if re.fullmatch(re.escape(spool.path.name) + UNFINISHED, path.name):  # and no journal
            _save(Spool(path, max_bytes), spool)


def _save(damaged: Spool, spool: Spool) -> None:
    rows = damaged.salvage()
    spool.open()
    while some := list(itertools.islice(rows, ROWS)):
        spool.append(some)
    waiting, _refused = spool.count()
    aside = damaged.path.with_name(damaged.path.name.replace(_BEGUN, _DONE))
    damaged.move(aside)
    log.error("spool_broken", file=str(aside), saved=waiting, remedy="see what sqlite3 .recover finds in it")
