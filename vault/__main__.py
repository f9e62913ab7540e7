"""`python -m vault` is `agent-vault`."""

from vault.cli import main

main()
