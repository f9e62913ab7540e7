"""The gateway's client against a scripted gateway that answers over HTTP."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from daemon.answers import Answer, Verdict
from daemon.gateway import Gateway
from daemon.routes import Route

TOKEN = "hook-token-of-this-test"
QUEUED = '{"ok":true,"mode":"now","eventOutcome":"queued"}'


@dataclass
class ScriptedGateway:
    """Gives its answers in turn, the last one for ever, and keeps what it was sent."""

    answers: list[tuple[int, str, dict[str, str]]]
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Keep the request and give the next answer."""
        self.times_s.append(asyncio.get_running_loop().time())
        self.requests.append(request)
        self.bodies.append(await request.json())
        status, text, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=status, text=text, headers=headers)


class WatchedEvent(asyncio.Event):
    """An event that tells when someone waits for it."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        super().__init__()
        self.awaited = asyncio.Event()

    async def wait(self) -> Literal[True]:
        """Tell, and wait."""
        self.awaited.set()
        return await super().wait()


async def scripted(
    aiohttp_server: AiohttpServer, *answers: tuple[int, str] | tuple[int, str, dict[str, str]]
) -> tuple[str, ScriptedGateway]:
    """Start a gateway that answers so, and give its URL."""
    script = ScriptedGateway([(answer[0], answer[1], dict(*answer[2:])) for answer in answers])
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.answer)
    server = await aiohttp_server(app)
    return str(server.make_url("")), script


def client(url: str, *, retry_s: float = 0, token: str = TOKEN) -> Gateway:
    """Make a client with tiny waits."""
    return Gateway(url, "/hooks", token, retry_s=retry_s, first_wait_s=0.001, longest_wait_s=0.002)


ROWS: Iterable[tuple[Answer, tuple[int, str] | tuple[int, str, dict[str, str]]]] = [
    (Answer(Verdict.ACCEPTED, 200, event_outcome="queued"), (200, QUEUED)),
    (Answer(Verdict.ACCEPTED, 202), (202, '{"ok":true}')),
    (Answer(Verdict.REJECTED, 400, "text required"), (400, '{"ok":false,"error":"text required"}')),
    (Answer(Verdict.REJECTED, 400, "message required"), (400, '{"ok":false,"error":"message required"}')),
    (
        Answer(Verdict.ROUTE_REFUSED, 400, 'unknown agentId "nope"'),
        (400, '{"ok":false,"error":"unknown agentId \\"nope\\""}'),
    ),
    (Answer(Verdict.REJECTED, 400, "Bad Request"), (400, "Bad Request")),
    (Answer(Verdict.REJECTED, 413, "payload too large"), (413, '{"error":"payload too large"}')),
    (Answer(Verdict.REJECTED, 422, "no"), (422, "no")),
    (Answer(Verdict.MISCONFIGURED, 401, "Unauthorized"), (401, "Unauthorized")),
    (Answer(Verdict.MISCONFIGURED, 403, "Forbidden"), (403, "Forbidden")),
    (Answer(Verdict.MISCONFIGURED, 404, "Not Found"), (404, "Not Found")),
    (Answer(Verdict.MISCONFIGURED, 405, "Method Not Allowed"), (405, "Method Not Allowed")),
    (
        Answer(Verdict.MISCONFIGURED, 429, "Too Many Requests", retry_after_s=60),
        (429, "Too Many Requests", {"Retry-After": "60"}),
    ),
    (Answer(Verdict.UNAVAILABLE, 408, "late"), (408, "late")),
    (Answer(Verdict.UNAVAILABLE, 409, "conflict"), (409, "conflict")),
    (Answer(Verdict.UNAVAILABLE, 502, "bad"), (502, "bad")),
    (Answer(Verdict.UNAVAILABLE, 503, "draining", retry_after_s=5), (503, "draining", {"Retry-After": "5"})),
    (Answer(Verdict.UNAVAILABLE, 504, "late"), (504, "late")),
    (Answer(Verdict.FAILED, 500, "hook failed"), (500, '{"ok":false,"error":"hook failed"}')),
]


@pytest.mark.parametrize(("expected", "given"), ROWS)
async def test_each_answer_of_the_gateway_is_understood(
    aiohttp_server: AiohttpServer,
    expected: Answer,
    given: tuple[int, str] | tuple[int, str, dict[str, str]],
) -> None:
    """Every row of the table of answers, each with one POST."""
    url, script = await scripted(aiohttp_server, given)
    async with client(url) as gateway:
        assert (expected, 1) == (await gateway.wake("hello"), len(script.requests))


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500, 302])
async def test_only_an_unavailable_gateway_is_asked_again(aiohttp_server: AiohttpServer, status: int) -> None:
    """Another try within seconds would get the same answer."""
    url, script = await scripted(aiohttp_server, (status, "no"), (200, QUEUED))
    async with client(url, retry_s=30) as gateway:
        await gateway.wake("hello")
    assert len(script.requests) == 1


async def test_a_wake_is_one_authorised_json_post(aiohttp_server: AiohttpServer) -> None:
    """Path, token and body are the gateway's, and no header makes it think of a proxy."""
    url, script = await scripted(aiohttp_server, (200, QUEUED))
    async with client(f"{url}/") as gateway:
        await gateway.wake("12 new triggers é \U0001f514", route=Route(mode="next-heartbeat", agent_id="ops"))
    (sent,) = script.requests
    assert ("POST", "/hooks/wake") == (sent.method, sent.path_qs)
    assert sent.headers["Authorization"] == f"Bearer {TOKEN}"
    assert sent.content_type == "application/json"
    assert not [name for name in sent.headers if name.lower().startswith(("x-forwarded", "cookie", "proxy"))]
    assert script.bodies == [{"text": "12 new triggers é \U0001f514", "mode": "next-heartbeat", "agentId": "ops"}]


