"""The client of the agent hook: what is sent, how long it waits, and what a stop or a silence does."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from gateways import TOKEN, FakeGateway
from programs import until

from daemon import hooks
from daemon.answers import Answer, Verdict
from daemon.gateway import Gateway
from daemon.hooks import agent_call, wake_call
from daemon.routes import DEFAULT, Route

KEY = str(uuid.UUID(int=7))
WAITING = Route(action="agent")
SHORT = Route(action="agent", wait_for_completion=False)
OVER = "the daemon stops"


@asynccontextmanager
async def client(url: str, **limits: float) -> AsyncIterator[Gateway]:
    """Make a client with tiny waits."""
    kept = {"retry_s": 0.0, "first_wait_s": 0.001, "longest_wait_s": 0.002, **limits}
    async with Gateway(url, "/hooks", TOKEN, **kept) as gateway:
        yield gateway


EVERYTHING = Route(
    action="agent",
    agent_id="ops",
    session_key="hook:mail",
    name="Mail",
    wait_for_completion=False,
    timeout_seconds=90,
    deliver=True,
    channel="telegram",
    to="42",
    model="fast",
    thinking="low",
    message="never sent as it stands",
)


@pytest.mark.parametrize(
    ("expected", "route"),
    [
        ({"waitForCompletion": True, "timeoutSeconds": 600, "deliver": False}, WAITING),
        (
            {
                "agentId": "ops",
                "sessionKey": "hook:mail",
                "name": "Mail",
                "waitForCompletion": False,
                "timeoutSeconds": 90,
                "deliver": True,
                "channel": "telegram",
                "to": "42",
                "model": "fast",
                "thinking": "low",
            },
            EVERYTHING,
        ),
    ],
)
async def test_a_run_is_one_post_with_its_jobs_key(fake: FakeGateway, expected: dict[str, Any], route: Route) -> None:
    """What the route sets, as OpenClaw spells it, and the key that makes a second one the same run."""
    async with client(fake.url) as gateway:
        await gateway.agent(route, "hello", KEY)
    assert [{"message": "hello", **expected}] == fake.agent_bodies
    assert {KEY: "run-1"} == fake.runs


@pytest.mark.parametrize(
    ("expected", "fields"),
    [
        ({"mode": "now"}, {}),
        ({"mode": "next-heartbeat", "agentId": "ops"}, {"mode": "next-heartbeat", "agent_id": "ops"}),
        ({"mode": "now", "sessionKey": "hook:x"}, {"session_key": "hook:x", "complete_when": "handled"}),
    ],
)
def test_a_wake_has_its_routes_fields(expected: dict[str, str], fields: dict[str, str]) -> None:
    """And none that only a run has; a wake knows no key."""
    call = wake_call("hello", Route(**fields))
    assert ("wake", {"text": "hello", **expected}, None) == (call.hook, call.body, call.key)


def test_how_long_an_answer_may_take() -> None:
    """Until the run's own limit and half a minute, or until the gateway has given up to begin it."""
    waiting, short = (agent_call("x", KEY, route, lingers_s=10) for route in (WAITING, SHORT))
    assert (630, 0, True) == (waiting.within_s, waiting.lingers_s, waiting.awaits_end)
    assert (25, 10, False) == (short.within_s, short.lingers_s, short.awaits_end)


def test_a_connection_has_no_more_time_than_a_wakes() -> None:
    """However long a run may last: a gateway that does not take the call is away, and that spends nothing."""
    limit = Gateway("http://127.0.0.1:9", "/hooks", TOKEN, timeout_s=10)._limit(630)
    assert (630, 10) == (limit.total, limit.connect)


