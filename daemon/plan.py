"""What goes out, and what waits: the values of a plan."""

from dataclasses import dataclass, field
from functools import cached_property

from daemon.routes import Route
from sql.jobs import Job


@dataclass(frozen=True, slots=True)
class Routed:
    """A job and its route."""

    job: Job
    route: Route

    @property
    def awaits_handling(self) -> bool:
        """Tell whether the gateway's 2xx is not the end of it; another producer's job has nothing to be read."""
        return self.route.complete_when == "handled" and self.job.learning_id is not None


@dataclass(frozen=True)
class Digest:
    """What goes out in one POST: one job, or many that one wake stands for."""

    items: tuple[Routed, ...]

    @cached_property
    def route(self) -> Route:
        """The route by which all go: to the same place, and at once if that is any one's."""
        return next((item.route for item in self.items if item.route.mode == "now"), self.items[0].route)

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs alone."""
        return tuple(item.job for item in self.items)

    @cached_property
    def key(self) -> str:
        """What tells it from every other."""
        return f"{self.jobs[0].id}/{self.jobs[0].claims}"

    @property
    def takes_slot(self) -> bool:
        """Tell whether it is to become a pending event; an agent run is when its end is to be announced."""
        return self.route.action == "wake" or (self.route.action == "agent" and self.route.deliver)


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a digest: `pending` where its session has an event of it now, or may have; `refused` as it is."""

    pending: bool
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """A job that goes back into the database, to be claimed again `delay_s` seconds from now."""

    job: Job
    delay_s: float
    reason: str


@dataclass(slots=True)
class Plan:
    """What to do with the jobs that were claimed."""

    digests: list[Digest] = field(default_factory=list)
    deferred: list[Deferred] = field(default_factory=list)

    def defer(self, item: Routed, delay_s: float, reason: str) -> None:
        """Put a job off."""
        self.deferred.append(Deferred(item.job, delay_s, reason))
