"""Lets in whoever has the bearer key, `AGENT_EDGE_KEY`."""

import hmac
import math
import time
from hashlib import sha256
from http import HTTPStatus

from aiohttp import web

from vault.failures import is_own
from vault.keys import FAILURES, SETTINGS


def refuse_key(request: web.Request) -> web.Response | None:
    """Return what a wrong key is answered; None for the right one. Who guesses on is told nothing for a minute."""
    failures, now = request.app[FAILURES], time.monotonic()
    right = authorized(request)
    blocked_s = failures.blocked_s(request.remote, now)
    # on this machine it is a proxy that has the address: the owner behind it must not be kept out by anybody else
    if blocked_s and not (right and is_own(request.remote)):
        return web.json_response(
            {"error": "too many wrong keys"},
            status=HTTPStatus.TOO_MANY_REQUESTS,
            headers={"Retry-After": str(math.ceil(blocked_s))},
        )
    if right:
        return None
    failures.count(request.remote, now)
    return web.json_response({"error": "unauthorized"}, status=HTTPStatus.UNAUTHORIZED)


def authorized(request: web.Request) -> bool:
    """Compare the bearer key in a time that tells neither it nor its length; without one nobody is let in."""
    key = request.app[SETTINGS].agent_edge_key
    given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
    expected = f"Bearer {key.get_secret_value()}".encode() if key else b""
    # compare_digest itself returns at once where the lengths differ
    return bool(expected) and hmac.compare_digest(sha256(given).digest(), sha256(expected).digest())