@pytest.mark.parametrize(
    ("expected", "completion", "route"),
    [
        (Answer(Verdict.ACCEPTED, 200, run_id="run-1", completion="ok"), {"status": "ok"}, WAITING),
        (Answer(Verdict.ACCEPTED, 200, run_id="run-1"), {"status": "error"}, SHORT),
        (
            Answer(Verdict.FAILED, 200, "the agent's run ended with error", 310, run_id="run-1", completion="error"),
            {"status": "error"},
            WAITING,
        ),
    ],
)
async def test_the_end_counts_where_it_is_waited_for(
    fake: FakeGateway, expected: Answer, completion: dict[str, str], route: Route
) -> None:
    """An error behind a 200 is a failure; without waiting, the beginning is enough."""
    fake.completion = completion
    async with client(fake.url) as gateway:
        assert expected == await gateway.agent(route, "hello", KEY)


async def test_an_answer_may_take_longer_than_a_wakes(fake: FakeGateway) -> None:
    """A run is waited for beyond the time that a wake has."""
    fake.held.clear()
    async with client(fake.url, timeout_s=2) as gateway, asyncio.TaskGroup() as tasks:
        run = tasks.create_task(gateway.agent(WAITING, "hello", KEY))
        wake = await gateway.wake("hello")
        fake.held.set()
    assert (Verdict.UNAVAILABLE, Verdict.ACCEPTED) == (wake.verdict, run.result().verdict)


