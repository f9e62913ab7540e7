"""Where a job goes: the first route whose glob matches its type, else a wake, now."""

import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from daemon.openclaw_session import MAIN, agent_of, canonical_key
from daemon.templates import PLACEHOLDERS, check_template
from notifier.configuration import Known, Setting, Table, fields_of

HANDLE_WITHIN_S: Final = 900.0
HANDLE_AT_HEARTBEAT_WITHIN_S: Final = 7200.0  # twice what OpenClaw's heartbeat takes at most, unless told otherwise

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


def _on_a_line(value: Any) -> Any:
    """Return a text without surrounding white space, empty if it has a character that is not seen; else what it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    return "" if any(unicodedata.category(char).startswith("C") for char in text) else text


def _whole(value: Any) -> Any:
    """Return a number that is whole as it is written, and of anything else nothing."""
    return value if type(value) is int else None


def _line(what: str, *, always: bool = False) -> Setting:
    return Setting("", f"{what}, on one line of at most 256 characters", _on_a_line, always)


_Line = Annotated[str, Meta(min_length=1, max_length=256)]
_AgentId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")]
_Message = Annotated[str, Meta(max_length=10_000, pattern=r"\S")]
_Timeout = Annotated[int, Meta(ge=1, le=86_400), Setting("", "a whole number of seconds from 1 to 86400", _whole)]
_Span = Annotated[Annotated[float, Meta(ge=60, le=86_400)] | None, Setting("", "a number of seconds from 60 to 86400")]
_Switch = Annotated[bool, Setting("", "true or false")]


class Route(Table, frozen=True, kw_only=True, rename="camel", dict=True):
    """What is done with jobs of a type.

    Fields may be spelled in TOML as here or as OpenClaw spells them (`agentId`). A field that would be ignored is
    refused; each looks at those before it, so their order matters.
    """

    type: Annotated[_Line, _line("a glob over a job's type, such as GMAIL_*")] = "*"
    action: Annotated[Literal["wake", "agent", "drop"], Setting("", "wake, agent or drop")] = "wake"
    mode: Annotated[Literal["now", "next-heartbeat"], Setting("", "now or next-heartbeat")] = "now"
    agent_id: Annotated[_AgentId | None, Setting("", _AGENT_MUST, _on_a_line)] = None
    session_key: Annotated[_Line | None, _line("the key of a session, such as hook:mail")] = None
    message: Annotated[_Message | None, Setting("", _MESSAGE_MUST)] = None
    name: Annotated[_Line | None, _line("a name for the run")] = None
    wait_for_completion: _Switch = True
    timeout_seconds: _Timeout = 600
    deliver: _Switch = False
    channel: Annotated[_Line | None, _line("the id of a channel, such as telegram")] = None
    to: Annotated[_Line | None, _line("a recipient in that channel", always=True)] = None
    model: Annotated[_Line | None, _line("a model's id or alias")] = None
    thinking: Annotated[_Line | None, _line("a level of thinking that the model has")] = None
    complete_when: Annotated[Literal["accepted", "handled"], Setting("", "accepted or handled")] = "accepted"
    handle_within_s: _Span = None

    @classmethod
    def check(cls, field: str, value: Any, known: Known) -> Any:
        """Return the value; raises ValueError for one that the gateway would refuse, and one that would be ignored."""
        if field == "message":
            check_template(value)
        if value is not None:
            _check_action(field, known.get("action"))
        match field:
            case "session_key":
                _check_session(value, known)
            case "channel":
                _check_channel(value, known)
            case "to" if "channel" in known and (value is None) != (known["channel"] is None):
                raise ValueError("channel and to go together: set both or neither")
            case "handle_within_s" if known.get("complete_when") == "accepted":
                raise ValueError('it counts only with complete_when = "handled": set that, or leave it out')
        return value

    @cached_property
    def session(self) -> str:
        """The gateway's session whose pending slots this route takes: one text, however the session is said.

        A wake takes one of its own session, a run that is announced one of its agent's main session.
        """
        return canonical_key(self.agent_id, self.session_key if self.action == "wake" else None)

    @cached_property
    def told_again_s(self) -> float:
        """Seconds until the agent is told again of what it has not handled: more where it waits for a heartbeat."""
        usual = HANDLE_AT_HEARTBEAT_WITHIN_S if self.mode == "next-heartbeat" else HANDLE_WITHIN_S
        return self.handle_within_s or usual

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
        values = {**msgspec.structs.asdict(self), "handle_within_s": self.told_again_s}
        return {field: value for field, value in values.items() if field in kept}

    def _said(self, names: set[str]) -> dict[str, Any]:
        said = {field.encode_name: getattr(self, name) for name, field in fields_of(Route).items() if name in names}
        return {name: value for name, value in said.items() if value is not None}


def _check_action(field: str, action: str | None) -> None:
    takers = [one for one, fields in _FITS.items() if field in fields]
    if takers and action is not None and action not in takers:
        instead = " or ".join(f'"{taker}"' for taker in takers)
        raise ValueError(f'it means nothing with action = "{action}": leave it out, or set action to {instead}')


def _check_session(key: str, known: Known) -> None:
    if known.get("mode") == "next-heartbeat":
        raise ValueError("the gateway takes none with next-heartbeat: leave it out, or set mode to now")
    named = agent_of(key)
    if named and "agent_id" in known and named != (known["agent_id"] or MAIN).lower():
        raise ValueError("it names another agent than agentId, which the gateway heeds: set agentId to that one")


def _check_channel(channel: str, known: Known) -> None:
    if known.get("deliver") is False:
        raise ValueError("the gateway ignores it without deliver: set deliver to true, or leave it out")
    if channel == "last":
        raise ValueError("the hook does not take last: set it to the id of a channel, such as telegram")


DEFAULT = Route()


def choose_route(routes: Sequence[Route], job_type: str) -> Route:
    """Return the first route that matches."""
    return next((route for route in routes if fnmatchcase(job_type.upper(), route.type.upper())), DEFAULT)


def check_reach(routes: Sequence[Route]) -> None:
    """Raise ValueError when an earlier one takes all that one of them could match."""
    seen: dict[str, int] = {}
    for number, route in enumerate(routes):
        glob = route.type.upper()
        first = seen.get("*", seen.setdefault(glob, number))
        if first < number:
            raise ValueError(f"routes[{number}] is never reached: put it above routes[{first}], or take one out")
