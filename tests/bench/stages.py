"""One event on its way: when each program and the database had it, by clocks that one machine shares."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import psycopg
import servers
from bench import ours
from bench.load import request
from bench.sink import Sink, sink
from bench.stage import Site, server
from bench.wake import GAP_S, WARM

from sql.migrate import migrate

EVENTS = 340
QUICK = 25
STAGES = {
    "sent → the batch's transaction begins (HTTP, signature, parsing, the way to Postgres)": ("sent", "began"),
    "→ committed and answered (both rows, commit, the way back)": ("began", "answered"),
    "answered → claimed (notification, the way to Postgres, the claim's work)": ("answered", "claimed"),
    "→ received by the gateway (commit of the claim, the way back, the POST)": ("claimed", "received"),
    "→ completed (the gateway's answer, the way to Postgres)": ("received", "finished"),
    "sent → received": ("sent", "received"),
}
JOB = (
    "select extract(epoch from created_at)::float8, extract(epoch from locked_at)::float8,"
    " extract(epoch from finished_at)::float8 from public.jobs where status = 'done' order by created_at desc limit 1"
)
ABOUT = """\
Medians over {events} events at {rate:.0f} a second, in milliseconds, by the clocks of the programs and of the database,
which are the same here. A stage is negative where the next one does not wait for it: the daemon is woken by the
commit and not by the answer.

| stage | median | p99 |
|---|---|---|
{rows}"""


async def timeline(
    gateway: Sink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
) -> dict[str, float]:
    """Send one webhook, and return when it was where, in unix seconds; the rows tell the rest."""
    message = request(port)
    await gateway.expect(1)
    shift = time.time() - time.perf_counter()
    sent = time.time()
    writer.write(message)
    head = await reader.readuntil(b"\r\n\r\n")
    answered = time.time()
    await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
    (received,) = await gateway.receipts()
    return {"sent": sent, "answered": answered, "received": received + shift}


async def measure(dsn: str, home: Path, events: int) -> list[dict[str, float]]:
    """Send events one at a time, each to its end."""
    async with sink(home) as gateway:
        site = Site(dsn, gateway.url, home)
        async with (
            ours.daemon(site),
            ours.vault(site) as port,
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as database,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            found = []
            for number in range(events + WARM):
                one = await timeline(gateway, reader, writer, port)
                await asyncio.sleep(GAP_S)
                done = 0
                while done <= number:  # its own row, and not the one before
                    (done,) = await (
                        await database.execute("select count(*) from public.jobs where status = 'done'")
                    ).fetchone()
                row = await (await database.execute(JOB)).fetchone()
                found.append({**one, **dict(zip(("began", "claimed", "finished"), row, strict=True))})
            writer.close()
    return found[WARM:]


def bench(*, quick: bool) -> tuple[str, dict[str, object]]:
    """Measure, and write the table."""
    events = QUICK if quick else EVENTS
    with server() as server_dsn, servers.database(server_dsn) as dsn, tempfile.TemporaryDirectory() as folder:
        migrate(dsn)
        found = asyncio.run(measure(dsn, Path(folder), events))
    stages = {}
    for name, (start, end) in STAGES.items():
        ms = sorted((one[end] - one[start]) * 1000 for one in found)
        stages[name] = {"p50": statistics.median(ms), "p99": ms[int(len(ms) * 0.99)]}
    rows = "\n".join(f"| {name} | {ms['p50']:.2f} | {ms['p99']:.2f} |" for name, ms in stages.items())
    return ABOUT.format(events=events, rate=1 / GAP_S, rows=rows), {"stages": stages}