async def test_a_run_without_an_end_spends_an_attempt(fake: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a single try: its next one joins the run that still hangs."""
    monkeypatch.setattr(hooks, "ENDING_S", 0.0)
    fake.held.clear()
    async with client(fake.url, retry_s=30) as gateway:
        answer = await gateway.agent(Route(action="agent", timeout_seconds=1), "hello", KEY)
    assert Answer(Verdict.FAILED, detail="no completion within 1 s", may_be_taken=True) == answer
    assert 1 == len(fake.agent_bodies)


async def test_a_beginning_that_takes_too_long_spends_nothing(
    fake: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key lets another try join it."""
    monkeypatch.setattr(hooks, "ADMISSION_S", 0.1)
    fake.held.clear()
    async with client(fake.url) as gateway:
        answer = await gateway.agent(SHORT, "hello", KEY)
    assert (Verdict.UNAVAILABLE, None, 1) == (answer.verdict, answer.status, answer.posts)


async def test_a_gateway_that_is_away_spends_nothing() -> None:
    """A refused connection is no run."""
    async with client("http://127.0.0.1:9") as gateway:
        answer = await gateway.agent(WAITING, "hello", KEY)
    assert (Verdict.UNAVAILABLE, "connection refused") == (answer.verdict, answer.detail)


async def test_transient_answers_are_tried_again_with_the_same_key(fake: FakeGateway) -> None:
    """As for a wake, and the gateway sees one run."""
    fake.answers = [(503, "starting"), (409, "hook configuration changed; retry request"), (502, "no")]
    async with client(fake.url, retry_s=30) as gateway:
        answer = await gateway.agent(WAITING, "hello", KEY)
    assert (Verdict.ACCEPTED, 4, "run-1") == (answer.verdict, answer.posts, answer.run_id)
    assert ({KEY: "run-1"}, 4) == (fake.runs, len(fake.agent_bodies))


@pytest.mark.parametrize("answer", [(400, 'unknown agentId "x"'), (500, "no"), (401, "Unauthorized")])
async def test_other_answers_are_not(fake: FakeGateway, answer: tuple[int, str]) -> None:
    """Another try within seconds would get the same."""
    fake.always = answer
    async with client(fake.url, retry_s=30) as gateway:
        assert answer[0] == (await gateway.agent(WAITING, "hello", KEY)).status
    assert 1 == len(fake.agent_bodies)


async def test_a_stop_ends_the_waiting(fake: FakeGateway) -> None:
    """The daemon hangs up at once; the next one that calls with the job's key joins the same run."""
    fake.held.clear()
    stop = asyncio.Event()
    async with client(fake.url, retry_s=30) as gateway:
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(gateway.agent(WAITING, "hello", KEY, stop=stop))
            await until(lambda: fake.agent_bodies)
            stop.set()
        assert Answer(Verdict.POSTPONED, detail=OVER) == run.result()
        fake.held.set()
        assert "run-1" == (await gateway.agent(WAITING, "hello", KEY)).run_id


async def test_a_stop_before_it_begins_no_run_that_would_be_waited_for(fake: FakeGateway) -> None:
    """Nothing is sent, and the answer says so."""
    stop = asyncio.Event()
    stop.set()
    async with client(fake.url) as gateway:
        answer = await gateway.agent(WAITING, "hello", KEY, stop=stop)
    assert (Answer(Verdict.POSTPONED, detail=OVER, posts=0), []) == (answer, fake.agent_bodies)


async def test_a_stop_lets_a_run_begin(fake: FakeGateway) -> None:
    """What only waits for the beginning has a moment more, as a wake has."""
    stop = asyncio.Event()
    stop.set()
    async with client(fake.url, timeout_s=30) as gateway:
        assert Verdict.ACCEPTED is (await gateway.agent(SHORT, "hello", KEY, stop=stop)).verdict


async def test_a_beginning_does_not_hold_up_a_stop(fake: FakeGateway) -> None:
    """After that moment it is left to itself."""
    fake.held.clear()
    stop = asyncio.Event()
    stop.set()
    async with client(fake.url, timeout_s=1) as gateway:
        answer = await gateway.agent(SHORT, "hello", KEY, stop=stop)
    assert Answer(Verdict.POSTPONED, detail=OVER) == answer


async def test_a_cancelled_call_is_cancelled(fake: FakeGateway) -> None:
    """Cancellation is not taken for a stop."""
    fake.held.clear()
    async with client(fake.url) as gateway, asyncio.TaskGroup() as tasks:
        run = tasks.create_task(gateway.agent(WAITING, "hello", KEY))
        await until(lambda: fake.agent_bodies)
        run.cancel()
    assert run.cancelled()


async def test_the_lease_is_assured_before_each_post(fake: FakeGateway) -> None:
    """What it raises ends the call as it is."""

    async def lost() -> None:
        raise LookupError("lost")

    async with client(fake.url) as gateway:
        with pytest.raises(LookupError, match="lost"):
            await gateway.agent(WAITING, "hello", KEY, assure=lost)
    assert [] == fake.agent_bodies


async def test_a_wake_with_a_route(fake: FakeGateway) -> None:
    """The default's body is as it always was."""
    async with client(fake.url) as gateway:
        await gateway.wake("one", route=DEFAULT)
        await gateway.wake("two", route=Route(agent_id="ops", session_key="hook:x"))
    assert [
        {"text": "one", "mode": "now"},
        {"text": "two", "mode": "now", "agentId": "ops", "sessionKey": "hook:x"},
    ] == fake.wake_bodies


async def test_the_gateway_tells_its_age(fake: FakeGateway) -> None:
    """In seconds, or not at all."""
    fake.uptime_s = 691.0
    async with client(fake.url) as gateway:
        assert 691.0 <= await gateway.uptime_s() < 751.0
        fake.uptime_s = None
        assert await gateway.uptime_s() is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "ftp://nowhere", "http://"])
async def test_a_gateway_that_is_away_has_no_age(url: str) -> None:
    """Nothing raises."""
    async with client(url) as gateway:
        assert None is await gateway.uptime_s()


async def test_the_age_is_asked_for_without_the_token() -> None:
    """Whatever listens there need not be the gateway; and it may hang."""
    asked: list[web.Request] = []

    async def hang(request: web.Request) -> web.Response:
        asked.append(request)
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_get("/readyz", hang)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with client(f"http://127.0.0.1:{runner.addresses[0][1]}", timeout_s=0.2) as gateway:
            assert None is await gateway.uptime_s()
    finally:
        await runner.cleanup()
    assert ["Authorization" in request.headers for request in asked] == [False]
