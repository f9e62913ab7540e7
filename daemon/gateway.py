"""The client of the OpenClaw gateway's hooks: one call, its short retries, one answer."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Self

import aiohttp
import msgspec

from daemon import answers
from daemon.answers import Answer, Verdict
from daemon.hooks import PROBE, Call, agent_call, wake_call
from daemon.remedies import remedy
from daemon.routes import DEFAULT, Route
from notifier.ending import stopped_within

BODY_BYTES = 64 * 1024
KEPT_S = 2.0  # for how long a connection without work is kept: well below the gateway's own 5 s
ONE_PIECE_BYTES = 1024 * 1024  # aiohttp warns of more in one piece

Assure = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    """Assure nothing."""


@dataclass(slots=True, eq=False)
class Gateway:
    """The hooks of one OpenClaw gateway; an async context manager that owns its HTTP session.

    A call of `wake` lasts at most `retry_s` plus `timeout_s`: keep that well below the lease. A call of `agent` may
    last as long as the agent's run: renew the lease meanwhile.
    """

    url: str
    hooks_path: str
    token: str = field(repr=False)
    timeout_s: float = field(default=10.0, kw_only=True)
    retry_s: float = field(default=8.0, kw_only=True)
    first_wait_s: float = field(default=0.1, kw_only=True)
    longest_wait_s: float = field(default=2.0, kw_only=True)
    _session: aiohttp.ClientSession = field(init=False, repr=False)
    _usual_headers: dict[str, str] = field(init=False, repr=False)
    _usual_limit: aiohttp.ClientTimeout = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Accept both with and without slashes where url and path meet."""
        self.url = self.url.rstrip("/")
        self.hooks_path = "/" + self.hooks_path.strip("/")
        self._usual_headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        self._usual_limit = self._limit(self.timeout_s)

    async def __aenter__(self) -> Self:
        """Open the session: straight to the gateway, without the environment's proxies, netrc or cookies."""
        self._session = aiohttp.ClientSession(
            # Kept for a moment only: one that the gateway closes just now (after 5 s) may have had the POST or not.
            connector=aiohttp.TCPConnector(keepalive_timeout=KEPT_S, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},
            timeout=self._usual_limit,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        await self._session.close()

    async def wake(
        self, text: str, *, route: Route = DEFAULT, stop: asyncio.Event | None = None, assure: Assure = _nothing
    ) -> Answer:
        """Wake the route's session with a text; while the gateway is unavailable, try again for `retry_s` seconds.

        Returns the last answer; a set `stop` ends the tries. `assure` is awaited before each POST, and what it raises
        ends the call; no state of the gateway raises.
        """
        return await self._call(wake_call(text, route), stop or asyncio.Event(), assure)

    async def agent(
        self, route: Route, message: str, key: str, *, stop: asyncio.Event | None = None, assure: Assure = _nothing
    ) -> Answer:
        """Have an agent run, as the route says: until the run has begun, or until it has ended.

        The idempotency `key` tells one run from another.

        Tries, and raises, as `wake` does. A set `stop` also hangs up, and the answer is then POSTPONED: the run goes
        on, and the same call joins it.
        """
        call = agent_call(message, key, route, lingers_s=self.timeout_s)
        stop = stop or asyncio.Event()
        if call.awaits_end and stop.is_set():
            return answers.held_back("the daemon stops")
        return await self._call(call, stop, assure)

    async def probe(self) -> Answer:
        """Ask, in a single try and without waking anyone, whether a wake would be accepted."""
        return answers.probed(await self._post(PROBE))

    async def uptime_s(self) -> float | None:
        """Ask how long the gateway's process has been running, in seconds; None where nobody tells."""
        try:
            async with self._session.get(f"{self.url}/readyz", allow_redirects=False) as response:
                return answers.uptime_s(await _read(response.content))
        except (aiohttp.ClientError, OSError):
            return None

    def remedy(self, answer: Answer) -> str:
        """Say in one line what a person changes to get a better answer."""
        return remedy(answer, self.url, self.hooks_path)

    async def _call(self, call: Call, stop: asyncio.Event, assure: Assure) -> Answer:
        loop = asyncio.get_running_loop()
        began_s, tried = loop.time(), list[Answer]()
        while True:
            await assure()
            tried.append(answer := await self._post_until(stop, call))
            if answer.verdict is not Verdict.UNAVAILABLE:
                break
            wait_s = max(self._backoff_s(len(tried)), answer.retry_after_s or 0)
            if loop.time() - began_s + wait_s >= self.retry_s or await stopped_within(stop, wait_s):
                break
        if len(tried) == 1:
            return answer
        return replace(answer, posts=len(tried), may_be_taken=any(one.may_be_taken for one in tried))

    def _backoff_s(self, tries: int) -> float:
        doubled_s: float = self.first_wait_s * 2 ** (tries - 1)
        return min(doubled_s, self.longest_wait_s) + random.uniform(0, self.first_wait_s)  # noqa: S311 - no secret

    async def _post_until(self, stop: asyncio.Event, call: Call) -> Answer:
        """POST, and hang up when the daemon stops and the call has lingered long enough."""
        if call.lingers_s is None:
            return await self._post(call)
        async with asyncio.TaskGroup() as tasks:
            posting = tasks.create_task(self._post(call), name=f"post {call.key}")
            hanging_up = tasks.create_task(_hang_up(posting, stop, call.lingers_s), name=f"hang up {call.key}")
            await asyncio.wait([posting])
            hanging_up.cancel()
        return answers.hung_up() if posting.cancelled() else posting.result()

    async def _post(self, call: Call) -> Answer:
        body = msgspec.json.encode(call.body)
        try:
            async with self._session.post(
                f"{self.url}{self.hooks_path}/{call.hook}",
                data=aiohttp.BytesPayload(body) if len(body) <= ONE_PIECE_BYTES else BytesIO(body),
                headers=self._headers(call),
                timeout=self._limit(call.within_s) if call.within_s else self._usual_limit,
                allow_redirects=False,
            ) as response:
                content = await _read(response.content)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            return answers.unanswered(error, token=self.token, awaited_s=call.within_s if call.awaits_end else None)
        retry_after = response.headers.get("Retry-After")
        return answers.answered(response.status, content, retry_after, token=self.token, now=datetime.now(UTC))

    def _headers(self, call: Call) -> dict[str, str]:
        return self._usual_headers | {"Idempotency-Key": call.key} if call.key else self._usual_headers

    def _limit(self, total_s: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=total_s, connect=min(total_s, self.timeout_s))


async def _hang_up(posting: asyncio.Task[Answer], stop: asyncio.Event, lingers_s: float) -> None:
    await stop.wait()
    await asyncio.sleep(lingers_s)
    posting.cancel()


async def _read(stream: aiohttp.StreamReader) -> bytes:
    """Read at most 64 KiB of a body, so that a server gone wrong cannot fill our memory."""
    content = b""
    while len(content) < BODY_BYTES and (chunk := await stream.read(BODY_BYTES - len(content))):
        content += chunk
    return content
