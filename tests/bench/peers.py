"""The other queues over Postgres that this machine can run, set up as their own documentation says for best speed."""

from bench import pgqueuer_peer, procrastinate_peer
from bench.contest import Contestant


def peers() -> list[Contestant]:
    """Return those for Python."""
    return [pgqueuer_peer.Peer(), procrastinate_peer.Peer()]