async def test_two_503s_and_a_200_are_three_posts_of_one_call(aiohttp_server: AiohttpServer) -> None:
    """A gateway that restarts gets the event within the call."""
    url, script = await scripted(aiohttp_server, (503, "starting"), (503, "starting"), (200, QUEUED))
    async with client(url, retry_s=30) as gateway:
        answer = await gateway.wake("hello")
    assert Answer(Verdict.ACCEPTED, 200, event_outcome="queued", posts=3) == answer
    assert script.bodies == [{"text": "hello", "mode": "now"}] * 3


async def test_the_last_answer_is_given_when_the_time_is_over(aiohttp_server: AiohttpServer) -> None:
    """An exhausted call ends in an answer, not in an exception."""
    url, script = await scripted(aiohttp_server, (503, "starting"), (409, "busy"))
    async with client(url, retry_s=0.1) as gateway:
        answer = await gateway.wake("hello")
    assert Answer(Verdict.UNAVAILABLE, 409, "busy", posts=len(script.requests)) == answer
    assert answer.posts > 1


async def test_a_retry_after_that_fits_is_waited_for(aiohttp_server: AiohttpServer) -> None:
    """The second POST is not sooner than the gateway asked for."""
    url, script = await scripted(aiohttp_server, (503, "draining", {"Retry-After": "1"}), (200, QUEUED))
    async with client(url, retry_s=30) as gateway:
        answer = await gateway.wake("hello")
    assert (Verdict.ACCEPTED, 2) == (answer.verdict, answer.posts)
    assert script.times_s[1] - script.times_s[0] >= 1


async def test_a_retry_after_that_does_not_fit_is_given_back(aiohttp_server: AiohttpServer) -> None:
    """The caller puts the job back for so long; the call does not sleep."""
    url, _ = await scripted(aiohttp_server, (503, "draining", {"Retry-After": "31"}), (200, QUEUED))
    async with client(url, retry_s=30) as gateway:
        answer = await gateway.wake("hello")
    assert Answer(Verdict.UNAVAILABLE, 503, "draining", retry_after_s=31) == answer


async def test_a_stop_ends_the_tries(aiohttp_server: AiohttpServer) -> None:
    """A stop wakes the call from its wait and lets no further POST out."""
    url, script = await scripted(aiohttp_server, (503, "draining", {"Retry-After": "1000"}), (200, QUEUED))
    stop = WatchedEvent()
    async with client(url, retry_s=3000) as gateway, asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        wake = tasks.create_task(gateway.wake("hello", stop=stop))
        await stop.awaited.wait()
        stop.set()
    assert Answer(Verdict.UNAVAILABLE, 503, "draining", retry_after_s=1000) == wake.result()
    assert len(script.requests) == 1


