"""The calls of the gateway's two hooks: what is POSTed for a route, and how long its answer may take."""

from dataclasses import dataclass
from typing import Any, Final

from daemon.routes import Route

ADMISSION_S: Final = 25.0  # the gateway itself gives up after 15 s that a run could not begin
ENDING_S: Final = 30.0  # beyond the run's own limit


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a hook.

    `within_s` is the time limit of each POST, and `lingers_s` what is left of it once the daemon stops; None is the
    client's own limit, and all of it. `awaits_end`: the answer comes when the agent's run has ended. A call with a
    `key` is the same run for as long as the gateway remembers it: five minutes after its end, or until a restart.
    """

    hook: str
    body: dict[str, Any]
    key: str | None = None
    within_s: float | None = None
    lingers_s: float | None = None
    awaits_end: bool = False


PROBE: Final = Call("wake", {})


def wake_call(text: str, route: Route) -> Call:
    """Return the call that wakes a route's session."""
    return Call("wake", {"text": text, **route.wake_fields})


def agent_call(message: str, key: str, route: Route, *, lingers_s: float) -> Call:
    """Return the call that begins a run, or joins the one that it began before; it may linger if it is short."""
    waits = route.wait_for_completion
    return Call(
        "agent",
        {"message": message, **route.run_fields},
        key=key,
        within_s=route.timeout_seconds + ENDING_S if waits else ADMISSION_S,
        lingers_s=0.0 if waits else lingers_s,
        awaits_end=waits,
    )
