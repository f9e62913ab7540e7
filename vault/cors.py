"""Lets web pages of the origins in `VAULT_CORS_ORIGINS` use the bearer API; while there are none, no page can."""

import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from vault.guest import refusal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ORIGINS_MUST: Final = (
    "the exact origins of web pages, with commas between them, each as a browser sends it, such as "
    "https://app.example.com (no path, no slash at the end, no *, no :443 or :80 that goes without saying)"
)
_ORIGIN: Final = re.compile(r"(https?)://(?:[a-z0-9][a-z0-9.-]*|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?")
_USUAL_PORTS: Final = {"https": "443", "http": "80"}
_ASKED_AGAIN_S: Final = 600
_ALLOWED: Final = "Access-Control-Allow-Origin"


def check_origin(text: str) -> str:
    """Return an origin that a browser can send: https://fetch.spec.whatwg.org/#origin-header. Raises ValueError."""
    found = _ORIGIN.fullmatch(text)
    if found is None or found[2] == _USUAL_PORTS[found[1]]:
        raise ValueError(f"an origin in the list is none: set it to {ORIGINS_MUST}")
    return text


def add_route(router: web.UrlDispatcher, method: str, path: str, handler: Handler, origins: tuple[str, ...]) -> None:
    """Add a route; where there are origins, pages of theirs may ask for it first, and read what it answers."""
    if not origins:
        router.add_route(method, path, handler)
        return

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        response.headers.update(_shared_with(request, origins))
        return response

    async def preflight(request: web.Request) -> web.StreamResponse:
        shared = _shared_with(request, origins)
        if _ALLOWED not in shared or request.headers.get("Access-Control-Request-Method") != method:
            return refusal(HTTPStatus.NOT_FOUND)
        # never Allow-Credentials: the key is a header that the page itself sets, and no cookie is ours
        told = {
            "Access-Control-Allow-Methods": method,
            "Access-Control-Allow-Headers": "authorization, content-type",
            "Access-Control-Max-Age": str(_ASKED_AGAIN_S),
        }
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=shared | told)

    router.add_route(method, path, answer)
    router.add_route("OPTIONS", path, preflight)


def _shared_with(request: web.Request, origins: tuple[str, ...]) -> dict[str, str]:
    """Return the headers that tell a browser whose page may read the answer."""
    asking = request.headers.getall("Origin", [])
    is_listed = len(asking) == 1 and asking[0] in origins
    return {"Vary": "Origin", **({_ALLOWED: asking[0]} if is_listed else {})}