async def test_a_set_stop_still_lets_the_first_post_out(aiohttp_server: AiohttpServer) -> None:
    """What was claimed is delivered once, even while we shut down."""
    url, script = await scripted(aiohttp_server, (503, "starting"))
    stop = asyncio.Event()
    stop.set()
    async with client(url, retry_s=30) as gateway:
        await gateway.wake("hello", stop=stop)
    assert len(script.requests) == 1


async def test_a_redirect_is_not_followed(aiohttp_server: AiohttpServer) -> None:
    """The token must not travel to where a redirect points."""
    url, script = await scripted(aiohttp_server, (307, "", {"Location": "/elsewhere"}), (200, QUEUED))
    async with client(url, retry_s=30) as gateway:
        assert Answer(Verdict.MISCONFIGURED, 307) == await gateway.wake("hello")
    assert [request.path for request in script.requests] == ["/hooks/wake"]


async def test_the_environments_proxies_are_ignored(
    aiohttp_server: AiohttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy for the rest of the machine would not find the loopback gateway."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    url, _ = await scripted(aiohttp_server, (200, QUEUED))
    async with client(url) as gateway:
        assert (await gateway.wake("hello")).verdict is Verdict.ACCEPTED


async def test_cookies_are_not_kept(aiohttp_server: AiohttpServer) -> None:
    """The client has no state that a gateway could set."""
    url, script = await scripted(aiohttp_server, (200, QUEUED, {"Set-Cookie": "a=b"}))
    # By name: aiohttp keeps no cookies for an address anyway.
    async with client(url.replace("127.0.0.1", "localhost")) as gateway:
        await gateway.wake("one")
        await gateway.wake("two")
    assert "Cookie" not in script.requests[1].headers


async def test_the_token_is_never_told(aiohttp_server: AiohttpServer, caplog: pytest.LogCaptureFixture) -> None:
    """Neither an answer that echoes it, nor a repr, a remedy or a log line shows it."""
    caplog.set_level(logging.DEBUG)
    url, _ = await scripted(aiohttp_server, (401, f"bad Bearer {TOKEN}"))
    async with client(url) as gateway:
        answer = await gateway.wake("hello")
        told = f"{answer!r} {gateway!r} {gateway.remedy(answer)} {caplog.text}"
    assert "bad Bearer [token]" in told
    assert TOKEN not in told


async def test_a_text_too_large_is_the_gateways_to_refuse(aiohttp_server: AiohttpServer) -> None:
    """A body of megabytes is sent without a warning, and the 413 is read."""
    url, _ = await scripted(aiohttp_server, (200, QUEUED))
    async with client(url, retry_s=30) as gateway:
        answer = await gateway.wake("x" * 3_000_000)
    assert (answer.verdict, answer.status) == (Verdict.REJECTED, 413)


PROBES = [
    (Verdict.ACCEPTED, (400, '{"ok":false,"error":"text required"}')),
    (Verdict.MISCONFIGURED, (400, "Bad Request")),
    (Verdict.MISCONFIGURED, (401, "Unauthorized")),
    (Verdict.MISCONFIGURED, (404, "Not Found")),
    (Verdict.MISCONFIGURED, (429, "Too Many Requests")),
    (Verdict.UNAVAILABLE, (503, "starting")),
    (Verdict.MISCONFIGURED, (500, "no")),
    (Verdict.MISCONFIGURED, (501, "Unsupported method ('POST')")),
]


@pytest.mark.parametrize(("expected", "given"), PROBES)
async def test_a_probe_is_one_post_that_wakes_nobody(
    aiohttp_server: AiohttpServer, expected: Verdict, given: tuple[int, str]
) -> None:
    """An empty wake is refused by a healthy gateway, after it has checked token and path."""
    url, script = await scripted(aiohttp_server, given)
    async with client(url, retry_s=30) as gateway:
        answer = await gateway.probe()
    assert (expected, [{}]) == (answer.verdict, script.bodies)


async def test_a_remedy_names_the_gateways_address(aiohttp_server: AiohttpServer) -> None:
    """The line says which gateway and which hook."""
    url, _ = await scripted(aiohttp_server, (404, "Not Found"))
    async with client(url) as gateway:
        line = gateway.remedy(await gateway.probe())
    assert line.startswith(f"no hook at {url.rstrip('/')}/hooks (404): set hooks.enabled")
