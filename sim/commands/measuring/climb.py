"""The knee over the number of subscribers, found by load tests: from below, bracketed, then halved."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sim.commands.measuring.search import USERS, SearchStep
from sim.errors import BadInput
from sim.experiments.advice import Bracket
from sim.results.text import figure, interval, number, unit_of
from sim.scenario import Scenario
from sim.virtual.theory import usl_fit

PRECISION = 0.1
"""Where the least that was missed is no more than this share above the most that held, the climb ends."""

MOST = 1_000_000
"""Subscribers."""

AROUND = 8.0
"""Seconds that a load test takes besides its scenario: processes start, tables are written."""


@dataclass
class Climb:
    """How far it has come."""

    steps: list[SearchStep] = field(default_factory=list)
    bracket: Bracket = field(default_factory=Bracket)
    ended: str = ""
    """Why it ended before the bracket was narrow; empty: it did not."""

    @property
    def unjudged(self) -> bool:
        """Whether the least load that did not hold was an invalid run, which says nothing of the target."""
        return any(s.value == self.bracket.missed and s.outcome.reasons for s in self.steps)

    def words(self) -> str:
        """Between which loads the knee lies."""
        held, missed = self.bracket
        below = f"{number(held)} subscribers hold" if held else "none held"
        above = f"{number(missed)} do not" if math.isfinite(missed) else "the knee lies above" if held else "none was judged"
        if self.unjudged:
            above = f"{number(missed)} could not be judged"
        return f"{below}, {above}" + (f" ({self.ended})" if self.ended else "")

    def agrees(self, low: float, high: float) -> tuple[bool | None, str]:
        """Whether the knee lies between the predicted *low* and *high* (None: not decided), and in words."""
        held, missed = self.bracket
        if held > high:
            return False, f"no: {number(held / high)} times what was predicted hold, or more"
        if math.isinf(missed) or self.unjudged:
            return None, "not decided: no load was seen to be too much"
        if missed < low:
            return False, f"no: {number(missed / low)} times what was predicted do not hold"
        return True, "yes: the ranges meet"

    def scalability(self, duration: float) -> str:
        """The universal scalability law of deliveries per second over subscribers, or why there is none."""
        seen = [(float(s.value), s.outcome.summary.get("deliveries.received", {}).get("value")) for s in self.steps]
        points = sorted((n, float(got) / duration) for n, got in seen if got)
        try:
            law = usl_fit([n for n, _ in points], [rate for _, rate in points])
        except BadInput as error:
            return f"not fitted: {error}"
        peak = "never falls" if math.isinf(law.peak) else f"is largest at {number(round(law.peak))} subscribers"
        return f"contention {law.contention:.3g}, coherence {law.coherence:.3g}: throughput {peak}"

    def to_dict(self) -> dict[str, Any]:
        """For `--json`; missed is None where no load was too much."""
        held, missed = self.bracket
        steps = [{"subscribers": s.value, "bundle": str(s.outcome.directory), "fails": s.why} for s in self.steps]
        return {"held": held, "missed": missed if math.isfinite(missed) else None, "ended": self.ended, "steps": steps}


def climb(
    found: Climb, test: Callable[[int], SearchStep], first: float, budget: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[SearchStep]:
    """Load tests from *first* subscribers: doubled or halved until a load that holds and one that does not are known, then
    between the two, until they are near (`PRECISION`) or another would not end within *budget* seconds.

    *found* is kept up to date, so that an error or an interrupt loses nothing.
    """
    began, longest = clock(), 0.0
    while (load := found.bracket.following(first, 1, MOST, PRECISION)) is not None:
        size, started = max(1, round(load)), clock()
        if size in found.bracket:
            return
        if started - began + longest > budget:
            found.ended = "there was no time for another load test"
            return
        taken = test(size)
        longest = max(longest, clock() - started)
        found.steps.append(taken)
        if taken.outcome.interrupted:
            found.ended = "it was interrupted"
        else:
            found.bracket = found.bracket.narrowed(size, not taken.why)
        yield taken
        if found.ended:
            return


def expected(scenario: Scenario, subscribers: int) -> tuple[int, float]:
    """(load tests that a climb takes where the prediction is right, seconds of all of them)."""
    count = 3 + math.ceil(math.log2(math.log(2) / math.log(1 + PRECISION)))
    each = scenario.warmup + scenario.duration + sum(scenario.tail) + subscribers / scenario.load.connect_rate + AROUND
    return count, count * each


def heading(metric: str) -> str:
    return _row(USERS, metric, "95 % interval", "delivered", "verdict")


def line(taken: SearchStep, metric: str) -> str:
    """One load test as a line below `heading`."""
    summary = taken.outcome.summary
    row = summary.get(metric, {})
    spread = interval(row.get("ci_low"), row.get("ci_high"), unit_of(metric))
    return _row(str(taken.value), figure(summary, metric), spread, figure(summary, "delivery_ratio"), taken.why or "holds")


def _row(users: str, value: str, spread: str, delivered: str, verdict: str) -> str:
    return f"{users:>9}  {value:>20}  {spread:>22}  {delivered:>9}  {verdict}"
