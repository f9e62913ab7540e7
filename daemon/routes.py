"""Where a job goes: the first route whose glob matches its type, else a wake, now."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from daemon.openclaw_session import MAIN, agent_of, canonical_key
from daemon.templates import PLACEHOLDERS, check_template
from notifier.configuration import Setting

HANDLE_WITHIN_S = 900.0

_FITS: Final = {
    "wake": {"mode", "agent_id", "session_key", "complete_when", "handle_within_s"},
    "agent": {
        "agent_id", "session_key", "message", "name", "wait_for_completion", "timeout_seconds", "deliver", "channel",
        "to", "model", "thinking", "complete_when", "handle_within_s",
    },
    "drop": set(),
}  # fmt: skip

_SESSION: Final = {"agent_id", "session_key"}
_RUN: Final = {"deliver", "channel", "to", "name", "model", "thinking", "timeout_seconds", "wait_for_completion"}

_AGENT_MUST: Final = "the id of an agent in openclaw.json: letters, digits, _ and -, 64 at most"
_MESSAGE_MUST: Final = f"a text of at most 10000 characters, over {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}"
_TIMEOUT_MUST: Final = "a whole number of seconds from 1 to 86400"
_HANDLE_MUST: Final = "a number of seconds from 60 to 86400"


def _must(most: int, what: str) -> Setting:
    return Setting("", f"{what}, on one line of at most {most} characters")


def _line(most: int) -> StringConstraints:
    return StringConstraints(strip_whitespace=True, min_length=1, max_length=most, pattern=r"^\P{C}+$")


_Glob = Annotated[str, _line(256)]
_AgentId = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
_Line = Annotated[str, _line(256)]
_Message = Annotated[str, StringConstraints(max_length=10_000, pattern=r"\S"), AfterValidator(check_template)]


class Route(BaseModel):
    """What is done with jobs of a type.

    Fields may be spelled in TOML as here or as OpenClaw spells them (`agentId`). A field that would be ignored is
    refused; each looks at those before it, so their order matters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    type: Annotated[_Glob, _must(256, "a glob over a job's type, such as GMAIL_*")] = "*"
    action: Annotated[Literal["wake", "agent", "drop"], Setting("", "wake, agent or drop")] = "wake"
    mode: Annotated[Literal["now", "next-heartbeat"], Setting("", "now or next-heartbeat")] = "now"
    agent_id: Annotated[_AgentId | None, Setting("", _AGENT_MUST)] = None
    session_key: Annotated[_Line | None, _must(256, "the key of a session, such as hook:mail")] = None
    message: Annotated[_Message | None, Setting("", _MESSAGE_MUST)] = None
    name: Annotated[_Line | None, _must(256, "a name for the run")] = None
    wait_for_completion: Annotated[bool, Setting("", "true or false")] = True
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=86_400), Setting("", _TIMEOUT_MUST)] = 600
    deliver: Annotated[bool, Setting("", "true or false")] = False
    channel: Annotated[_Line | None, _must(256, "the id of a channel, such as telegram")] = None
    to: Annotated[_Line | None, _must(256, "a recipient in that channel")] = Field(default=None, validate_default=True)
    model: Annotated[_Line | None, _must(256, "a model's id or alias")] = None
    thinking: Annotated[_Line | None, _must(256, "a level of thinking that the model has")] = None
    complete_when: Annotated[Literal["accepted", "handled"], Setting("", "accepted or handled")] = "accepted"
    handle_within_s: Annotated[float, Field(ge=60, le=86_400, allow_inf_nan=False), Setting("", _HANDLE_MUST)] = (
        HANDLE_WITHIN_S
    )

    @model_validator(mode="before")
    @classmethod
    def _check_spelling(cls, data: Any) -> Any:
        for name, info in cls.model_fields.items():
            if isinstance(data, dict) and info.alias != name and {name, info.alias} <= data.keys():
                raise ValueError(f"it says both {name} and {info.alias}, which are the same: leave one out")
        return data

    @field_validator("*")
    @classmethod
    def _check_action(cls, value: Any, info: ValidationInfo) -> Any:
        action, field = info.data.get("action"), info.field_name
        takers = [one for one, fields in _FITS.items() if field in fields]
        if value is not None and takers and action is not None and action not in takers:
            instead = " or ".join(f'"{taker}"' for taker in takers)
            raise ValueError(f'it means nothing with action = "{action}": leave it out, or set action to {instead}')
        return value

    @field_validator("session_key")
    @classmethod
    def _check_session(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("mode") == "next-heartbeat":
            raise ValueError("the gateway takes none with next-heartbeat: leave it out, or set mode to now")
        named = agent_of(value or "")
        if named and "agent_id" in info.data and named != (info.data["agent_id"] or MAIN).lower():
            raise ValueError("it names another agent than agentId, which the gateway heeds: set agentId to that one")
        return value

    @field_validator("channel")
    @classmethod
    def _check_channel(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("deliver") is False:
            raise ValueError("the gateway ignores it without deliver: set deliver to true, or leave it out")
        if value == "last":
            raise ValueError("the hook does not take last: set it to the id of a channel, such as telegram")
        return value

    @field_validator("to")
    @classmethod
    def _check_recipient(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "channel" in info.data and (value is None) != (info.data["channel"] is None):
            raise ValueError("channel and to go together: set both or neither")
        return value

    @field_validator("handle_within_s")
    @classmethod
    def _check_span(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("complete_when") == "accepted":
            raise ValueError('it counts only with complete_when = "handled": set that, or leave it out')
        return value

    @cached_property
    def session(self) -> str:
        """The gateway's session whose pending slots this route takes: one text, however the session is said.

        A wake takes one of its own session, a run that is announced one of its agent's main session.
        """
        return canonical_key(self.agent_id, self.session_key if self.action == "wake" else None)

    @cached_property
    def wake_fields(self) -> dict[str, Any]:
        """What a wake says beside its text, as OpenClaw spells it."""
        return self._said({"mode", *_SESSION})

    @cached_property
    def run_fields(self) -> dict[str, Any]:
        """What an agent run's call says beside its message, as OpenClaw spells it."""
        return self._said(_SESSION | _RUN)

    def effective(self) -> dict[str, Any]:
        """Return every value that counts for this action, by field name; what is not set reads None."""
        kept = {"type", "action", *_FITS[self.action]}
        if self.complete_when == "accepted":
            kept.discard("handle_within_s")
        return {field: value for field, value in self.model_dump().items() if field in kept}

    def _said(self, names: set[str]) -> dict[str, Any]:
        return self.model_dump(include=names, by_alias=True, exclude_none=True)


DEFAULT = Route()


def choose_route(routes: Sequence[Route], job_type: str) -> Route:
    """Return the first route that matches."""
    return next((route for route in routes if fnmatchcase(job_type.upper(), route.type.upper())), DEFAULT)


def check_reach(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """Return the routes; raises ValueError when an earlier one takes all that one of them could match."""
    seen: dict[str, int] = {}
    for number, route in enumerate(routes):
        glob = route.type.upper()
        first = seen.get("*", seen.setdefault(glob, number))
        if first < number:
            raise ValueError(f"routes[{number}] is never reached: put it above routes[{first}], or take one out")
    return routes
