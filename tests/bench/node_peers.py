"""The peers for Node.js: graphile-worker and pg-boss, in processes of their own."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psycopg
from bench.floor import WAKE
from bench.stage import LISTENING, Running, Site, process
from psycopg.conninfo import conninfo_to_dict

HERE = Path(__file__).parent / "node"
FOLDER = HERE.parents[2] / ".venv" / "node" / "node_modules"
NODE = FOLDER / ".bin" / "node"
ADD = "select graphile_worker.add_job('post', json_build_object('text', %s::text)) from generate_series(1, %s)"


def place(dsn: str) -> str:
    """Write a connection string as node-postgres takes it."""
    known = conninfo_to_dict(dsn)
    wanted = {"host": known.get("host", "127.0.0.1"), "user": known.get("user"), "database": known.get("dbname")}
    return json.dumps({**wanted, "port": int(known.get("port", 5432)), "password": known.get("password", "")})


def version_of(package: str) -> str:
    """Return an installed package's version, and the version of Node.js."""
    return str(json.loads((FOLDER / package / "package.json").read_text())["version"])


def node(script: str, *arguments: str, home: Path) -> contextlib.AbstractAsyncContextManager[Running]:
    """Run one of the scripts."""
    return process(str(NODE), str(HERE / script), *arguments, home=home, env={"NODE_PATH": str(FOLDER)})


class NodePeer:
    """One whose worker and installation are a script."""

    name: str
    version: str
    script: str

    async def install(self, dsn: str) -> None:
        """Make its tables."""
        command = [str(NODE), str(HERE / self.script), "install", place(dsn)]
        making = await asyncio.create_subprocess_exec(*command, env={"NODE_PATH": str(FOLDER)})
        if await making.wait():
            raise AssertionError(f"{self.name} could not make its tables")

    @contextlib.asynccontextmanager
    async def worker(self, site: Site, concurrency: int) -> AsyncIterator[None]:
        """Run its worker until it listens."""
        arguments = ("work", place(site.dsn), site.gateway_url, str(concurrency))
        async with node(self.script, *arguments, home=site.home) as running:
            await running.line("running")
            async with await psycopg.AsyncConnection.connect(site.dsn, autocommit=True) as connection:
                while not (await (await connection.execute(LISTENING)).fetchone())[0]:
                    await asyncio.sleep(0.05)
                yield


class Graphile(NodePeer):
    """graphile-worker; jobs go in through its SQL function."""

    name = "graphile-worker"
    script = "graphile.cjs"

    def __init__(self) -> None:
        self.version = version_of("graphile-worker")

    @contextlib.asynccontextmanager
    async def producer(self, site: Site) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Add one job a call."""
        async with await psycopg.AsyncConnection.connect(site.dsn, autocommit=True) as connection:

            async def enqueue() -> None:
                await connection.execute(ADD, [WAKE["text"], 1])

            yield enqueue

    async def fill(self, site: Site, count: int) -> None:
        """Add so many in one commit."""
        async with await psycopg.AsyncConnection.connect(site.dsn, autocommit=True) as connection:
            await connection.execute(ADD, [WAKE["text"], count])


class PgBoss(NodePeer):
    """pg-boss; jobs go in through a process with its client."""

    name = "pg-boss"
    script = "pgboss.cjs"

    def __init__(self) -> None:
        self.version = version_of("pg-boss")

    @contextlib.asynccontextmanager
    async def client(self, site: Site) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        """Run its client; the call enqueues so many in one commit."""
        async with node(self.script, "produce", place(site.dsn), str(WAKE["text"]), home=site.home) as running:
            port = int((await running.line("port ")).split()[1])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)

            async def enqueue(count: int) -> None:
                writer.write(b"%d\n" % count)
                await reader.readline()

            yield enqueue
            writer.close()

    @contextlib.asynccontextmanager
    async def producer(self, site: Site) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Send one job a call."""
        async with self.client(site) as enqueue:
            yield lambda: enqueue(1)

    async def fill(self, site: Site, count: int) -> None:
        """Insert so many in one commit."""
        async with self.client(site) as enqueue:
            await enqueue(count)
