"""The API of jobs and learnings as existing workers and agents know it, and whatever else is sent to it."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import gateways
import psycopg
import pytest
from aiohttp.test_utils import TestClient
from deliveries import GMAIL, KEY, Switch, deliver, rows, sample, stored
from programs import until
from pytest_aiohttp import AiohttpClient
from structlog.testing import capture_logs

from vault import bearer
from vault.app import make_app
from vault.failures import ALLOWED
from vault.keys import FAILURES
from vault.settings import VaultSettings

AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
GUARDED = [
    ("POST", "/jobs/next"),
    ("POST", "/jobs/ack"),
    ("POST", "/learnings/ack"),
    ("GET", "/learnings/get"),
    ("GET", "/learnings/list"),
    ("GET", "/learnings/search"),
]
SOME_ID = "b98ac162-8047-5841-9f7b-22aad7ed3932"

# what runs on the machines of existing installs: it knows these three calls and nothing else
OLD_WORKER = """
import json, os, time, urllib.request

def post(url, body, token):
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.status, response.read()

vault, key = os.environ["VAULT_URL"] + "/agent-vault", os.environ["AGENT_EDGE_KEY"]
while True:
    status, answer = post(vault + "/jobs/next", {"agentId": "old-worker"}, key)
    if status == 204:
        time.sleep(0.05)
        continue
    found = json.loads(answer)
    wake = {"text": found["payload"]["text"], "mode": "now"}
    try:
        post(os.environ["GATEWAY_HTTP_URL"] + "/hooks/wake", wake, os.environ["OPENCLAW_HOOK_TOKEN"])
        ack = {"jobId": found["job"]["id"], "status": "done"}
    except Exception as error:
        ack = {"job_id": found["job"]["id"], "status": "failed", "error": str(error)}
    post(vault + "/jobs/ack", ack, key)
"""

Configure = Callable[..., VaultSettings]
Reply = tuple[int, Any]


async def get(vault: TestClient, path: str, **query: Any) -> Reply:
    """Return the status and the JSON of a GET with the key."""
    async with vault.get(f"/agent-vault{path}", params=query, headers=AUTHORIZED) as response:
        return response.status, await response.json()


async def post(vault: TestClient, path: str, body: bytes | dict[str, Any]) -> Reply:
    """Return the status and the JSON, if any, of a POST with the key."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with vault.post(f"/agent-vault{path}", data=data, headers=AUTHORIZED) as response:
        return response.status, (await response.json() if response.status != 204 else None)


def learn(database: psycopg.Connection, text: str, **columns: Any) -> str:
    """Insert a learning as other producers do, and return its id."""
    columns |= {"learning": text}
    names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
    query = f"insert into public.agent_learnings ({names}) values ({places}) returning id"
    return str(database.execute(query, list(columns.values())).fetchone()[0])


def texts(reply: Reply) -> list[str]:
    """Return the learnings of a list, after a look at its shape."""
    status, answer = reply
    assert (200, {"data", "count"}, len(answer["data"])) == (status, answer.keys(), answer["count"])
    return [one["learning"] for one in answer["data"]]


@pytest.mark.parametrize("key", [KEY, None])
async def test_unauthorized(configure: Configure, aiohttp_client: AiohttpClient, key: str | None) -> None:
    """Nothing but the key opens anything, and where none is configured nothing does; the health needs none."""
    vault = await aiohttp_client(make_app(configure(agent_edge_key=key)))
    wrong = [None, "", "Bearer", "Bearer ", "Bearer None", KEY, f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}"]
    wrong += [f"Bearer {KEY.upper()}", f"bearer {KEY}", f"Bearer  {KEY}", "Bearer \u00e9\udcff"]
    for given in wrong if key else [*wrong, f"Bearer {KEY}"]:
        headers = {} if given is None else {"Authorization": given}
        vault.app[FAILURES]._counted.clear()
        for method, path in GUARDED:
            for prefix in ("", "/agent-vault"):
                answer = await vault.request(method, prefix + path, data=b"\xff no json", headers=headers)
                assert (given, 401, {"error": "unauthorized"}) == (given, answer.status, await answer.json())
    assert 200 == (await vault.get("/agent-vault/health")).status


