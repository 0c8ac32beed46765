"""pusher-js's clock: when a page whose connection dropped tries again. There is no jitter: pages that drop together try
again together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat

from sim.clock import SECOND

DELAY = SECOND
"""From an unexpected close to the first attempt."""

QUICK_FAILURE = 5_000_000
"""A refused attempt with the transport that worked last time; then the loop of slots begins."""

SLOTS = (15 * SECOND, 30 * SECOND, 60 * SECOND)
"""An attempt that fails waits out its slot, even if it failed at once; the last length repeats."""


def attempts(dropped_at: int) -> Iterator[int]:
    """Instants (ns) of the attempts after a drop, as long as each is refused: +1 s, at once again, +15 s, +30 s, +60 s, +60 s ...

    Measured with pusher-js 8: dropped at 10.000 s, attempts at 11.000, 11.005, 26.005, 56.005, 116.005, 176.005 s.
    """
    yield dropped_at + DELAY
    yield from first_attempts(dropped_at + DELAY + QUICK_FAILURE)


def first_attempts(opened_at: int) -> Iterator[int]:
    """Those of a page that has never been connected: at once, then a slot after the other (0, 15, 45, 105, 165 s ...)."""
    at = opened_at
    yield at
    for slot in chain(SLOTS, repeat(SLOTS[-1])):
        at += slot
        yield at
