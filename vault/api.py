"""The jobs and learnings API that existing workers and agents call, behind the bearer `AGENT_EDGE_KEY`."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
import psycopg
import structlog
from aiohttp import web

from notifier.complaint import one_line
from sql import events, learnings, old_workers
from vault.bearer import refuse_key
from vault.body import BodyRefused, check_head, read_body
from vault.guest import refusal
from vault.keys import JOBS, LEARNINGS, SETTINGS
from vault.parameters import TEXT_CHARS, BadRequestError, limit, parameter, since, text
from vault.webhook import unavailable

BODY_BYTES = 64 * 1024
ERROR_CHARS = 10_000
ACK_MAX = 500
JOB: Final = ("id", "type", "payload", "status", "created_at")  # what existing workers know of one

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


class Ack(msgspec.Struct):
    """The body of jobs/ack; older workers say job_id, newer ones jobId."""

    status: str
    jobId: UUID | None = None  # noqa: N815 - the wire's name
    job_id: UUID | None = None
    error: str | None = None


class Dealt(msgspec.Struct):
    """The body of learnings/ack: one id or several, of learnings or of their jobs."""

    id: UUID | None = None
    ids: Annotated[list[UUID], msgspec.Meta(max_length=ACK_MAX)] = []


class Next(msgspec.Struct):
    """The body of jobs/next."""

    agentId: str  # noqa: N815 - the wire's name


def guarded(handler: Handler) -> Handler:
    """Let in whoever has the key; answer a caller's mistake with 400 and a database that is away with 503."""

    async def guard(request: web.Request) -> web.StreamResponse:
        unauthorized = refuse_key(request)
        if unauthorized is not None:
            return unauthorized
        try:
            return await handler(request)
        except BadRequestError as error:
            return web.json_response({"error": str(error)}, status=HTTPStatus.BAD_REQUEST)
        except BodyRefused as refused:
            return refusal(refused.status)
        except psycopg.Error as error:
            log.warning("api_failed", path=request.path, error=one_line(error))
            return unavailable("the database did not answer").as_response()

    return guard


async def next_job(request: web.Request) -> web.Response:
    """`POST /jobs/next`: claim one job for 15 minutes, or 204."""
    asked = await _body(request, Next)
    job = await old_workers.claim_next_job(request.app[JOBS], text("agentId", asked.agentId))
    if job is None:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    if request.transport is None or request.transport.is_closing():
        # a worker that hung up while the database was slow never hears of its job, which goes to the next
        await old_workers.complete_job(request.app[JOBS], job["id"], "queued", "its worker hung up before the answer")
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
    facts = {"job_id": job["id"], "type": job["type"], "queue": job["queue"], "attempt": job["attempts"]}
    log.info("job_claimed", **facts, over="api")
    return _json({"job": {name: job[name] for name in JOB}, "payload": job["payload"]})


async def acknowledge(request: web.Request) -> web.Response:
    """`POST /jobs/ack`: end a job that jobs/next gave."""
    ack = await _body(request, Ack)
    job_id = ack.jobId or ack.job_id
    if job_id is None:
        raise BadRequestError("jobId is missing")
    if ack.status not in {"done", "failed"}:
        raise BadRequestError("status must be done or failed")
    error = ack.error and text("error", ack.error[:ERROR_CHARS], ERROR_CHARS)  # what it ends with is no reason to fail
    await old_workers.complete_job(request.app[JOBS], job_id, ack.status, error)
    return web.json_response({"ok": True})


async def health(_request: web.Request) -> web.Response:
    """`GET /health`: this process answers."""
    return web.json_response({"ok": True, "ts": datetime.now(UTC).isoformat()})


async def get_learning(request: web.Request) -> web.Response:
    """`GET /learnings/get?id=`: a learning whole, which counts as read."""
    try:
        learning_id = UUID(parameter(request, "id"))
    except ValueError:
        raise BadRequestError("id must be a uuid") from None
    found = await events.read_event(request.app[LEARNINGS], learning_id)
    if found is None:
        return _json({"error": "not found", "data": None, "count": 0}, status=HTTPStatus.NOT_FOUND)
    return _json({"data": found, "count": 1})


async def acknowledge_learnings(request: web.Request) -> web.Response:
    """`POST /learnings/ack`: the agent has dealt with these, and is not woken for them again."""
    dealt = await _body(request, Dealt)
    ids = [*([dealt.id] if dealt.id else []), *dealt.ids]
    if not ids:
        raise BadRequestError(f"give an id, or ids, at most {ACK_MAX}")
    done = await events.acknowledge_events(request.app[LEARNINGS], ids)
    return web.json_response({"ok": True, "count": sum(one.found for one in done)})


async def list_learnings(request: web.Request) -> web.Response:
    """`GET /learnings/list?since=&source=&limit=`, the newest first."""
    source = text("source", parameter(request, "source")) or None
    return _list(
        await learnings.list_learnings(
            request.app[LEARNINGS], since=since(request), source=source, limit=limit(request)
        )
    )


async def search_learnings(request: web.Request) -> web.Response:
    """`GET /learnings/search?q=&limit=`, the newest first."""
    words = text("q", parameter(request, "q"))
    if not words:
        raise BadRequestError(f"q must be 1 to {TEXT_CHARS} characters")
    return _list(await learnings.search_learnings(request.app[LEARNINGS], words, limit=limit(request)))


async def _body(request: web.Request, kind: type[T]) -> T:
    check_head(request.headers, request.content_length or 0, BODY_BYTES)
    body = await read_body(request, BODY_BYTES, request.app[SETTINGS].body_timeout_s)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        is_shape = isinstance(error, msgspec.ValidationError)
        raise BadRequestError(f"invalid body: {error}" if is_shape else "invalid JSON body") from None


def _list(found: list[msgspec.Raw]) -> web.Response:
    return _json({"data": found, "count": len(found)})


def _json(document: dict[str, Any], status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json", status=status)


GUARDED: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("POST", "/jobs/next", next_job),
    ("POST", "/jobs/ack", acknowledge),
    ("GET", "/learnings/get", get_learning),
    ("POST", "/learnings/ack", acknowledge_learnings),
    ("GET", "/learnings/list", list_learnings),
    ("GET", "/learnings/search", search_learnings),
)  # what the key opens
