"""Everything killed and cut at random for minutes, under a steady load: every webhook-id is accounted for."""

import asyncio
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from faults.postgres import CrashablePostgres, crashable
from installation import Account, Installation, installation
from programs import until

from sql.migrate import migrate

MINUTES = 5.0
QUICK_MINUTES = 0.5


async def kill_vault(whole: Installation, _server: CrashablePostgres) -> None:
    """Kill the vault and start it again."""
    await whole.kill("vault")
    await whole.start("vault")


async def kill_daemon(whole: Installation, _server: CrashablePostgres) -> None:
    """Kill the daemon and start it again."""
    await whole.kill("daemon")
    await whole.start("daemon")


async def kill_postgres(_whole: Installation, server: CrashablePostgres) -> None:
    """Kill Postgres and start it again."""
    random.choice([server.kill, server.immediate])()
    await asyncio.sleep(random.uniform(0, 3))
    await asyncio.to_thread(server.start)


async def cut(whole: Installation, _server: CrashablePostgres) -> None:
    """Break one of the two networks for some seconds, in one of three ways."""
    wire = random.choice([whole.vault_wire, whole.daemon_wire])
    how = random.choice([wire.blackhole, wire.refuse, wire.reset])
    how()
    await asyncio.sleep(random.uniform(0, 8))
    wire.heal()


async def hold_the_gateway(whole: Installation, _server: CrashablePostgres) -> None:
    """Let the gateway hold its answers for some seconds."""
    whole.fake.held.clear()
    await asyncio.sleep(random.uniform(0, 4))
    whole.fake.held.set()


FAULTS = (kill_vault, kill_daemon, kill_postgres, cut, hold_the_gateway)


async def run(minutes: float) -> str:
    """Break things for so long, and account."""
    done: Counter[str] = Counter()
    with crashable() as server, tempfile.TemporaryDirectory() as home:
        migrate(server.dsn)
        async with installation(server.dsn, Path(home)) as whole:
            until_s = time.monotonic() + minutes * 60
            while time.monotonic() < until_s:
                fault = random.choice(FAULTS)
                await fault(whole, server)
                done[fault.__name__.replace("_", " ")] += 1
                await asyncio.sleep(random.uniform(0, 3))
            account = await whole.account()
            await until(lambda: not whole.missing())
    return told(account, minutes, done)


def told(account: Account, minutes: float, faults: Counter[str]) -> str:
    """Write the account."""
    names = ", ".join(f"{name} {times}" for name, times in faults.most_common())
    cells = {
        "webhooks answered with 2xx": account.accepted,
        "of them from the spool": account.spooled,
        "learnings": account.rows,
        "reached the agent": account.told,
        "came again": account.repeated,
        "of them unexplained": len(account.unexplained),
        "lost": account.accepted - account.told,
    }
    return "\n".join(
        [
            f"{minutes:g} minutes at 20 webhooks a second, with {sum(faults.values())} faults one after the other:",
            f"{names}.",
            "An event that comes again is explained where its job was claimed again.",
            "",
            "| " + " | ".join(cells) + " |",
            "|" + "---|" * len(cells),
            "| " + " | ".join(map(str, cells.values())) + " |",
        ]
    )


def bench(*, quick: bool) -> str:
    """Soak, and return the account."""
    return asyncio.run(run(QUICK_MINUTES if quick else MINUTES))
