"""`POST /composio/webhook`: verify, store, answer; nothing of a stranger's request reaches the database."""

import time
from typing import Any

import structlog
from aiohttp import web

from sql.learnings import NewEvent, Recorded
from vault.answer import Answer
from vault.body import BodyRefused, check_head, read_body
from vault.composio import parse, safe_slug
from vault.guest import refusal
from vault.inbox import StorageAwayError
from vault.keys import CLOCK, INBOX, SETTINGS
from vault.queues import choose_queue
from vault.rawjson import expands, fold
from vault.settings import VaultSettings
from vault.signature import Delivery, SignatureRefused, prove, read_claim
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
        began = time.monotonic()
        try:
            delivery, body = await self._let_in(request)
        except BodyRefused as refused:
            log.warning("webhook_refused", reason=str(refused).replace(" ", "_"), limit=self._settings.max_body_bytes)
            return refusal(refused.status)
        except SignatureRefused as refused:
            log.warning("webhook_refused", **_told(refused), body_bytes=request.content_length)
            return web.json_response({"error": "invalid signature"}, status=401)
        event = read_event(delivery.webhook_id, body, self._settings)
        facts = {
            "event_id": event.event_id,
            "type": event.type,
            "queue": event.queue,
            "body_bytes": len(body),
            "attempt": delivery.attempt,
        }
        try:
            recorded = await self._app[INBOX].store(event)
        except StorageAwayError as error:
            log.warning("webhook_not_stored", **facts, error=str(error))
            return unavailable()
        if isinstance(recorded, Spooled):
            return self._answer_spooled(recorded, facts, began)
        return self._answer(recorded, facts, began)

    async def _let_in(self, request: web.Request) -> tuple[Delivery, bytes]:
        """Return what Composio signed.

        Raises BodyRefused and SignatureRefused, for the headers before the body is read.
        """
        settings = self._settings
        check_head(request, settings.max_body_bytes)
        claim = read_claim(request.headers, self._app[CLOCK]())
        body = await read_body(request, settings.max_body_bytes, settings.body_timeout_s)
        return prove(claim, body, self._secrets), body

    def _answer(self, recorded: Recorded, facts: dict[str, Any], began: float) -> web.Response:
        if recorded.refused:
            self._log.error("webhook_not_stored", **facts, error=recorded.refused)
            return web.json_response({"error": "db_error", "detail": "the database refused the row"}, status=500)
        self._log.info(
            "webhook_accepted",
            **facts,
            learning_id=recorded.learning_id,
            job_id=recorded.job_id,
            duplicate=recorded.duplicate,
            ms=_ms(began),
        )
        return Answer({"ok": True, "learning_id": recorded.learning_id, "job_queued": recorded.job_id is not None})

    def _answer_spooled(self, spooled: Spooled, facts: dict[str, Any], began: float) -> web.Response:
        """Say that it is on this machine's disk: its job comes with Postgres."""
        self._log.info("webhook_accepted", **facts, learning_id=spooled.learning_id, spooled=True, ms=_ms(began))
        return Answer({"ok": True, "learning_id": spooled.learning_id, "job_queued": False, "spooled": True})


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
        as_json=not expands(folded) and not _hides_account(slug, folded),
    )


def _told(refused: SignatureRefused) -> dict[str, Any]:
    """Return what the log says of a refusal."""
    if refused.ahead_s is None:
        return {"reason": refused.reason}
    return {"reason": refused.reason, "ahead_s": round(refused.ahead_s, 1), "remedy": CLOCK_REMEDY}


def _hides_account(slug: str, folded: bytes) -> bool:
    """Tell whether a body of another shape speaks of a connected account, whose tokens would stay in its jsonb."""
    return not slug.startswith(ACCOUNT) and ACCOUNT.encode() in folded


def unavailable(detail: str = "not stored, send it again") -> web.Response:
    """Say that the database is away, and when to come again."""
    return web.json_response(
        {"error": "db_error", "detail": detail},
        status=503,
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _ms(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)
