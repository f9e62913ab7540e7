"""What the gateway can hold: no job twice, none dropped, never more pending than the budget."""

import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.gathering import COLLECT_S, GATHER_S, MAX_JOBS
from daemon.pacing import HELD_BACK_S, RUN_WAIT_S, Pacer
from daemon.plan import Ended, Plan
from daemon.routes import Route, choose_route
from sql.jobs import Job

BUDGET = 10
WINDOW_S = 60.0
SLUG = "GMAIL_NEW_GMAIL_MESSAGE"
HEARTBEAT_S = 1800.0
ROUNDING_S = 1e-6

numbers = itertools.count(1)


def job(kind: str = SLUG, *, foreign: bool = False, **fields: object) -> Job:
    """A job that was claimed for the first time."""
    usual = {
        "id": uuid.UUID(int=next(numbers)),
        "type": kind,
        "queue": "default",
        "wake_text": "hello",
        "trigger_name": None if foreign else kind,
        "learning_id": None if foreign else uuid.UUID(int=next(numbers)),
        "attempts": 1,
        "max_attempts": 5,
        "claims": 1,
        "run_at": datetime.now(UTC),
    }
    return Job(**{**usual, **fields})


def jobs(count: int, **fields: object) -> list[Job]:
    """Several."""
    return [job(**fields) for _ in range(count)]


def pacer(*routes: Route, slots: float = BUDGET, **options: object) -> Pacer:
    """A pacer with these routes."""
    return Pacer(lambda kind: choose_route(routes, kind), slots=slots, window_s=WINDOW_S, **options)


def sizes(plan: Plan) -> list[int]:
    """How many jobs each digest of a plan stands for."""
    return [len(digest.jobs) for digest in plan.digests]


def accept(pacing: Pacer, plan: Plan, now_s: float) -> None:
    """Let the gateway take all of it."""
    for digest in plan.digests:
        pacing.ended(digest, now_s, Ended(pending=True))


def test_the_first_job_of_a_quiet_queue_goes_out_at_once() -> None:
    """Alone, in the same breath."""
    (one,) = jobs(1)
    plan = pacer().plan([one], 0)
    assert [(one,)] == [digest.jobs for digest in plan.digests]
    assert [] == plan.deferred


def test_a_burst_is_nine_wakes_and_one_that_stands_for_the_rest() -> None:
    """What is beyond the budget waits in the database for the slot that is kept free."""
    pacing, burst = pacer(), jobs(60)
    first = pacing.plan(burst, 0)
    assert [1] * 9 == sizes(first)
    assert {GATHER_S} == {one.delay_s for one in first.deferred}
    accept(pacing, first, 0)
    waiting = [replace(one.job, claims=2) for one in first.deferred]
    back = pacing.plan(waiting, GATHER_S)
    assert ([], []) == (back.digests, back.deferred)
    assert COLLECT_S == pacing.due_s(GATHER_S)
    last = pacing.plan([], GATHER_S + COLLECT_S)
    assert [51] == sizes(last)
    assert [one.id for one in burst[9:]] == [one.id for one in last.digests[0].jobs]
    assert pacing.due_s(GATHER_S + COLLECT_S) is None


def test_what_comes_while_a_digest_gathers_joins_it() -> None:
    """It overtakes nobody."""
    pacing = pacer()
    pacing.plan(jobs(10), 0)
    (late,) = jobs(1)
    assert [(late, GATHER_S - 1)] == [(one.job, one.delay_s) for one in pacing.plan([late], 1).deferred]


def test_nothing_goes_out_while_all_slots_are_taken() -> None:
    """The next digest is due when the first slot is free."""
    pacing = pacer()
    accept(pacing, pacing.plan(jobs(9), 0), 0)
    pacing.plan(jobs(1), 20)
    back = pacing.plan(jobs(1, claims=2), 20 + GATHER_S)
    assert [] == back.digests
    accept(pacing, pacing.plan([], 20 + GATHER_S + COLLECT_S), 20 + GATHER_S + COLLECT_S)
    held = pacing.plan(jobs(3), 40)
    assert ([], {WINDOW_S - 40}) == (held.digests, {one.delay_s for one in held.deferred})


def test_the_budget_comes_back_after_a_window() -> None:
    """A minute later the agent has seen them all."""
    pacing = pacer()
    accept(pacing, pacing.plan(jobs(9), 0), 0)
    assert [1] * 9 == sizes(pacing.plan(jobs(9), WINDOW_S))


def test_a_slot_that_the_gateway_refused_is_free_again() -> None:
    """Only what it took, or may have taken, is pending there."""
    pacing = pacer()
    for digest in pacing.plan(jobs(9), 0).digests:
        pacing.ended(digest, 0, Ended(pending=False))
    assert [1] * 9 == sizes(pacing.plan(jobs(9), 0))


