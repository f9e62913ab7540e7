"""What OpenClaw makes of an agent and a session's key, as of 2026.9: pure functions on the texts of a route."""

import re
from typing import Final

MAIN: Final = "main"  # its first agent, and the session that every agent has

_OF_AN_AGENT: Final = re.compile(r"agent:([^:]+):(?!:)(.+)", re.IGNORECASE)
_CASE_COUNTS: Final = re.compile(r"(^|:)(signal:group|matrix:(channel|group)):", re.IGNORECASE)


def agent_of(session_key: str) -> str | None:
    """Return the agent that a key names, in lower case, if it names one."""
    named = _OF_AN_AGENT.fullmatch(session_key)
    return named[1].lower() if named else None


def canonical_key(agent_id: str | None, session_key: str | None) -> str:
    """Return one text for a session, however it is said; None is the main agent, and the agent's main session.

    The key is scoped to the agent, and its case makes no difference but in the ids of some channels' groups.
    """
    key = session_key or MAIN
    named = _OF_AN_AGENT.fullmatch(key)
    rest = named[2] if named else key
    folded = rest if _CASE_COUNTS.search(rest) else rest.lower()
    return f"agent:{(agent_id or MAIN).lower()}:{folded}"
