"""The other queues over Postgres that this machine can run, set up as their own documentation says for best speed."""

import subprocess

from bench import pgqueuer_peer, procrastinate_peer
from bench.contest import Contestant
from bench.node_peers import NODE, Graphile, PgBoss

WITHOUT_NODE = "graphile-worker and pg-boss are left out: this machine has no npm to install them with."


def peers() -> list[Contestant]:
    """Return those whose worker can run here."""
    for_node: list[Contestant] = [Graphile(), PgBoss()] if NODE.exists() else []
    return [*for_node, *receivers()]


def receivers() -> list[Contestant]:
    """Return those with a client for Python, which a server of webhooks can call."""
    return [pgqueuer_peer.Peer(), procrastinate_peer.Peer()]


def setup() -> str:
    """Say what runs here, and how it is set up."""
    if NODE.exists():
        found = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        node = f"Node.js {found.removeprefix('v')}; graphile-worker has a local queue of 500 and batches completions,"
        node += " pg-boss listens, polls twice a second and fetches 100 at a time."
    else:
        node = WITHOUT_NODE
    return (
        "The peers are set up for speed as their own documentation says: PgQueuer on asyncpg's pool and uvloop with"
        f" batches of 100, Procrastinate listening, on psycopg's pool and uvloop. {node}"
    )