@pytest.mark.parametrize(("own", "status"), [(True, 200), (False, 429)], ids=["own", "another"])
async def test_guessing_keys(vault: TestClient, monkeypatch: pytest.MonkeyPatch, own: bool, status: int) -> None:  # noqa: FBT001 - a case
    """Who goes on with wrong keys is told nothing more, and whether one is right only where a proxy may stand."""
    monkeypatch.setattr(bearer, "is_own", lambda _remote: own)
    guesses = [await vault.get("/learnings/list", headers={"Authorization": "Bearer x"}) for _ in range(ALLOWED + 1)]
    assert [*[401] * ALLOWED, 429] == [answer.status for answer in guesses]
    assert 1 <= int(guesses[-1].headers["Retry-After"]) <= 60
    assert status == (await vault.get("/learnings/list", headers=AUTHORIZED)).status
    assert 200 == (await deliver(vault, sample()))[0]


async def test_a_keys_length_does_not_show(vault: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is given is compared in full: what ends early where the lengths differ sees one length alone."""
    lengths: set[int] = set()

    def compare(given: bytes, expected: bytes) -> bool:
        lengths.update((len(given), len(expected)))
        return given == expected

    monkeypatch.setattr(bearer.hmac, "compare_digest", compare)
    for given in ("", "x", KEY[:-1], f"{KEY}x", "\u00e9" * 500):
        assert 401 == (await vault.get("/learnings/list", headers={"Authorization": f"Bearer {given}"})).status
    assert 200 == (await vault.get("/learnings/list", headers=AUTHORIZED)).status
    assert 1 == len(lengths)


async def test_unauthorized_before_the_body(vault: TestClient) -> None:
    """A stranger is refused on the headers alone: no body is waited for."""
    head = b"POST /jobs/ack HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", vault.port)
    writer.write(head)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 30)
    writer.close()
    assert b"HTTP/1.1 401 Unauthorized\r\n" == answer


async def test_health(vault: TestClient) -> None:
    """The health answers as it always has, with the time."""
    status, answer = await get(vault, "/health")
    assert (200, {"ok", "ts"}, True) == (status, answer.keys(), answer["ok"])
    assert abs(datetime.now(UTC) - datetime.fromisoformat(answer["ts"])) < timedelta(minutes=1)


async def test_old_worker(vault: TestClient, database: psycopg.Connection) -> None:
    """A worker of an existing install, unchanged, wakes the gateway and settles its jobs, done and failed."""
    async with gateways.gateway() as gateway:
        gateway.answers = [(200, ""), (400, "no")]
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", OLD_WORKER),
            env={
                "VAULT_URL": f"http://127.0.0.1:{vault.port}",
                "AGENT_EDGE_KEY": KEY,
                "GATEWAY_HTTP_URL": gateway.url,
                "OPENCLAW_HOOK_TOKEN": gateways.TOKEN,
            },
        )
        try:
            await deliver(vault, sample())
            await until(lambda: rows(database, "jobs")[0]["status"] == "done", "the job's end")
            await deliver(vault, sample("SLACK_RECEIVE_MESSAGE"))
            await until(lambda: rows(database, "jobs")[1]["status"] == "failed", "the second job's end")
        finally:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()
    assert [f"New Composio trigger ({GMAIL}). Check latest composio_trigger learnings."] == gateway.wakes
    done, failed = rows(database, "jobs")
    assert ("old-worker", None, True) == (done["locked_by"], done["last_error"], done["delivered_at"] is not None)
    assert "HTTP Error 400: Bad Request" == failed["last_error"]


async def test_next_job(vault: TestClient, database: psycopg.Connection) -> None:
    """A claimed job has exactly the members that old workers know, and the log says more; then there is none left."""
    await deliver(vault, sample())
    with capture_logs() as logs:
        status, answer = await post(vault, "/jobs/next", {"agentId": "mac", "more": [1]})
    _learning, job = stored(database)
    assert (200, "mac", "processing") == (status, job["locked_by"], job["status"])
    assert datetime.fromisoformat(answer["job"].pop("created_at")) == job["created_at"]
    expected = {"id": str(job["id"]), "type": GMAIL, "payload": job["payload"], "status": "processing"}
    assert {"job": expected, "payload": job["payload"]} == answer
    told = {"job_id": job["id"], "type": GMAIL, "queue": "default", "attempt": 1, "over": "api"}
    assert [told | {"event": "job_claimed", "log_level": "info"}] == logs
    assert (204, None) == await post(vault, "/jobs/next", {"agentId": "mac"})


async def test_next_job_of_other_producers(vault: TestClient, database: psycopg.Connection) -> None:
    """Whatever JSON is in a payload is handed on, integers of any length too."""
    for payload in ('{"text": "hi"}', "[1]", "null", None, '{"n": 1%s, "t": "\\ud83d\\ude00"}' % ("0" * 5000)):
        database.execute("insert into public.jobs (type, payload) values ('chat', %s)", [payload])
        answer = await vault.post("/jobs/next", json={"agentId": "mac"}, headers=AUTHORIZED)
        read = json.loads(await answer.read(), parse_int=str)
        expected = None if payload is None else json.loads(payload, parse_int=str)
        assert (200, expected, expected) == (answer.status, read["payload"], read["job"]["payload"])


@pytest.mark.parametrize("name", ["jobId", "job_id"])
@pytest.mark.parametrize(("status", "error"), [("done", None), ("failed", "gateway said no \u00e4"), ("failed", None)])
async def test_acknowledge(
    vault: TestClient, database: psycopg.Connection, name: str, status: str, error: str | None
) -> None:
    """Both names of the id are understood; the first word on a job is the last."""
    await deliver(vault, sample())
    _, claimed = await post(vault, "/jobs/next", {"agentId": "mac"})
    ack = {name: claimed["job"]["id"], "status": status} | ({"error": error} if error else {})
    assert (200, {"ok": True}) == await post(vault, "/jobs/ack", ack)
    contrary = {"done": "failed", "failed": "done"}[status]
    assert (200, {"ok": True}) == await post(vault, "/jobs/ack", {name: claimed["job"]["id"], "status": contrary})
    job = stored(database)[1]
    assert (status, error, None) == (job["status"], job["last_error"], job["lease_until"])


async def test_acknowledge_what_is_not_its_own(vault: TestClient, database: psycopg.Connection) -> None:
    """A job that the daemon holds, that nobody holds, or that does not exist, is none of an old worker's."""
    await deliver(vault, sample())
    job_id = stored(database)[1]["id"]
    for _ in range(2):
        for one in (job_id, uuid4()):
            assert (200, {"ok": True}) == await post(vault, "/jobs/ack", {"jobId": str(one), "status": "done"})
        before, after = stored(database)[1]["status"], "processing"
        database.execute("select agent_vault.claim_jobs('default', 'daemon', 1, 60)")
    assert (after, after) == (before, stored(database)[1]["status"])


NO_BODY = [
    b"", b"{", b"[]", b"null", b'""', b"\xff", b'"\xff"', b"[" * 60_000, b'{"a":' * 10_000,
    b'{"agentId":"\\ud83d","jobId":"\\ud83d"}',
]  # fmt: skip
NO_AGENT = [
    b"{}", b'{"agentId": 1}', b'{"agentId": null}', b'{"agentId": "a\\u0000b"}',
    b'{"agentId": "%s"}' % (b"a" * 201),
    b'{"agentId": "a", "x": ' + b"[" * 60_000,
]  # fmt: skip
NO_ID = [
    b"", b', "jobId": null, "job_id": null', b', "jobId": "1"', b', "jobId": 1', b', "jobId": "%s"' % (b"a" * 5000),
]  # fmt: skip
NO_END = [
    b"", b', "status": "queued"', b', "status": ""', b', "status": "Done"', b', "status": null',
    b', "status": "failed", "error": 1', b', "status": "failed", "error": "a\\u0000b"',
]  # fmt: skip
NO_EVENTS = [
    b"{}", b'{"id": null}', b'{"ids": []}', b'{"ids": null}', b'{"id": 1}', b'{"id": "x"}', b'{"ids": ["x"]}',
    b'{"ids": "%s"}' % SOME_ID.encode(), b'{"ids": [null]}',
    b'{"ids": [%s]}' % b", ".join([b'"%s"' % SOME_ID.encode()] * 501),
]  # fmt: skip
BAD_BODIES = {
    "/learnings/ack": [*NO_BODY, *NO_EVENTS],
    "/jobs/next": [*NO_BODY, *NO_AGENT],
    "/jobs/ack": [
        *NO_BODY,
        *(b'{"status": "done"%s}' % rest for rest in NO_ID),
        *(b'{"jobId": "%s"%s}' % (SOME_ID.encode(), rest) for rest in NO_END),
    ],
}
BAD_QUERIES = {
    "/learnings/get": [
        f"id={SOME_ID}&id={SOME_ID}",
        "", "id=", "id=1",  "id=%00", f"id={SOME_ID}x", f"id={SOME_ID[:-1]}", "id=%ED%A0%80", "id=" + "a" * 5000,
    ],
    "/learnings/list": [
        "limit=0", "limit=-1", "limit=1.5", "limit=1e2", "limit=%00", "limit=%C2%B2", "limit=%D9%A1", "limit=x",
        "limit=0x1", "limit=1%201", "limit=+1", "since=yesterday", "since=1", "since=%00", "since=2026-13-01",
        "since=2026-01-01T00:00:00%2B99:00", "since=infinity", "since=" + "9" * 4000, "source=%00", "source=a%00b",
        "source=" + "a" * 201, "source=a&source=a", "limit=1&limit=1", "since=2026-01-01&since=2026-01-01",
    ],
    "/learnings/search": [
        "", "q=", "q=a&q=b", "q=%00", "q=a%00b", "q=" + "a" * 201, "q=a&limit=0", "q=a&limit=-1", "q=a&limit=%00",
    ],
}  # fmt: skip


@pytest.fixture
async def unread(configure: Configure, aiohttp_client: AiohttpClient) -> TestClient:
    """A vault whose database is nowhere: whatever reaches for it gets 503."""
    return await aiohttp_client(make_app(configure(database_url="postgresql://127.0.0.1:1/none")))


async def test_bad_bodies(unread: TestClient) -> None:
    """A body that nobody can act on is the caller's mistake: 400, with what is wrong."""
    for path, bodies in BAD_BODIES.items():
        for body in bodies:
            status, answer = await post(unread, path, body)
            assert (path, body[:80], 400, {"error"}) == (path, body[:80], status, answer.keys())
            assert "\n" not in answer["error"] != ""


async def test_large_bodies(unread: TestClient) -> None:
    """A body beyond 64 KB is not read, announced or not."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b" " * 70_000

    for path in BAD_BODIES:
        for data in (b" " * 70_000, pieces()):
            assert 413 == (await unread.post(path, data=data, headers=AUTHORIZED)).status


async def test_bad_queries(unread: TestClient) -> None:
    """A parameter that means nothing is the caller's mistake: 400, with what is wrong."""
    for path, queries in BAD_QUERIES.items():
        for query in queries:
            async with unread.get(f"/agent-vault{path}?{query}", headers=AUTHORIZED) as response:
                answer = await response.json()
            assert (path, query[:80], 400, {"error"}) == (path, query[:80], response.status, answer.keys())


async def test_get_learning(vault: TestClient, database: psycopg.Connection) -> None:
    """One learning comes whole; another id is not found."""
    _, stored_as = await deliver(vault, sample())
    learning, _job = stored(database)
    status, answer = await get(vault, "/learnings/get", id=stored_as["learning_id"])
    assert (200, 1) == (status, answer["count"])
    for name in ("learning", "category", "source", "tags", "confidence", "metadata", "event_id"):
        assert learning[name] == answer["data"][name]
    assert (404, {"error": "not found", "data": None, "count": 0}) == await get(vault, "/learnings/get", id=SOME_ID)


async def test_what_is_got_is_read(vault: TestClient, database: psycopg.Connection) -> None:
    """Whoever gets an event by its id has read it; a list or a search of it is no reading."""
    _, answer = await deliver(vault, sample())
    await get(vault, "/learnings/list")
    await get(vault, "/learnings/search", q="Composio")
    assert stored(database)[0]["handled_at"] is None
    _, shown = await get(vault, "/learnings/get", id=answer["learning_id"])
    learning, job = stored(database)
    assert ("read", "read") == (learning["handled_how"], shown["data"]["handled_how"])
    assert "queued" == job["status"]  # the agent must be woken all the same
    _, by_job = await get(vault, "/learnings/get", id=str(job["id"]))
    assert answer["learning_id"] == by_job["data"]["id"]


async def test_acknowledge_learnings(vault: TestClient, database: psycopg.Connection) -> None:
    """One or several, as often as anybody likes, of which those count that there are; their jobs are done."""
    learnings = [(await deliver(vault, sample()))[1]["learning_id"] for _ in range(4)]
    assert (200, {"ok": True, "count": 1}) == await post(vault, "/learnings/ack", {"id": learnings[0]})
    assert (200, {"ok": True, "count": 0}) == await post(vault, "/learnings/ack", {"id": SOME_ID})
    ids = [*learnings[:2], SOME_ID, learnings[1], str(rows(database, "jobs")[2]["id"])]
    for _ in range(2):
        assert (200, {"ok": True, "count": 3}) == await post(vault, "/learnings/ack", {"ids": ids})
    assert ["done", "done", "done", "queued"] == [job["status"] for job in rows(database, "jobs")]
    assert [*["acknowledged"] * 3, None] == [one["handled_how"] for one in rows(database, "agent_learnings")]


async def test_acknowledge_as_many_as_there_may_be(vault: TestClient) -> None:
    """Five hundred ids fit into one call."""
    ids = [str(uuid4()) for _ in range(500)]
    assert (200, {"ok": True, "count": 0}) == await post(vault, "/learnings/ack", {"ids": ids})


async def test_list_learnings(vault: TestClient, database: psycopg.Connection) -> None:
    """The newest come first, of a source, since a time in any ISO form, and as many as asked for."""
    for day in range(1, 6):
        source = "chat" if day % 2 else "mail"
        learn(database, f"day {day}", source=source, created_at=datetime(2026, 1, day, tzinfo=UTC))
    assert [f"day {day}" for day in (5, 4, 3, 2, 1)] == texts(await get(vault, "/learnings/list"))
    assert ["day 5", "day 4"] == texts(await get(vault, "/learnings/list", limit="2"))
    assert ["day 4", "day 2"] == texts(await get(vault, "/learnings/list", source="mail"))
    assert [] == texts(await get(vault, "/learnings/list", source="mai%"))
    forms = ["2026-01-04", "2026-01-04T00:00:00Z", "2026-01-04 00:00:00", "2026-01-04T02:00:00+02:00"]
    for since in [*forms, "2026-01-03T22:00:00-02:00", "20260104T000000Z"]:
        assert ["day 5", "day 4"] == texts(await get(vault, "/learnings/list", since=since))
    unescaped = "/learnings/list?since=2026-01-04T02:00:00+02:00&source=mail"
    async with vault.get(unescaped, headers=AUTHORIZED) as response:
        assert 1 == (await response.json())["count"]
    for since, count in (("0001-01-01T00:00:00+23:59", 5), ("9999-12-31T23:59:59-23:59", 0)):
        assert count == len(texts(await get(vault, "/learnings/list", since=since)))


async def test_limits(vault: TestClient, database: psycopg.Connection) -> None:
    """Without a limit there are twenty, and never more than a hundred."""
    for _ in range(101):
        learn(database, "one of many")
    for path in ("/learnings/list", "/learnings/search?q=many"):
        for limit, count in (({}, 20), ({"limit": 100}, 100), ({"limit": 101}, 100), ({"limit": "9" * 4000}, 100)):
            assert count == len(texts(await get(vault, path, **limit)))


async def test_search_learnings(vault: TestClient, database: psycopg.Connection) -> None:
    """Words are found in text, tags and a mail's subject, without regard to case, and have no wildcards."""
    learn(database, "Pay 100% of it", created_at="2026-01-01")
    learn(database, "Nothing", tags=["ca_1", "INVOICE"], created_at="2026-01-02")
    learn(database, "No tags, no metadata", created_at="2026-01-03")
    assert ["Nothing"] == texts(await get(vault, "/learnings/search", q="invoice"))
    assert ["Pay 100% of it"] == texts(await get(vault, "/learnings/search", q="0% OF"))
    for words in ("1_0", "%", "N%g", "\\", "'; drop table jobs", "\U0001f600"):
        assert (["Pay 100% of it"] if words == "%" else []) == texts(await get(vault, "/learnings/search", q=words))
    await deliver(vault, sample().replace(b'"data":{', b'"data":{"long":"%s",' % (b"x" * 2000)))
    found = texts(await get(vault, "/learnings/search", q="INVOICE 42"))
    assert (1, False) == (len(found), "Invoice 42" in found[0])


async def test_long_payload_is_left_out_of_lists(vault: TestClient) -> None:
    """A list holds no payload beyond 64 KB and says so; the learning itself has it."""
    body = sample().replace(b'"data":{', b'"data":{"long":"%s",' % (b"x" * 70_000))
    _, answer = await deliver(vault, body)
    for path in ("/learnings/list", "/learnings/search?q=Composio"):
        _, listed = await get(vault, path)
        assert (True, False) == tuple(
            key in listed["data"][0]["metadata"] for key in ("raw_payload_omitted", "raw_payload")
        )
    _, one = await get(vault, "/learnings/get", id=answer["learning_id"])
    assert json.loads(body) == one["data"]["metadata"]["raw_payload"]


async def test_database_away(vault: TestClient, switch: Switch) -> None:
    """Without a database every call is asked to come again; with it back, all work at the first try."""
    calls = [("POST", "/jobs/next", {"agentId": "a"}), ("POST", "/jobs/ack", {"jobId": SOME_ID, "status": "done"})]
    calls += [("GET", f"/learnings/get?id={SOME_ID}", None), ("GET", "/learnings/list", None)]
    calls += [("POST", "/learnings/ack", {"id": SOME_ID})]
    switch.off()
    for method, path, body in calls:
        answer = await vault.request(method, path, json=body, headers=AUTHORIZED)
        assert (503, "5") == (answer.status, answer.headers["Retry-After"])
    switch.on()
    statuses = [
        (await vault.request(method, path, json=body, headers=AUTHORIZED)).status for method, path, body in calls
    ]
    assert [204, 200, 404, 200, 200] == statuses


async def test_connection_lost(vault: TestClient, switch: Switch) -> None:
    """A connection that died in between costs one answer at most."""
    assert 204 == (await post(vault, "/jobs/next", {"agentId": "a"}))[0]
    switch.restart()
    assert {204, 503} >= {(await post(vault, "/jobs/next", {"agentId": "a"}))[0]}
    assert 204 == (await post(vault, "/jobs/next", {"agentId": "a"}))[0]
