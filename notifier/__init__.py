"""How a process hears that there is work (LISTEN, pulse, poll) and tells how it is (logs, readiness)."""
