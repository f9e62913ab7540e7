"""Well-known lists of what breaks parsers and programs, sent through the vault and read back by every way there is."""

import asyncio
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient
from deliveries import GMAIL, KEY, deliver, rows

CORPORA = Path(__file__).with_name("corpora")
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
CASES = {
    name: text.encode() for name, text in json.loads((CORPORA / "json_parsing.json").read_text("utf-8")).items() if text
}
# what a list of texts cannot hold
CASES |= {
    "100,000 arrays": b"[" * 100_000,
    "50,000 arrays of objects": b'[{"":' * 50_000,
    "an integer of a million digits": b"1" * 1_000_000,
    "a thousand huge numbers": b"[" + b"1E131071," * 999 + b"0]",
    "utf-16": '{"a":"\u00e4"}'.encode("utf-16"),
    "utf-8 cut off": b'["\xe0\xff"]',
    "overlong slash": b'["\xc0\xaf"]',
    "half of a surrogate pair in utf-8": b'["\xed\xa0\x80"]',
    "beyond unicode": b'["\xf4\xbf\xbf\xbf"]',
    "byte order mark alone": b"\xef\xbb\xbf",
    "repeated keys": b'{"type":"a","type":"b","id":1,"id":2,"metadata":{},"metadata":[],"data":1,"data":2}',
}
NAUGHTY = [
    *json.loads((CORPORA / "naughty_strings.json").read_text("utf-8")),
    *("\u202egnp.exe", "\u200b\u200d\ufeff", "${jndi:ldap://127.0.0.1/a}", "'; drop table public.jobs; --", "{{7*7}}"),
    *("../../../../etc/passwd", "%00%0d%0aSet-Cookie: a=b", "\0", "a\0b", "\ud83d", "\udc80", "a\r\nb", "\x1b[2J"),
    *("e\u0301" * 200, "\ufdfa" * 200, "\u00df" * 128, "\u0130" * 200, "A" * 129, "A" * 5000, "\ufffe", "*"),
]
IDS = ("trigger_id", "connected_account_id", "user_id", "log_id", "auth_config_id", "id")


def around(data: bytes) -> bytes:
    """Return a V3 delivery with this as its data."""
    known = b'"id":"msg_1","type":"composio.trigger.message","metadata":{"trigger_slug":"%s"}' % GMAIL.encode()
    return b'{%s,"data":%s}' % (known, data)


async def send(vault: TestClient, bodies: Iterable[bytes]) -> list[str]:
    """Send deliveries, some at once, all of which must be stored; return their learnings."""
    few = asyncio.Semaphore(8)

    async def one(body: bytes) -> str:
        async with few:
            status, answer = await deliver(vault, body)
        assert (200, True) == (status, answer["job_queued"])
        return str(answer["learning_id"])

    return list(await asyncio.gather(*map(one, bodies)))


async def read_everything(vault: TestClient, database: psycopg.Connection, learnings: list[str]) -> None:
    """Read each event by every way that there is; each answer is JSON."""
    for query in ("list?limit=100", "search?q=Composio&limit=100", "search?q=%5C&limit=100"):
        async with vault.get(f"/learnings/{query}", headers=AUTHORIZED) as answer:
            assert 200 == answer.status
            json.loads(await answer.read(), parse_int=str, parse_float=str)
    (events,) = database.execute(
        "select count(*) from agent_vault.list_events('{default}', '-infinity', true, 10000)"
    ).fetchone()
    (jobs,) = database.execute(
        "select count(j::text) from agent_vault.list_jobs('queued', null, null, null, null, null, 10000) j"
    ).fetchone()
    assert (len(learnings), len(learnings)) == (events, jobs)
    for learning in learnings:
        async with vault.get(f"/learnings/get?id={learning}", headers=AUTHORIZED) as answer:
            assert (learning, 200) == (learning, answer.status)
            json.loads(await answer.read(), parse_int=str, parse_float=str)


@pytest.mark.parametrize("form", [bytes, around], ids=["as the body", "as its data"])
async def test_json(vault: TestClient, database: psycopg.Connection, form: Any) -> None:
    """Each case that parsers differ on is stored byte for byte, wakes the agent, and can be read."""
    bodies = [form(case) for case in CASES.values()]
    learnings = await send(vault, bodies)
    stored = {str(row["id"]): bytes(row["raw_body"]) for row in rows(database, "agent_learnings")}
    assert bodies == [stored[learning] for learning in learnings]
    await read_everything(vault, database, learnings)


def deliveries_of(text: str) -> list[bytes]:
    """Return deliveries of every version with this text in each of their fields."""
    ids = dict.fromkeys(IDS, text)
    v3 = {
        "id": text,
        "type": "composio.trigger.message",
        "metadata": {"trigger_slug": text, **ids},
        "data": {text: text},
    }
    kind = {**v3, "type": f"composio.{text}"}
    data = dict.fromkeys(("connection_id", "connection_nano_id", "trigger_nano_id", "user_id"), text)
    v2 = {"type": text or "x", "timestamp": text, "log_id": text, "data": {**data, "subject": text}}
    v1 = {"trigger_name": text or "x", "connection_id": text, "trigger_id": text, "payload": {"subject": text}}
    return [json.dumps(body).encode() for body in (v3, kind, v2, v1)]


async def test_naughty_strings_in_deliveries(vault: TestClient, database: psycopg.Connection) -> None:
    """In every field of a delivery each is stored, wakes as a plain name, and can be read."""
    bodies = [body for text in NAUGHTY for body in deliveries_of(text)]
    await read_everything(vault, database, await send(vault, bodies))
    jobs = rows(database, "jobs")
    assert [] == [job["type"] for job in jobs if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", job["type"])]
    assert {f"New Composio trigger ({job['type']}). Check latest composio_trigger learnings." for job in jobs} == {
        job["payload"]["text"] for job in jobs
    }


async def test_naughty_strings_in_calls(vault: TestClient, database: psycopg.Connection) -> None:
    """As a worker's name, an error, an id, a time, a limit or words each is taken as a text, or refused."""
    database.execute("insert into public.jobs (type) select 'chat' from generate_series(1, %s)", [len(NAUGHTY)])
    for text in NAUGHTY:
        body = json.dumps({"agentId": text}).encode()
        async with vault.post("/jobs/next", data=body, headers=AUTHORIZED) as answer:
            assert (text, True) == (text, answer.status in {200, 400})
            claimed = await answer.json() if answer.status == 200 else None
        if claimed is not None:
            ack = json.dumps({"jobId": claimed["job"]["id"], "status": "failed", "error": text}).encode()
            assert 200 == (await vault.post("/jobs/ack", data=ack, headers=AUTHORIZED)).status
        for form in ({"jobId": text, "status": "done"}, {"id": text}, {"ids": [text]}):
            for path in ("/jobs/ack", "/learnings/ack"):
                answer = await vault.post(path, data=json.dumps(form).encode(), headers=AUTHORIZED)
                assert (text, 400) == (text, answer.status)
        sent = text.encode("utf-8", "replace").decode()
        for path, name in (("list", "source"), ("search", "q"), ("get", "id"), ("list", "since"), ("list", "limit")):
            answer = await vault.get(f"/learnings/{path}", params={name: sent}, headers=AUTHORIZED)
            assert (text, True) == (text, answer.status in {200, 400})
    taken = [job for job in rows(database, "jobs") if job["locked_by"] is not None]
    assert {"failed"} == {job["status"] for job in taken}
    assert {text for text in NAUGHTY if "\0" not in text and len(text) <= 200 and text.isascii()} <= {
        job["last_error"] or "" for job in taken
    }
