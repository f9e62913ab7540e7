"""`python -m daemon` is `agent-daemon`."""

from daemon.cli import main

main()
