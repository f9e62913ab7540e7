"""Where `agent-vault` begins: quickly, so that a Ctrl-C during the imports ends it without a traceback."""

import signal
import sys


def main() -> None:
    """Let a Ctrl-C end the process at once until the program itself listens for it; then run the command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # structlog loads it wherever it is installed: five megabytes for tracebacks that we never show
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # None stands for a module that is not there
    from vault import cli  # noqa: PLC0415 - the slow part

    cli.main()


if __name__ == "__main__":
    main()