def test_a_backlog_that_waited_goes_out_as_one() -> None:
    """Jobs that were put off come back as one digest, also when there is room for some of them alone."""
    pacing = pacer()
    assert [] == pacing.plan(jobs(20, claims=2), 0).digests
    assert [20] == sizes(pacing.plan([], COLLECT_S))


def test_a_few_that_waited_go_out_alone() -> None:
    """After the gateway was away for a moment nothing is held up."""
    assert [1] * 3 == sizes(pacer().plan(jobs(3, claims=2), 0))


def test_what_was_sent_before_goes_first_and_together() -> None:
    """A wake that was not handled is sent again inside a digest; what is new goes along with it."""
    pacing = pacer()
    (new,), old = jobs(1), jobs(2, claims=2, sent_at=datetime.now(UTC))
    assert [] == pacing.plan([new, *old], 0).digests
    (digest,) = pacing.plan([], COLLECT_S).digests
    assert (*old, new) == digest.jobs


def test_another_producers_words_are_never_merged() -> None:
    """Each is a wake of its own; beyond the budget each waits for its own slot."""
    pacing = pacer()
    accept(pacing, pacing.plan(jobs(4, foreign=True), 0), 0)
    more = pacing.plan(jobs(5, foreign=True), 10)
    assert [1] * 5 == sizes(more)
    accept(pacing, more, 10)
    late = pacing.plan(jobs(6, foreign=True), 20)
    assert ([], [WINDOW_S - 20] * 4 + [WINDOW_S - 10] * 2) == (late.digests, [one.delay_s for one in late.deferred])


def test_another_producers_words_can_be_held_back() -> None:
    """They stay queued, and events go on."""
    foreign, event = job(foreign=True), job()
    plan = pacer(foreign_text=False).plan([foreign, event], 0)
    assert [(event,)] == [digest.jobs for digest in plan.digests]
    assert [(foreign, HELD_BACK_S)] == [(one.job, one.delay_s) for one in plan.deferred]


def test_sessions_have_budgets_of_their_own() -> None:
    """The gateway keeps its pending events by session."""
    pacing = pacer(Route(type="SLACK_*", session_key="hook:slack"))
    pacing.plan(jobs(20), 0)
    assert [1] == sizes(pacing.plan(jobs(1, kind="SLACK_RECEIVE_MESSAGE"), 0))


def test_a_wake_for_the_next_heartbeat_stays_pending_until_a_turn() -> None:
    """It takes its slot for half an hour, or until a wake that starts a turn takes it along."""
    later = Route(type="LATER", mode="next-heartbeat")
    pacing = pacer(later)
    accept(pacing, pacing.plan(jobs(9, kind="LATER"), 0), 0)
    assert [WINDOW_S] == [one.delay_s for one in pacing.plan(jobs(1, kind="LATER"), 100).deferred]
    turn = pacing.plan(jobs(1, foreign=True), 100)
    assert [1] == sizes(turn)  # it takes the last slot, since it frees the others
    accept(pacing, turn, 100)
    assert [] == pacing.plan(jobs(1, foreign=True), 100).digests
    assert [1] * 9 == sizes(pacing.plan(jobs(9, foreign=True), 100 + WINDOW_S))


def test_an_earlier_run_counts() -> None:
    """What it delivered in the last minute may still be pending."""
    pacing = pacer()
    for number in range(9):
        pacing.remember(Route().session, f"wake {number}", 0, age_s=50)
    assert [] == pacing.plan(jobs(1), 0).digests
    assert [] == pacing.plan(jobs(1, claims=2), 10).digests
    assert [1] == sizes(pacing.plan([], 10 + COLLECT_S))


def test_a_gateway_that_restarted_has_nothing_pending() -> None:
    """All slots are free again."""
    pacing = pacer()
    accept(pacing, pacing.plan(jobs(6), 0), 0)
    accept(pacing, pacing.plan(jobs(3), 10), 10)
    pacing.gateway_began(5)
    assert [1] * 6 == sizes(pacing.plan(jobs(7), 11))  # what the new process took is pending there


def test_a_digest_does_not_wait_for_what_was_refused() -> None:
    """Slots that became free at once, or with the gateway's process, are used at once."""
    for frees in (
        lambda pacing, plan: [pacing.ended(one, 3, Ended(pending=False)) for one in plan.digests],
        lambda pacing, plan: (accept(pacing, plan, 1), pacing.gateway_began(2)),
    ):
        pacing = pacer(slots=2)
        first = pacing.plan(jobs(4), 0)
        frees(pacing, first)
        assert [] == pacing.plan(jobs(3, claims=2), GATHER_S).digests
        assert [3] == sizes(pacing.plan([], GATHER_S + COLLECT_S))


