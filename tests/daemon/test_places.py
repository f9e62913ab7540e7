"""The places of wakes: how many go out at once, and how many are worth claiming ahead."""

import uuid
from datetime import UTC, datetime

from daemon.places import AHEAD_S, MOST_AHEAD, Places
from daemon.plan import Digest, Routed
from daemon.routes import DEFAULT
from sql.jobs import Job


class Clock:
    """Seconds that a test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        """Tell them."""
        return self.now_s


def digest() -> Digest:
    """A wake of one job."""
    job = Job(uuid.uuid4(), "CHAT", "default", "hello", None, None, 1, 5, 1, datetime.now(UTC))
    return Digest((Routed(job, DEFAULT),))


def test_the_places_are_taken_in_order() -> None:
    """What waits gets the next free place, the first first, and no more go out than there are places."""
    places, wakes = Places(2, Clock()), [digest() for _ in range(4)]
    for one in wakes:
        places.add(one)
    assert [wakes[0], wakes[1], None] == [places.take() for _ in range(3)]
    places.give_back()
    assert [wakes[2], None] == [places.take(), places.take()]
    assert [wakes[3]] == places.leave()
    places.give_back()
    assert places.take() is None


def test_as_much_is_claimed_ahead_as_goes_out_in_a_moment() -> None:
    """A quick gateway is fed many at a time, up to a limit; what a slow one would keep waiting is left to others."""
    clock = Clock()
    places = Places(2, clock)
    clock.now_s = AHEAD_S
    assert 0 == places.ahead
    for _ in range(5):
        places.add(digest())
        places.take()
        places.give_back()
    clock.now_s += AHEAD_S * 0.999
    assert 5 == places.ahead
    for _ in range(1000):
        places.give_back()
    assert 2 * MOST_AHEAD == places.ahead
    clock.now_s += 2 * AHEAD_S
    assert 0 == places.ahead


def test_the_pace_of_a_burst_is_known_from_its_first_answers() -> None:
    """What was answered since its first wake went out is the pace; answers of before tell nothing of it."""
    clock = Clock()
    places = Places(2, clock)
    clock.now_s = 100
    for _ in range(6):
        places.add(digest())
    places.take()
    places.take()
    assert 0 == places.ahead
    clock.now_s += AHEAD_S / 5  # both at once: a slow gateway, though its answers come close together
    places.give_back()
    places.give_back()
    assert 10 == places.ahead
    places.take()  # the burst goes on: all places were free for a moment
    places.give_back()
    assert 15 == places.ahead
    clock.now_s += 4 * AHEAD_S / 5
    assert 3 == places.ahead
