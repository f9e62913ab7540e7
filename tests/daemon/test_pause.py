"""A gateway that is away or misconfigured: nothing is claimed or spent, and it heals by itself."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import psycopg
import pytest
from daemons import become, daemon, free_port, insert, row
from gateways import FakeGateway, gateway
from programs import Program, until
from structlog.testing import capture_logs

from daemon.answers import Answer, Verdict
from daemon.gateway import Gateway
from daemon.pause import Pause

AWAY = Answer(Verdict.UNAVAILABLE, 503, "starting")
THERE = Answer(Verdict.ACCEPTED, 400)


class Probed(Gateway):
    """A gateway whose probes have their answers beforehand."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        """Give these answers in turn."""
        super().__init__("http://127.0.0.1:18789", "/hooks", "token")
        self.answers = list(answers)

    async def probe(self) -> Answer:
        """Give the next one."""
        return self.answers.pop(0)


async def passed_s(pause: Pause) -> float:
    """How long the pause lasts from now."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    await pause.opened()
    return loop.time() - since


@pytest.mark.usefixtures("clock")
async def test_an_open_pause_is_none() -> None:
    """Nothing is probed while the gateway is well."""
    assert 0 == await passed_s(Pause(Probed([]), asyncio.Event()))


@pytest.mark.usefixtures("clock")
async def test_probes_come_quickly_and_then_every_two_seconds() -> None:
    """0.25, 0.5, 1 and then 2 s: the cure is seen within two seconds."""
    pause = Pause(Probed([AWAY] * 9 + [THERE]), asyncio.Event())
    with capture_logs() as lines:
        pause.close(AWAY)
        assert pytest.approx(0.25 + 0.5 + 1 + 7 * 2) == await passed_s(pause)
    assert ["gateway_paused", "gateway_paused", "gateway_resumed"] == [line["event"] for line in lines]


@pytest.mark.usefixtures("clock")
async def test_a_gateway_that_takes_probes_and_no_wakes_gets_no_hot_loop() -> None:
    """The waits go on growing over such pauses, until a wake was taken."""
    pause = Pause(Probed([THERE] * 6), asyncio.Event())
    waits = []
    for _ in range(5):
        pause.close(AWAY)
        waits.append(await passed_s(pause))
    assert pytest.approx([0.25, 0.5, 1, 2, 2]) == waits
    pause.trust()
    pause.close(AWAY)
    assert pytest.approx(0.25) == await passed_s(pause)


@pytest.mark.usefixtures("clock")
async def test_a_stop_ends_the_pause_without_a_probe() -> None:
    """Our own end does not wait for a gateway that may hang."""
    stop = asyncio.Event()
    pause = Pause(Probed([]), stop)
    pause.close(AWAY)
    asyncio.get_running_loop().call_later(0.1, stop.set)
    assert pytest.approx(0.1) == await passed_s(pause)


@pytest.mark.parametrize(
    "case",
    [
        (401, "set OPENCLAW_HOOK_TOKEN to hooks.token in openclaw.json"),
        (404, "set hooks.enabled to true"),
        # what any server may answer to anything: it would use up each event
        (400, "set GATEWAY_HTTP_URL to the OpenClaw gateway itself"),
        (500, "set GATEWAY_HTTP_URL to the OpenClaw gateway itself"),
        (501, "set GATEWAY_HTTP_URL to the OpenClaw gateway itself"),
    ],
)
async def test_a_misconfigured_gateway_pauses_all(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path, case: tuple[int, str]
) -> None:
    """The remedy is said, nothing is spent or claimed meanwhile, and once it is cured all is delivered."""
    status, remedy = case
    fake.always = (status, "no")
    (first,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path, pulse_s=0.1) as program:
        paused = await program.event("gateway_paused", status=status, reason="misconfigured")
        assert remedy in paused["remedy"]
        await program.event("job_released", job_id=str(first))
        assert ("queued", 0, 1) == tuple(row(database, first)[key] for key in ("status", "attempts", "claims"))
        waiting = insert(database, 3)
        probes = fake.probes
        await until(lambda: fake.probes > probes + 1)
        assert [("queued", 0)] * 3 == [(row(database, one)["status"], row(database, one)["claims"]) for one in waiting]
        fake.always = None
        await program.event("gateway_resumed")
        await become(database, program, done=4)
    assert [(1, 2)] + [(1, 1)] * 3 == [
        (row(database, one)["attempts"], row(database, one)["claims"]) for one in (first, *waiting)
    ]
    assert 1 == program.text.count('"gateway_paused"')


async def refused(program: Program, database: psycopg.Connection) -> None:
    """Wait until the gateway's absence was said and the job is back."""
    paused = await program.event("gateway_paused", reason="unavailable")
    assert "start the OpenClaw gateway" in paused["remedy"]
    await become(database, program, queued=1)


async def test_a_gateway_that_is_not_running_spends_nothing(
    dsn: str, database: psycopg.Connection, tmp_path: Path
) -> None:
    """The job waits in the database, untried, and is delivered when the gateway starts."""
    port = free_port()
    (job_id,) = insert(database)
    async with daemon(dsn, f"http://127.0.0.1:{port}", tmp_path) as program:
        await refused(program, database)
        waiting = row(database, job_id)
        assert (0, 1, None) == (waiting["attempts"], waiting["claims"], waiting["locked_by"])
        async with gateway(port) as fake:
            await become(database, program, done=1)
            assert 1 == len(fake.wakes)
    assert 1 == row(database, job_id)["attempts"]
