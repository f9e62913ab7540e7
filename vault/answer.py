"""The answer to a webhook, written in one piece: what aiohttp does for any answer costs as much as a signature."""

import time
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Final

import msgspec
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter

SERVER: Final = "agent-vault"
JSON: Final = "application/json; charset=utf-8"
_HEAD: Final = "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\nDate: {}\r\nServer: {}\r\n\r\n"


class Answer(web.Response):
    """200 with a JSON document; over a connection that neither stays nor is HTTP/1.1, aiohttp's own."""

    def __init__(self, document: Any) -> None:
        """Take what msgspec can encode."""
        self._document = msgspec.json.encode(document)
        self._whole_to: AbstractStreamWriter | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Begin."""
        if request.version == HttpVersion11 and request.keep_alive:
            self._whole_to = request.writer
            return request.writer
        super().__init__(body=self._document, headers={hdrs.CONTENT_TYPE: JSON})  # costs as much as half a signature
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Send it, and wait while the client does not read. Raises ConnectionError."""
        if self._whole_to is None:
            await super().write_eof(data)
            return
        await self._whole_to.write(_head(len(self._document), int(time.time())) + self._document)
        await self._whole_to.drain()

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays."""
        return super().keep_alive if self._whole_to is None else True


@lru_cache(64)
def _head(length: int, now_s: int) -> bytes:
    return _HEAD.format(JSON, length, formatdate(now_s, usegmt=True), SERVER).encode()
