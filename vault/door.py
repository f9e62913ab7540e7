"""What every request meets first: its address as it was sent, before anything of it is read."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import HttpVersion10, HttpVersion11, web

from vault.guest import guest_of, refusal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in what asks for a route as it is spelt; whatever else it may be gets one answer."""
    guest = guest_of(request)
    if guest is not None:
        guest.begin(whole=not request.can_read_body)
    try:
        return await _answer(request, handler)
    finally:
        if guest is not None:
            guest.answered()


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.version not in (HttpVersion10, HttpVersion11):
        answer = refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        answer.force_close()
        return answer
    if not _is_known(request):
        return refusal(HTTPStatus.NOT_FOUND)
    try:
        return await handler(request)
    except web.HTTPException as error:
        return refusal(error.status)


def _is_known(request: web.Request) -> bool:
    """Tell whether there is such a route; not as the router does, to whom `/a%62c` is `/abc`."""
    path = request.raw_path.partition("?")[0]
    return any(
        path == route.resource.canonical and request.method == route.method
        for route in request.app.router.routes()
        if route.resource is not None
    )
