"""`POST /composio/webhook`: verify, store, answer; nothing of a stranger's request reaches the database."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web

from notifier.complaint import one_line
from sql.learnings import NewEvent, Recorded
from vault.answer import Answer
from vault.body import BodyRefused, check_head, read_body
from vault.composio import parse, safe_slug
from vault.keys import CLOCK, INBOX, SETTINGS
from vault.queues import choose_queue
from vault.rawjson import expands, fold
from vault.settings import VaultSettings
from vault.signature import Claim, Headers, SignatureRefused, prove, read_claim
from vault.spooler import Spooled

RETRY_AFTER_S = 5
CLOCK_REMEDY = "if it came from composio, this machine's clock is wrong by so much: have it set from the network (ntp)"
ACCOUNT = "composio.connected_account."

log = structlog.get_logger()


class Receiver:
    """Answers webhooks for one application."""

    def __init__(self, app: web.Application) -> None:
        """Take the application that holds the settings, the clock and, while it runs, the inbox."""
        self._app = app
        self._settings = settings = app[SETTINGS]
        self._log = log.bind()  # once: the module's own binds anew for each line
        self._secrets = [secret.get_secret_value().encode() for secret in settings.composio_webhook_secrets]

    async def receive(self, request: web.Request) -> web.Response:
        """Answer 200 once it is committed or spooled; 401 to whoever is not Composio; 503 when it must be sent again.

        The request need not have gone through the application.
        """
        told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        began, limit_bytes = time.monotonic(), self._settings.max_body_bytes
        try:
            claim = self._claim(request.headers, request.content_length or 0)
            body = await read_body(request, limit_bytes, self._settings.body_timeout_s)
        except BodyRefused as refused:
            return self._too_much(refused).as_response()
        except SignatureRefused as refused:
            return self._unproven(refused, request.content_length).as_response()
        self._take(claim, body, began, partial(_tell, told))
        return (await told).as_response()

    def receive_whole(self, headers: Headers, body: bytes, tell: Callable[[Answer], None]) -> None:
        """Answer as `receive` does a request whose body came with its head, by one call of `tell`, now or later."""
        began = time.monotonic()
        try:
            claim = self._claim(headers, len(body))
        except BodyRefused as refused:
            tell(self._too_much(refused))
        except SignatureRefused as refused:
            tell(self._unproven(refused, len(body)))
        else:
            self._take(claim, body, began, tell)

    def _claim(self, headers: Headers, body_bytes: int) -> Claim:
        """Return what the headers say. Raises BodyRefused and SignatureRefused before anything is read of the body."""
        check_head(headers, body_bytes, self._settings.max_body_bytes)
        return read_claim(headers, self._app[CLOCK]())

    def _take(self, claim: Claim, body: bytes, began: float, tell: Callable[[Answer], None]) -> None:
        """Store what Composio signed, and tell its answer when that is done."""
        try:
            delivery = prove(claim, body, self._secrets)
        except SignatureRefused as refused:
            tell(self._unproven(refused, len(body)))
            return
        event = read_event(delivery.webhook_id, body, self._settings)
        facts = {
            "event_id": event.event_id,
            "type": event.type,
            "queue": event.queue,
            "body_bytes": len(body),
            "attempt": delivery.attempt,
        }
        stored = self._app[INBOX].store(event)
        stored.add_done_callback(lambda done: tell(self._answer(done, facts, began)))

    def _answer(self, stored: asyncio.Future[Recorded | Spooled], facts: dict[str, Any], began: float) -> Answer:
        try:
            return self._told_of(stored.result(), facts, began)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be sent again
            log.warning("webhook_not_stored", **facts, error=one_line(error))
            return unavailable()

    def _told_of(self, recorded: Recorded | Spooled, facts: dict[str, Any], began: float) -> Answer:
        if isinstance(recorded, Spooled):  # on this machine's disk: its job comes with Postgres
            self._log.info("webhook_accepted", **facts, learning_id=recorded.learning_id, spooled=True, ms=_ms(began))
            return Answer({"ok": True, "learning_id": recorded.learning_id, "job_queued": False, "spooled": True})
        if recorded.refused:
            self._log.error("webhook_not_stored", **facts, error=recorded.refused)
            document = {"error": "db_error", "detail": "the database refused the row"}
            return Answer(document, HTTPStatus.INTERNAL_SERVER_ERROR)
        self._log.info(
            "webhook_accepted",
            **facts,
            learning_id=recorded.learning_id,
            job_id=recorded.job_id,
            duplicate=recorded.duplicate,
            ms=_ms(began),
        )
        return Answer({"ok": True, "learning_id": recorded.learning_id, "job_queued": recorded.job_id is not None})

    def _too_much(self, refused: BodyRefused) -> Answer:
        log.warning("webhook_refused", reason=str(refused).replace(" ", "_"), limit=self._settings.max_body_bytes)
        return Answer.of_status(refused.status)

    @staticmethod
    def _unproven(refused: SignatureRefused, body_bytes: int | None) -> Answer:
        log.warning("webhook_refused", **_told(refused), body_bytes=body_bytes)
        return Answer({"error": "invalid signature"}, HTTPStatus.UNAUTHORIZED)


def read_event(webhook_id: str, body: bytes, settings: VaultSettings) -> NewEvent:
    """Make a verified delivery into what is stored of it."""
    event = parse(body)
    slug = safe_slug(event.slug)
    folded = fold(body)
    return NewEvent(
        event_id=webhook_id,
        type=slug,
        account=event.connected_account_id,
        queue=choose_queue(settings.queues, slug, event.connected_account_id, event.user_id),
        learning=f"Composio trigger: {slug} - {event.data_text}",
        body=body,
        as_json=not expands(body, folded) and not _hides_account(slug, folded),
    )


def _told(refused: SignatureRefused) -> dict[str, Any]:
    """Return what the log says of a refusal."""
    if refused.ahead_s is None:
        return {"reason": refused.reason}
    return {"reason": refused.reason, "ahead_s": round(refused.ahead_s, 1), "remedy": CLOCK_REMEDY}


def _hides_account(slug: str, folded: bytes) -> bool:
    """Tell whether a body of another shape speaks of a connected account, whose tokens would stay in its jsonb."""
    return not slug.startswith(ACCOUNT) and ACCOUNT.encode() in folded


def unavailable(detail: str = "not stored, send it again") -> Answer:
    """Say that the database is away, and when to come again."""
    return Answer({"error": "db_error", "detail": detail}, HTTPStatus.SERVICE_UNAVAILABLE, RETRY_AFTER_S)


def _tell(told: asyncio.Future[Answer], answer: Answer) -> None:
    if not told.done():  # by whoever does not wait any longer
        told.set_result(answer)


def _ms(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)
