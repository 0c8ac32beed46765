"""The number of subscribers over time. Class attributes are the parameters; `WORKBENCH_SHAPE` chooses a shape and sets them:

    WORKBENCH_SHAPE=ramp                                  the scenario's subscribers, at its connect rate, for its duration
    WORKBENCH_SHAPE=steps:start=1000,step=1000,hold=20    until it breaks
    WORKBENCH_SHAPE=storm:every=30                        everyone loses the connection each 30 s

A locustfile of one's own may import a class and set its attributes, as with any `LoadTestShape`.
"""

from __future__ import annotations

import logging
import math
from typing import Any, ClassVar

from locust import LoadTestShape
from locust.runners import Runner

from loadtests.settings import Settings
from sim.errors import BadInput, did_you_mean

STORM = "workbench-storm"
"""Message to the workers: drop the connections of the given share of your pages."""

MAY_BE_ZERO = {"duration", "start", "rise", "limit_ms", "failures"}
"""Parameters that may be 0; all others must be above it."""

logger = logging.getLogger(__name__)
Tick = tuple[int, float] | None


class Shape(LoadTestShape):
    """*users* subscribers, *rate* of them started each second, *duration* seconds from start to end. The base of all shapes."""

    abstract = True
    users: ClassVar[int] = 1000
    rate: ClassVar[float] = 500.0
    duration: ClassVar[float] = 60.0
    runner: Runner

    def tick(self) -> Tick:
        elapsed = self.get_run_time()
        return None if elapsed >= self.duration else self.at(elapsed)

    def at(self, elapsed: float) -> Tick:
        """(subscribers, starts per second) at *elapsed* seconds; None: over."""
        return self.users, self.rate


class Soak(Shape):
    """All subscribers at once, for hours. Set WORKBENCH_PROBES, so that parts stay small."""

    abstract = True
    duration = 4 * 3600.0


class Ramp(Shape):
    """From *start* to *users* in equal steps over *rise* seconds, then constant."""

    abstract = True
    start: ClassVar[int] = 0
    rise: ClassVar[float] = 30.0
    steps: ClassVar[int] = 30

    def at(self, elapsed: float) -> Tick:
        done = min(int(elapsed / self.rise * self.steps) + 1, self.steps) / self.steps if self.rise else 1.0
        return round(self.start + (self.users - self.start) * done), self.rate


class Spike(Shape):
    """*users* subscribers; every *every* seconds there are *peak* of them for *length* seconds."""

    abstract = True
    peak: ClassVar[int] = 3000
    every: ClassVar[float] = 30.0
    length: ClassVar[float] = 10.0

    def at(self, elapsed: float) -> Tick:
        return self.peak if elapsed >= self.every and elapsed % self.every < self.length else self.users, self.rate


class Storm(Shape):
    """*users* subscribers; every *every* seconds a *share* of them loses the connection, as when a broadcaster restarts."""

    abstract = True
    every: ClassVar[float] = 30.0
    share: ClassVar[float] = 1.0
    _storms = 0

    def at(self, elapsed: float) -> Tick:
        if elapsed >= (self._storms + 1) * self.every:
            self._storms += 1
            self.runner.send_message(STORM, {"share": self.share})
        return self.users, self.rate


class Steps(Shape):
    """The search for the knee: *start* subscribers, *step* more each *hold* seconds, until a step does not hold.

    A step holds when the p99 of the HTTP requests in its second half (of a refetch from when it was due) is at most *limit_ms*,
    and the share of them that fails at most *failures*. `knee` is the last number that held. A step without requests holds, so
    a search needs updates.
    """

    abstract = True
    start: ClassVar[int] = 500
    step: ClassVar[int] = 500
    hold: ClassVar[float] = 20.0
    limit_ms: ClassVar[float] = 1000.0
    failures: ClassVar[float] = 0.01
    duration = 3600.0

    def __init__(self) -> None:
        super().__init__()
        self.knee = 0
        self._level, self._since = self.start, 0.0
        self._before: tuple[dict[int, int], int, int] | None = None

    def at(self, elapsed: float) -> Tick:
        inside = elapsed - self._since
        if self._before is None and inside >= self.hold / 2:
            self._before = self._counts()
        if inside >= self.hold:
            p99, failed = self._window()
            if p99 > self.limit_ms or failed > self.failures:
                logger.info(
                    "knee: %d subscribers held; at %d p99 was %.0f ms, %.2f %% failed", self.knee, self._level, p99, 100 * failed
                )
                return None
            self.knee = self._level
            logger.info("step: %d subscribers hold, p99 %.0f ms", self._level, p99)
            if self._level >= self.users:
                return None
            self._level, self._since, self._before = min(self._level + self.step, self.users), elapsed, None
        return self._level, self.rate

    def _counts(self) -> tuple[dict[int, int], int, int]:
        total = self.runner.stats.total
        return dict(total.response_times), total.num_requests, total.num_failures

    def _window(self) -> tuple[float, float]:
        """(p99 in ms, share of failures) since the middle of this step."""
        before, now = self._before or ({}, 0, 0), self._counts()
        times = {ms: count - before[0].get(ms, 0) for ms, count in now[0].items()}
        return percentile(times, 0.99), (now[2] - before[2]) / max(now[1] - before[1], 1)


def percentile(times: dict[int, int], p: float) -> float:
    """The quantile *p* of values (keys) with their counts; 0 where there are none."""
    rank, seen = p * sum(times.values()), 0
    for value in sorted(times):
        seen += times[value]
        if seen >= rank and seen:
            return float(value)
    return 0.0


SHAPES: dict[str, type[Shape]] = {
    "constant": Shape,
    "ramp": Ramp,
    "steps": Steps,
    "spike": Spike,
    "storm": Storm,
    "soak": Soak,
}


def chosen(settings: Settings) -> type[Shape] | None:
    """The class that `WORKBENCH_SHAPE` names, with the scenario's figures and then its own parameters. Raises `BadInput`."""
    if not settings.shape:
        return None
    name, _, text = settings.shape.partition(":")
    if name not in SHAPES:
        raise BadInput(f"WORKBENCH_SHAPE: no such shape {name!r}{did_you_mean(name, SHAPES)}")
    base, scenario = SHAPES[name], settings.scenario
    attributes: dict[str, Any] = {"users": scenario.subscribers, "rate": scenario.load.connect_rate}
    if base.duration == Shape.duration:  # It has none of its own.
        attributes["duration"] = scenario.warmup + scenario.duration + sum(scenario.tail)
    for assignment in filter(None, text.split(",")):
        key, _, value = assignment.partition("=")
        known = parameters(base)
        if key not in known:
            raise BadInput(f"WORKBENCH_SHAPE: {name} has no parameter {key!r}{did_you_mean(key, known)}")
        try:
            attributes[key] = type(known[key])(value)
        except ValueError:
            raise BadInput(f"WORKBENCH_SHAPE: {name}: {key} must be a number, got {value!r}") from None
        least = ">= 0" if key in MAY_BE_ZERO else "> 0"
        if not 0 <= attributes[key] < math.inf or (key not in MAY_BE_ZERO and not attributes[key]):
            raise BadInput(f"WORKBENCH_SHAPE: {name}: {key} must be {least}, got {value!r}")
    return type(base.__name__, (base,), attributes | {"abstract": False, "__doc__": base.__doc__})


def parameters(shape: type[Shape]) -> dict[str, int | float]:
    """Name -> default of what can be set."""
    return {
        name: value
        for cls in reversed(shape.__mro__)
        for name, value in vars(cls).items()
        if type(value) in (int, float) and not name.startswith("_")
    }
