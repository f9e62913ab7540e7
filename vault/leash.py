"""Run a command that must not outlive its starter: when standard input closes, the command is ended.

A pipe's write end closes however its holder dies, kill -9 too, on macOS as on Linux; no signal or parent watch does.
It is run by its path, in Python's isolated mode, so it may import nothing but the standard library.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading

SIGNALLED = 128  # a shell's convention: 128 + the signal's number


def _end(child: subprocess.Popen[bytes], stop_signal: int, grace_s: float) -> None:
    """Ask the child to end, and kill it when it has not within the grace."""
    if child.poll() is None:
        child.send_signal(stop_signal)
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()


def _end_at_eof(child: subprocess.Popen[bytes], stop_signal: int, grace_s: float) -> None:
    """Wait until nobody holds the pipe any more."""
    while os.read(0, 1024):
        pass
    _end(child, stop_signal, grace_s)


def main() -> int:
    """Run the command; return its exit status, or 128 + the signal that ended it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--grace-s", type=float, default=35.0)
    parser.add_argument("--user")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    # groups of root do not come along when the command runs as somebody else
    groups: list[int] | None = [] if args.user else None
    group: str | None = args.user
    for one in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(one, lambda *_: threading.Thread(target=_end, args=bounds, daemon=True).start())
    child = subprocess.Popen(  # noqa: S603 - the command comes from our own caller
        args.command, stdin=subprocess.DEVNULL, user=args.user, group=group, extra_groups=groups
    )
    bounds = (child, args.signal, args.grace_s)
    threading.Thread(target=_end_at_eof, args=bounds, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else SIGNALLED - status


if __name__ == "__main__":
    sys.exit(main())
