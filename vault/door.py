"""What every request meets first: its address as it was sent, before anything of it is read."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from vault.guest import guest_of, refusal
from vault.keys import ROUTES

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
        return _closing(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if not _has_one_length(request):
        return _closing(HTTPStatus.BAD_REQUEST)
    if not _is_known(request):
        return refusal(HTTPStatus.NOT_FOUND)
    return await handler(request)


def _has_one_length(request: web.Request) -> bool:
    """Tell whether every proxy sees the body end where aiohttp does, who also takes gzip, and chunks from HTTP/1.0."""
    codings = request.headers.getall(hdrs.TRANSFER_ENCODING, None)
    return not codings or ([coding.lower() for coding in codings] == ["chunked"] and request.version == HttpVersion11)


def _closing(status: HTTPStatus) -> web.Response:
    answer = refusal(status)
    answer.force_close()
    return answer


def _is_known(request: web.Request) -> bool:
    """Tell whether there is such a route; not as the router does, to whom `/a%62c` is `/abc`."""
    return (request.method, request.raw_path.partition("?")[0]) in request.app[ROUTES]
