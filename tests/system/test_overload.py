"""The vault as a process, with more than its database takes: it says so, and its memory stays as it was."""

import asyncio
from pathlib import Path

import psutil
import psycopg
from deliveries import SECRET, say
from programs import run, until
from strangers import CLOSING, request

BODY = b'{"data": "%s"}' % (b"x" * 256 * 1024)
SENDERS = 300
WAVES = 4  # 300 MiB in all, of which 8 may wait, and what is just being read takes its room
HELD = 40
MIB = 1024 * 1024


async def test_overload(dsn: str, database: psycopg.Connection, tmp_path: Path) -> None:
    """While a lock holds up the commits, all but 8 MiB is told at once to come again, and holds no memory."""
    env = {"DATABASE_URL": dsn, "COMPOSIO_WEBHOOK_SECRET": SECRET, "VAULT_PORT": "0"}
    async with run("vault", "serve", env=env, home=tmp_path) as vault:
        port = int((await vault.event("vault_listening"))["port"])
        assert (await say(port, request(BODY, CLOSING))).startswith(b"HTTP/1.1 200 OK\r\n")
        process = psutil.Process(vault.process.pid)
        idle_bytes = process.memory_info().rss
        assert idle_bytes < 90 * MIB
        answers: list[bytes] = []

        async def send() -> None:
            answers.append(await say(port, request(BODY, CLOSING)))

        with database.transaction():
            database.execute("lock table public.agent_learnings in access exclusive mode")
            senders: list[asyncio.Task[None]] = []
            for wave in range(1, WAVES + 1):
                senders += [asyncio.create_task(send()) for _ in range(SENDERS)]
                await until(lambda: len(answers) >= wave * SENDERS - HELD, "the refusals")  # noqa: B023 - awaited here
            grown_bytes = process.memory_info().rss - idle_bytes
        await asyncio.gather(*senders)
        refused = [one for one in answers if one.startswith(b"HTTP/1.1 503 ")]
        assert WAVES * SENDERS - HELD <= len(refused)
        assert all(b"Retry-After: 5\r\n" in one for one in refused)
        assert grown_bytes < 120 * MIB
        assert (await say(port, request(BODY, CLOSING))).startswith(b"HTTP/1.1 200 OK\r\n")
        assert 0 == await vault.stop()
