"""Those who are measured side by side, each with a database of its own in one server."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import servers
from bench.stage import Site

Rounds = list[dict[str, dict[str, float]]]


class Contestant(Protocol):
    """One that is measured. What a part does not ask of it, it need not have."""

    name: str

    async def install(self, dsn: str) -> None:
        """Make its tables."""

    def worker(self, site: Site, concurrency: int) -> AbstractAsyncContextManager[None]:
        """Run its worker, which POSTs each job's text to the gateway."""

    def producer(self, site: Site) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """Give a call that enqueues one event and returns after its commit."""

    async def fill(self, site: Site, count: int) -> None:
        """Enqueue so many jobs in one commit."""

    def receiver(self, site: Site) -> AbstractAsyncContextManager[int]:
        """Run an HTTP server that verifies a webhook and commits it before it answers; gives its port."""


@contextlib.asynccontextmanager
async def installed(
    contestants: Sequence[Contestant], server_dsn: str, gateway_url: str, home: Path
) -> AsyncIterator[Mapping[str, Site]]:
    """Make a database for each."""
    with contextlib.ExitStack() as stack:
        sites = {}
        for one in contestants:
            dsn = stack.enter_context(servers.database(server_dsn))
            await one.install(dsn)
            sites[one.name] = Site(dsn, gateway_url, home)
        yield sites


def names(contestants: Sequence[Contestant]) -> dict[str, str]:
    """Return how each stands in a table: by its name, with its version where it has one."""
    return {one.name: " ".join(filter(None, [one.name, getattr(one, "version", "")])) for one in contestants}


def told(part: str, name: str, figures: Mapping[str, float]) -> None:
    """Show on the terminal how far it is."""
    print(f"  {part}: {name}: " + ", ".join(f"{what} {value:.4g}" for what, value in figures.items()), flush=True)
