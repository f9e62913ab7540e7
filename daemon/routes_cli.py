"""The command `agent-daemon routes`: where jobs go, and what the agent would be told; without a network."""

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from daemon import settings
from daemon.routes import DEFAULT, Route, choose_route
from daemon.templates import agent_message
from daemon.wording import wake_text
from sql.jobs import Job

UNUSED: Final = {"database_url": "postgresql://localhost/unused", "hook_token": "unused"}
_JOB: Final = UUID("00000000-0000-4000-8000-000000000001")
_LEARNING: Final = UUID("00000000-0000-4000-8000-000000000002")


def add_routes(routes: argparse.ArgumentParser) -> None:
    """Describe the command."""
    routes.add_argument("types", nargs="*", metavar="TYPE", help="a job's type, such as GMAIL_NEW_GMAIL_MESSAGE")
    routes.add_argument("--config", type=Path, default=argparse.SUPPRESS, help="a TOML file (DAEMON_CONFIG)")
    routes.add_argument("--json", action="store_true", help="one object a line")
    routes.set_defaults(verb=_routes)


def _routes(args: argparse.Namespace) -> int:
    routes = settings.load(args.config, **UNUSED).routes
    if args.types:
        found = [_taken(routes, job_type) for job_type in args.types]
    else:
        found = [{"route": _name(routes, route), **route.effective()} for route in (*routes, DEFAULT)]
    for one in found:
        print(json.dumps(one) if args.json else "\n".join(_page(one) if args.types else _line(one)))
    return 0


def _taken(routes: Sequence[Route], job_type: str) -> dict[str, Any]:
    """Return the route of a type with all that counts of it, and what it says of a webhook's job."""
    route = choose_route(routes, job_type)
    said = _said(route, _example(job_type))
    return {"job_type": job_type, "route": _name(routes, route), **route.effective(), **said}


def _said(route: Route, job: Job) -> dict[str, Any]:
    match route.action:
        case "wake":
            return {"session": route.session, "text": wake_text(job)}
        case "agent":
            return {"text": agent_message(route.message, job)}
        case "drop":
            return {}


def _example(job_type: str) -> Job:
    now = datetime.now(UTC)
    return Job(_JOB, job_type, "default", None, job_type, _LEARNING, 1, 5, 1, now)


def _name(routes: Sequence[Route], route: Route) -> str:
    return next((f"routes[{number}]" for number, one in enumerate(routes) if one is route), "default")


def _line(one: dict[str, Any]) -> Iterator[str]:
    head = [one.pop(key) for key in ("route", "type", "action")]
    yield "  ".join([*head, *(f"{key}={_shown(value)}" for key, value in one.items() if value is not None)])


def _page(one: dict[str, Any]) -> Iterator[str]:
    yield f"{one.pop('job_type')}: {one.pop('route')}"
    width = max(map(len, one))
    for key, value in one.items():
        yield f"  {key:{width}}  {'not set' if value is None else _shown(value)}"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
