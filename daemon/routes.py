"""Where a job goes: the first route whose glob matches its type, else a wake, now."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

HANDLE_WITHIN_S = 900.0


class Route(BaseModel):
    """What is done with jobs of a type.

    Fields may be spelled in TOML as here or as OpenClaw spells them (`agentId`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    type: str = "*"
    action: Literal["wake", "agent", "drop"] = "wake"
    mode: Literal["now", "next-heartbeat"] = "now"
    agent_id: str | None = None
    session_key: str | None = None
    message: str | None = None
    wait_for_completion: bool = True
    timeout_seconds: int = Field(default=600, ge=1)
    deliver: bool = False
    complete_when: Literal["accepted", "handled"] = "accepted"
    handle_within_s: float = HANDLE_WITHIN_S

    @property
    def session(self) -> str:
        """The session."""
        return f"{self.agent_id or 'main'}/{self.session_key or 'main'}"


DEFAULT = Route()


def choose_route(routes: Sequence[Route], job_type: str) -> Route:
    """Return the first route that matches."""
    return next((route for route in routes if fnmatchcase(job_type.upper(), route.type.upper())), DEFAULT)
