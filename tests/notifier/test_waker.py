"""The bell: why it rings, when it rings by itself, and that no ring is lost."""

import asyncio

import pytest
from clocks import Clock

from notifier.waker import Waker

HOUR_S = 3600.0

pytestmark = pytest.mark.usefixtures("clock")


def listening(waker: Waker) -> Waker:
    """A waker whose daemon hears notifications."""
    waker.listening = True
    return waker


async def outlasts(waker: Waker, seconds: float) -> bool:
    """Whether a wait is still going on after this time."""
    try:
        await asyncio.wait_for(waker.wait(), seconds)
    except TimeoutError:
        return True
    return False


async def test_a_ring_between_clear_and_wait_is_kept() -> None:
    """What arrives while the daemon claims wakes it at once afterwards."""
    waker = listening(Waker(poll_s=0))
    waker.clear()
    waker.ring("notified")
    assert {"notified"} == await waker.wait()


async def test_a_ring_stays_until_it_is_cleared() -> None:
    """Only clear() forgets: a wait that returned leaves the reason for the next look."""
    waker = listening(Waker(poll_s=0))
    waker.ring("notified")
    assert await waker.wait() == await waker.wait()
    waker.clear()
    assert await outlasts(waker, HOUR_S)


async def test_a_waiting_task_is_woken(clock: Clock) -> None:
    """A ring during the wait ends it, in the same moment."""
    waker = listening(Waker(poll_s=0))
    asyncio.get_running_loop().call_later(7, waker.ring, "notified")
    assert ({"notified"}, 7.0) == (await waker.wait(), clock.now)


async def test_all_reasons_are_told() -> None:
    """Several rings before one wait are one wake with all their names."""
    waker = Waker(poll_s=5)
    for reason in ("notified", "work_waits", "notified"):
        waker.ring(reason)
    assert {"notified", "work_waits"} == await waker.wait()


async def test_the_due_time_rings(clock: Clock) -> None:
    """The timer needs no notification."""
    waker = listening(Waker(poll_s=0))
    waker.due_in(90_000)
    assert ({"due"}, 90.0) == (await waker.wait(), clock.now)


@pytest.mark.parametrize(("first_ms", "then_ms"), [(90_000, 3_000), (3_000, 90_000)])
async def test_the_due_time_moves_under_a_waiting_task(clock: Clock, first_ms: float, then_ms: float) -> None:
    """Earlier or later, the last word counts, from the moment it is said."""
    waker = listening(Waker(poll_s=0))
    waker.due_in(first_ms)
    asyncio.get_running_loop().call_later(1, waker.due_in, then_ms)
    assert ({"due"}, 1 + then_ms / 1000) == (await waker.wait(), pytest.approx(clock.now))


async def test_no_due_time_takes_the_timer_back() -> None:
    """None means that nothing is under way."""
    waker = listening(Waker(poll_s=0))
    waker.due_in(3_000)
    asyncio.get_running_loop().call_later(1, waker.due_in, None)
    assert await outlasts(waker, HOUR_S)


async def test_a_due_time_rings_once() -> None:
    """After it rang it is over: a job that cannot be claimed makes no hot loop."""
    waker = listening(Waker(poll_s=0))
    waker.due_in(0)
    assert {"due"} == await waker.wait()
    waker.clear()
    assert await outlasts(waker, HOUR_S)


async def test_nobody_listening_means_polling(clock: Clock) -> None:
    """Without a listener the waker rings every poll_s seconds, again and again."""
    waker = Waker(poll_s=5)
    for passed_s in (5.0, 10.0):
        waker.clear()
        assert ({"poll"}, passed_s) == (await waker.wait(), clock.now)


@pytest.mark.usefixtures("clock")
async def test_a_failed_look_puts_the_poll_off() -> None:
    """While nobody listens it polls, but not before the back-off is over; other reasons ring at once."""
    waker = Waker(poll_s=1)
    loop = asyncio.get_running_loop()
    waker.back_off(4)
    waker.due_in(None)  # what the database says of its jobs is no reason not to try again
    assert {"retry"} == await waker.wait()
    assert pytest.approx(4) == loop.time()
    waker.clear()
    assert {"poll"} == await waker.wait()
    assert pytest.approx(5) == loop.time()
    waker.clear()
    waker.back_off(4)
    loop.call_later(0.5, waker.ring, "listener_up")
    assert {"listener_up"} == await waker.wait()
    assert pytest.approx(5.5) == loop.time()


@pytest.mark.parametrize("waker", [Waker(poll_s=0), listening(Waker(poll_s=5))], ids=["off", "listening"])
async def test_no_poll(waker: Waker) -> None:
    """Polling is off at 0, and while notifications are heard."""
    assert await outlasts(waker, HOUR_S)


async def test_a_lost_listener_starts_the_poll_of_a_waiting_task(clock: Clock) -> None:
    """The loss comes while the daemon waits: it must not wait on for a notification that cannot come."""
    waker = listening(Waker(poll_s=5))
    asyncio.get_running_loop().call_later(100, lambda: setattr(waker, "listening", False))
    assert ({"poll"}, 105.0) == (await waker.wait(), clock.now)


async def test_the_due_time_comes_before_the_poll(clock: Clock) -> None:
    """Both run at once, and the earlier one rings."""
    waker = Waker(poll_s=5)
    waker.due_in(2_000)
    assert ({"due"}, 2.0) == (await waker.wait(), clock.now)
    waker.clear()
    waker.due_in(60_000)
    assert ({"poll"}, 7.0) == (await waker.wait(), clock.now)


async def test_a_cancelled_wait_loses_nothing() -> None:
    """The next wait hears what the cancelled one did not return."""
    waker = listening(Waker(poll_s=0))
    waiting = asyncio.ensure_future(waker.wait())
    await asyncio.wait([waiting], timeout=0)
    waker.ring("notified")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert {"notified"} == await waker.wait()


async def test_a_look_rings_by_itself_unless_its_answer_comes_before(clock: Clock) -> None:
    """Each promise of a look moves it; whoever tells when something is due has looked."""
    waker = listening(Waker(poll_s=0))
    waker.look_in(1)
    waker.look_in(3)
    assert ({"look"}, 3.0) == (await waker.wait(), clock.now)
    waker.clear()
    waker.look_in(1)
    waker.due_in(None)
    assert await outlasts(waker, HOUR_S)
