"""The event loop that both programs run on."""

import asyncio
from collections.abc import Callable


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's event loop, by far the quicker one, or None, asyncio's own, where it is not there."""
    try:
        import uvloop  # noqa: PLC0415 - PyPy and musl have none, and only what runs for long needs it
    except ImportError:
        return None
    return uvloop.new_event_loop
