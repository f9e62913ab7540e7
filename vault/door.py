"""What every request of the application meets first: its address as it was sent, before anything of it is read."""

from http import HTTPStatus

from aiohttp import web

from vault.guest import Answering, misread, refusal
from vault.keys import ROUTES


@web.middleware
async def door(request: web.Request, handler: Answering) -> web.StreamResponse:
    """Let in what asks for a route as it is spelt; whatever else it may be gets one answer."""
    if refused := misread(request):
        return refused
    if not _is_known(request):
        return refusal(HTTPStatus.NOT_FOUND)
    return await handler(request)


def _is_known(request: web.Request) -> bool:
    """Tell whether there is such a route; not as the router does, to whom `/a%62c` is `/abc`."""
    return (request.method, request.raw_path.partition("?")[0]) in request.app[ROUTES]
