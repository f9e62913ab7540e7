"""The answer to a webhook: a status and a JSON document, as aiohttp's response or in one piece as it goes out."""

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

SERVER: Final = "agent-vault"
JSON: Final = "application/json; charset=utf-8"
# What Python 3.13 calls otherwise, as before: the words stand in answers and logs, which are the same on every Python.
_PHRASES: Final = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Request Entity Too Large",
    HTTPStatus.REQUEST_URI_TOO_LONG: "Request-URI Too Long",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "Requested Range Not Satisfiable",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Entity",
}


class Answer(msgspec.Struct, frozen=True):
    """What a webhook is answered with; `retry_after_s`: when its sender should come again, in seconds."""

    document: dict[str, Any]
    status: HTTPStatus = HTTPStatus.OK
    retry_after_s: int | None = None

    @classmethod
    def of_status(cls, status: HTTPStatus) -> "Answer":
        """Return the answer of a status, with nothing of the request in it."""
        return cls({"error": phrase(status).lower()}, status)

    def as_bytes(self) -> bytes:
        """Return the answer over an HTTP/1.1 connection that stays: what aiohttp does costs as much as a signature."""
        body = msgspec.json.encode(self.document)
        return _head(self.status, self.retry_after_s, len(body), int(time.time())) + body

    def as_response(self) -> web.Response:
        """Return the answer over any connection."""
        headers = {hdrs.CONTENT_TYPE: JSON}
        if self.retry_after_s is not None:
            headers[hdrs.RETRY_AFTER] = str(self.retry_after_s)
        body = msgspec.json.encode(self.document)
        return web.Response(body=body, status=self.status, reason=phrase(self.status), headers=headers)


def phrase(status: HTTPStatus) -> str:
    """Return a status in words, the same on every Python."""
    return _PHRASES.get(status, status.phrase)


@lru_cache(64)
def _head(status: HTTPStatus, retry_after_s: int | None, length: int, now_s: int) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {phrase(status)}",
        f"Content-Type: {JSON}",
        *([] if retry_after_s is None else [f"Retry-After: {retry_after_s}"]),
        f"Content-Length: {length}",
        f"Date: {formatdate(now_s, usegmt=True)}",
        f"Server: {SERVER}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()
