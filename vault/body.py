"""Reads a request's body within a limit of size and of time."""

import asyncio
from http import HTTPStatus

from aiohttp import hdrs, web

from vault.answer import phrase
from vault.guest import Guest, guest_of
from vault.signature import Headers


class BodyRefused(Exception):
    """A body that is not read, or not to its end; `status` says why."""

    def __init__(self, status: HTTPStatus) -> None:
        """Take the HTTP status."""
        super().__init__(phrase(status).lower())
        self.status = status


def check_head(headers: Headers, body_bytes: int, limit_bytes: int) -> None:
    """Raise BodyRefused for a body that is announced as too large, or as packed: nothing here unpacks any."""
    if body_bytes > limit_bytes:
        raise BodyRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    codings = headers.getall(hdrs.CONTENT_ENCODING, None)
    if codings and any(value.strip().lower() != "identity" for value in codings):
        raise BodyRefused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


async def read_body(request: web.Request, limit_bytes: int, within_s: float) -> bytes:
    """Return the body, counted while it comes. Raises BodyRefused when it is too large, too slow or broken."""
    guest = guest_of(request)
    try:
        if request.content.is_eof() and request.content_length is not None:
            body = request.content.read_nowait()  # it came with its head: nothing to wait for, and nothing to count
        else:
            body = await _arriving(request, limit_bytes, within_s, guest)
    except TimeoutError:
        raise BodyRefused(HTTPStatus.REQUEST_TIMEOUT) from None
    except web.RequestPayloadError:
        raise BodyRefused(HTTPStatus.BAD_REQUEST) from None
    if guest is not None:
        guest.whole()
    return body


async def _arriving(request: web.Request, limit_bytes: int, within_s: float, guest: Guest | None) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async with asyncio.timeout(within_s):
        async for chunk in request.content.iter_any():
            size += len(chunk)
            if size > limit_bytes:
                raise BodyRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            chunks.append(chunk)
            if guest is not None:
                guest.hold(len(chunk))
    return b"".join(chunks)
