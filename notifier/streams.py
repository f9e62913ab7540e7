"""The standard streams of a command: there, whatever its caller made of them, and written out before it ends."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Final

from notifier.sources import why

_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # by descriptor


@contextlib.contextmanager
def standard_streams(program: str) -> Iterator[None]:
    """Run a command; it exits with 1 where what it printed cannot be written, and one line says why.

    A stream that the caller closed is the null device: else the next file or socket would have its number.
    """
    for descriptor, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            _discard(descriptor)
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # who read our output has gone
        pass
    except OSError as error:
        sys.stderr.write(f"{program}: the output cannot be written: {why(error)}\n")
    else:
        return
    _discard(sys.stdout.fileno())  # what is left in the buffer, which Python writes at its end
    sys.exit(1)


def _discard(descriptor: int) -> None:
    """Have the null device at a descriptor."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
