"""The other queues over Postgres that this machine can run, set up as their own documentation says for best speed."""

import subprocess

from bench import pgqueuer_peer, procrastinate_peer
from bench.contest import Contestant
from bench.node_peers import NODE, Graphile, PgBoss


def peers() -> list[Contestant]:
    """Return those whose worker can run here."""
    for_node: list[Contestant] = [Graphile(), PgBoss()] if NODE.exists() else []
    return [*for_node, *receivers()]


def receivers() -> list[Contestant]:
    """Return those with a client for Python, which a server of webhooks can call."""
    return [pgqueuer_peer.Peer(), procrastinate_peer.Peer()]


def node() -> str:
    """Name the Node.js that the peers in npm run on."""
    if not NODE.exists():
        return "no Node.js for graphile-worker and pg-boss"
    found = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"Node.js {found.removeprefix('v')}"
