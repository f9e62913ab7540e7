"""How long to wait before the next try of something that others need too."""

import random


def full_jitter_s(failures: int, *, first_s: float, cap_s: float) -> float:
    """Return a random time up to first_s doubled for each failure after the first, at most cap_s.

    Full jitter spreads the returning clients best (Amazon's "Exponential Backoff And Jitter").
    """
    return random.uniform(0, min(cap_s, first_s * 2 ** min(failures - 1, 30)))  # noqa: S311 - no secret hangs on it
