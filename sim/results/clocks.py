"""By how much do the clocks of two machines differ? Estimated from round trips, with a bound of the error.

A round trip is four instants: the worker asks (by its clock), the master hears and answers (by the master's), the worker hears.
Whatever the two ways take, the true offset lies within half of the time on the way around

    offset = ((heard - asked) + (answered - back)) / 2        on the way: (back - asked) - (answered - heard)

so the fastest round trip says most (Cristian 1989; NTP, RFC 5905 section 8). Clocks also run at different speeds: the best round
trip of each window of time is kept, and what the windows disagree beyond their bounds is added to the error.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 30_000_000_000
"""Nanoseconds: crystals drift by some 20 ppm, which is 0.6 ms in half a minute."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One round trip, ns."""

    asked: int
    """By the worker's clock."""
    heard: int
    """By the master's clock."""
    answered: int
    """By the master's clock."""
    back: int
    """By the worker's clock."""

    @property
    def offset(self) -> int:
        """To add to the worker's instants, to have the master's."""
        return ((self.heard - self.asked) + (self.answered - self.back)) // 2

    @property
    def error(self) -> int:
        """The true offset is within this of `offset`."""
        return max(0, (self.back - self.asked) - (self.answered - self.heard)) // 2 + 1


class ClockEstimate:
    """Round trips come in (`add`), an offset with its error comes out."""

    def __init__(self, window: int = WINDOW) -> None:
        self.round_trips = 0
        self._window = window
        self._best: dict[int, RoundTrip] = {}

    def add(self, sample: RoundTrip) -> None:
        """A round trip in which a clock ran backwards says nothing, and is dropped."""
        if sample.back < sample.asked or sample.answered < sample.heard:
            return
        self.round_trips += 1
        window = sample.asked // self._window
        best = self._best.get(window)
        if best is None or sample.error < best.error:
            self._best[window] = sample

    @property
    def offset(self) -> int:
        """ns to add to the worker's instants; 0 without a round trip."""
        return self._narrowest().offset if self._best else 0

    @property
    def error(self) -> int:
        """Bound of the error of `offset` over the whole time, ns; -1 without a round trip."""
        if not self._best:
            return -1
        best = self._narrowest()
        # Where another window's interval does not meet ours, the clocks have drifted by the distance.
        drift = max(abs(other.offset - best.offset) - other.error - best.error for other in self._best.values())
        return best.error + max(0, drift)

    def members(self) -> dict[str, int]:
        """For a header's `clock`."""
        return {"offset_ns": self.offset, "error_ns": self.error, "round_trips": self.round_trips}

    def _narrowest(self) -> RoundTrip:
        return min(self._best.values(), key=lambda sample: sample.error)