def test_words_and_events_take_turns() -> None:
    """Where both come all the time neither starves."""
    world = Simulation(pacer(slots=2), 2, WINDOW_S, lambda: False)
    for _ in range(600):
        world.arrive([*jobs(1), *(jobs(1, foreign=True) if world.now_s % 60 == 0 else [])])
        world.step()
        world.run(world.now_s + 1)
    words = [together for _, together in world.accepted if together[0].trigger_name is None]
    assert 8 <= len(words) <= 12
    assert 8 <= len(world.accepted) - len(words)


def test_an_announced_run_does_not_starve() -> None:
    """It gets a slot beside steady events."""
    world = Simulation(pacer(Route(type="RUN", action="agent", deliver=True), slots=3), 3, WINDOW_S, lambda: False)
    world.arrive(jobs(5, kind="RUN"))
    for _ in range(600):
        world.arrive(jobs(1))
        world.step()
        world.run(world.now_s + 1)
    assert 5 == sum(together[0].type == "RUN" for _, together in world.accepted)


def test_the_line_of_runs_is_not_asked_all_the_time() -> None:
    """The further back, the later a job looks again, at most a minute."""
    pacing = pacer(Route(type="RUN", action="agent"), agent_runs=2)
    waiting = pacing.plan(jobs(102, kind="RUN"), 0).deferred
    assert (RUN_WAIT_S, 60) == (waiting[0].delay_s, waiting[-1].delay_s)
    again = pacing.plan([replace(waiting[-1].job, claims=2)], 60).deferred
    assert [60] == [one.delay_s for one in again]


def test_urgent_events_do_not_wait_for_those_that_can() -> None:
    """However many wait for the next heartbeat, one for now goes out within seconds."""
    pacing = pacer(Route(type="LATER", mode="next-heartbeat"))
    world = Simulation(pacing, BUDGET, WINDOW_S, lambda: False)
    world.arrive(jobs(30, kind="LATER"))
    world.run(100)
    (urgent,) = jobs(1)
    world.arrive([urgent])
    world.run(100 + GATHER_S + 1)
    assert urgent.id in {one.id for _, together in world.accepted for one in together}


def test_a_digest_has_a_limit() -> None:
    """The rest waits for the next."""
    pacing = pacer()
    pacing.plan(jobs(MAX_JOBS + 100, claims=2), 0)
    plan = pacing.plan([], COLLECT_S)
    assert [MAX_JOBS] == sizes(plan)


def test_a_digest_that_is_refused_goes_out_in_smaller_ones() -> None:
    """Half as many, and so on: it may be too large for this gateway."""
    pacing, now_s = pacer(), 0.0
    for expected in (20, 10, 5, 2, 1, 1):
        pacing.plan(jobs(20, claims=2), now_s)
        (digest,) = pacing.plan([], now_s + GATHER_S + COLLECT_S).digests
        assert expected == len(digest.jobs)
        pacing.ended(digest, now_s, Ended(pending=False, refused=True))
        pacing.leave()
        now_s += WINDOW_S
    for expected in (1, 2, 3, 4):  # and ever one more while it takes them
        pacing.plan(jobs(20, claims=2), now_s)
        (digest,) = pacing.plan([], now_s + GATHER_S + COLLECT_S).digests
        assert expected == len(digest.jobs)
        pacing.ended(digest, now_s, Ended(pending=True))
        pacing.leave()
        now_s += 2 * WINDOW_S


def test_a_lone_wake_that_is_refused_makes_no_digest_smaller() -> None:
    """It says nothing of how many the gateway takes together."""
    pacing = pacer()
    (alone,) = pacing.plan(jobs(1), 0).digests
    pacing.ended(alone, 0, Ended(pending=False, refused=True))
    pacing.plan(jobs(20, claims=2), 0)
    assert [20] == sizes(pacing.plan([], GATHER_S + COLLECT_S))


def test_no_more_agent_runs_than_are_allowed() -> None:
    """The others wait, and those of one session key for each other."""
    pacing = pacer(Route(type="RUN", action="agent"), agent_runs=2)
    plan = pacing.plan(jobs(3, kind="RUN"), 0)
    assert ([1, 1], [RUN_WAIT_S]) == (sizes(plan), [one.delay_s for one in plan.deferred])
    pacing.ended(plan.digests[0], 1, Ended(pending=True))
    assert [1] == sizes(pacing.plan(jobs(1, kind="RUN"), 1))
    keyed = pacer(Route(type="RUN", action="agent", session_key="hook:one"), agent_runs=2)
    assert [1] == sizes(keyed.plan(jobs(2, kind="RUN"), 0))


