"""The client of the OpenClaw gateway's wake hook: one call, its short retries, one answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Self

import aiohttp
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_result,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from daemon import answers
from daemon.answers import Answer, Verdict

BODY_BYTES = 64 * 1024

Assure = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    """Assure nothing."""


@dataclass(slots=True, eq=False)
class Gateway:
    """The wake hook of one OpenClaw gateway; an async context manager that owns its HTTP session.

    A call of `wake` lasts at most `retry_s` plus `timeout_s`: keep that well below the lease.
    """

    url: str
    hooks_path: str
    token: str = field(repr=False)
    timeout_s: float = field(default=10.0, kw_only=True)
    retry_s: float = field(default=8.0, kw_only=True)
    first_wait_s: float = field(default=0.1, kw_only=True)
    longest_wait_s: float = field(default=2.0, kw_only=True)
    _session: aiohttp.ClientSession = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Accept both with and without slashes where url and path meet."""
        self.url = self.url.rstrip("/")
        self.hooks_path = "/" + self.hooks_path.strip("/")

    async def __aenter__(self) -> Self:
        """Open the session: straight to the gateway, without the environment's proxies, netrc or cookies."""
        self._session = aiohttp.ClientSession(
            # A kept connection may be one that the gateway closes in this moment (after 5 s), and whether it
            # read the POST is then unknown. A new one costs a fraction of a millisecond on loopback.
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Authorization": f"Bearer {self.token}",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
            },
            timeout=aiohttp.ClientTimeout(total=self.timeout_s),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        await self._session.close()

    async def wake(
        self, text: str, *, mode: str = "now", stop: asyncio.Event | None = None, assure: Assure = _nothing
    ) -> Answer:
        """Wake the agent with a text; while the gateway is unavailable, try again for `retry_s` seconds.

        Returns the last answer; a set `stop` ends the tries. `assure` is awaited before each POST, and what it raises
        ends the call; no state of the gateway raises.
        """
        body = {"text": text, "mode": mode}
        tried: list[Answer] = []
        stop = stop or asyncio.Event()

        async def try_once() -> Answer:
            # A stop wakes tenacity from its sleep straight into this next try: it must not POST once more.
            if not (tried and stop.is_set()):
                await assure()
                tried.append(await self._post(body))
            return tried[-1]

        await self._retrying(stop)(try_once)
        return replace(tried[-1], posts=len(tried))

    async def probe(self) -> Answer:
        """Ask, in a single try and without waking anyone, whether a wake would be accepted."""
        return answers.probed(await self._post({}))

    def remedy(self, answer: Answer) -> str:
        """Say in one line what a person changes to get a better answer."""
        return answers.remedy(answer, self.url, self.hooks_path)

    def _retrying(self, stop: asyncio.Event) -> AsyncRetrying:
        backoff = wait_exponential(self.first_wait_s, self.longest_wait_s) + wait_random(0, self.first_wait_s)
        in_time = stop_before_delay(self.retry_s)
        return AsyncRetrying(
            retry=retry_if_result(_unavailable),
            wait=lambda state: max(backoff(state), _last(state).retry_after_s or 0),
            stop=lambda state: stop.is_set() or in_time(state),
            sleep=_until(stop),
            retry_error_callback=_last,
        )

    async def _post(self, body: dict[str, str]) -> Answer:
        url = f"{self.url}{self.hooks_path}/wake"
        data = BytesIO(json.dumps(body).encode())  # a stream: aiohttp warns of more than 1 MiB in one piece
        try:
            async with self._session.post(url, data=data, allow_redirects=False) as response:
                content = await _read(response.content)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            return answers.unanswered(error, token=self.token)
        retry_after = response.headers.get("Retry-After")
        return answers.answered(response.status, content, retry_after, token=self.token, now=datetime.now(UTC))


def _unavailable(answer: Answer) -> bool:
    return answer.verdict is Verdict.UNAVAILABLE


def _last(state: RetryCallState) -> Answer:
    answer: Answer = state.outcome.result()  # type: ignore[union-attr]  # set once a try is over
    return answer


def _until(stop: asyncio.Event) -> Callable[[float], Awaitable[None]]:
    async def sleep(wait_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await stop.wait()

    return sleep


async def _read(stream: aiohttp.StreamReader) -> bytes:
    """Read at most 64 KiB of a body, so that a server gone wrong cannot fill our memory."""
    content = b""
    while len(content) < BODY_BYTES and (chunk := await stream.read(BODY_BYTES - len(content))):
        content += chunk
    return content