def test_a_run_whose_end_is_announced_takes_a_slot() -> None:
    """OpenClaw tells the main session of it."""
    pacing = pacer(Route(type="RUN", action="agent", deliver=True), agent_runs=100)
    plan = pacing.plan(jobs(20, kind="RUN"), 0)
    assert [1] * 9 == sizes(plan)
    accept(pacing, plan, 0)
    assert [] == pacing.plan(jobs(1), 1).digests


def test_what_is_dropped_needs_no_slot() -> None:
    """It does not even meet the gateway."""
    assert [1] * 50 == sizes(pacer(Route(action="drop")).plan(jobs(50), 0))


def test_without_pacing_everything_goes_out_at_once() -> None:
    """One wake a job."""
    pacing = pacer(slots=float("inf"))
    assert [1] * 500 == sizes(pacing.plan(jobs(500), 0))
    again = jobs(2, claims=2, sent_at=datetime.now(UTC))
    assert [1] * 5 == sizes(pacing.plan([*again, *jobs(3)], 1))


@dataclass
class Simulation:
    """The database and the gateway around a pacer, in a time that only the test moves."""

    pacing: Pacer
    budget: int
    window_s: float
    fails: Callable[[], bool]
    now_s: float = 0.0
    queued: list[tuple[float, Job]] = field(default_factory=list)
    accepted: list[tuple[float, tuple[Job, ...]]] = field(default_factory=list)

    def arrive(self, arrivals: Sequence[Job]) -> None:
        """Insert jobs that are due."""
        self.queued += [(self.now_s, replace(one, claims=0)) for one in arrivals]

    def step(self) -> None:
        """Claim what is due, carry out the plan."""
        due = sorted((one for one in self.queued if one[0] <= self.now_s), key=lambda one: one[0])[:MAX_JOBS]
        taken = {one.id for _, one in due}
        self.queued = [one for one in self.queued if one[1].id not in taken]
        plan = self.pacing.plan([replace(one, claims=one.claims + 1) for _, one in due], self.now_s)
        self.queued += [(self.now_s + one.delay_s, one.job) for one in plan.deferred]
        for digest in plan.digests:
            failed = self.fails()
            self.pacing.ended(digest, self.now_s, Ended(pending=not failed))
            if failed:
                self.queued += [(self.now_s, one) for one in digest.jobs]
            else:
                self.accepted.append((self.now_s, digest.jobs))
        recent = [at for at, _ in self.accepted if at > self.now_s - self.window_s + ROUNDING_S]
        assert len(recent) <= self.budget

    def next_s(self) -> float | None:
        """When there is something to do again."""
        due_s = self.pacing.due_s(self.now_s)
        times = [at for at, _ in self.queued] + ([] if due_s is None else [self.now_s + due_s])
        return min(times) if times else None

    def run(self, until_s: float) -> None:
        """Go on until then."""
        while (at := self.next_s()) is not None and at <= until_s:
            self.now_s = max(self.now_s, at)
            self.step()
        self.now_s = max(self.now_s, until_s)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 90), st.integers(0, 40), st.integers(0, 4)), max_size=12),
    st.integers(2, 20),
    st.randoms(use_true_random=False),
)
def test_any_pattern_of_arrivals_is_delivered_within_the_budget(
    arrivals: list[tuple[float, int, int]], budget: int, chance: object
) -> None:
    """No job twice, none dropped, never more pending than the budget, whatever the gateway refuses on the way."""
    refusals = iter([chance.random() < 0.2 for _ in range(200)])
    world = Simulation(pacer(slots=budget), budget, WINDOW_S, lambda: next(refusals, False))
    expected = []
    for pause_s, events, words in arrivals:
        world.run(world.now_s + pause_s)
        new = [*jobs(events), *jobs(words, foreign=True)]
        expected += new
        world.arrive(new)
        world.step()
    world.run(world.now_s + 3_600)
    assert [] == world.queued
    delivered = Counter(one.id for _, together in world.accepted for one in together)
    assert Counter(one.id for one in expected) == delivered
    assert all(len(together) == 1 or all(one.trigger_name for one in together) for _, together in world.accepted)


@pytest.mark.parametrize(("count", "wakes"), [(60, 10), (400, 10), (9, 9)])
def test_a_burst_needs_at_most_the_budget(count: int, wakes: int) -> None:
    """However many come together, they are all told of within seconds."""
    world = Simulation(pacer(), BUDGET, WINDOW_S, lambda: False)
    world.arrive(jobs(count))
    world.run(GATHER_S + 1)
    assert wakes == len(world.accepted)
    assert count == sum(len(together) for _, together in world.accepted)
