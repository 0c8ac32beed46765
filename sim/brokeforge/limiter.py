"""Laravel's `throttle:N` of an API: N requests per user and minute, then 429 until that minute is over."""

from __future__ import annotations

from collections.abc import Callable

from sim.brokeforge.http import HttpError
from sim.clock import SECOND

WINDOW = 60
"""Seconds from a key's first request, as Laravel counts them."""
KEYS = 100_000
"""Keys that are counted at a time."""

Headers = tuple[tuple[str, str], ...]


class RateLimiter:
    """Counts per key in fixed windows. *now*: ns. One per process: P processes allow up to P times *limit*."""

    def __init__(self, limit: int, now: Callable[[], int]) -> None:
        self.limit = limit
        self._now = now
        self._windows: dict[str, tuple[int, int]] = {}

    def hit(self, key: str) -> Headers:
        """Count a request; the headers its answer carries. Raises `HttpError` 429 when *key* has used its minute up."""
        now = self._now()
        until, used = self._windows.get(key, (0, 0))
        if until <= now:
            if len(self._windows) >= KEYS:
                self._windows = {k: w for k, w in self._windows.items() if w[0] > now}
                if len(self._windows) >= KEYS:
                    self._windows.clear()  # a flood of made-up keys: the memory is worth more than their counts
            until, used = now + WINDOW * SECOND, 0
        if used >= self.limit:
            left = -(-(until - now) // SECOND)
            raise HttpError(
                429,
                "Too Many Attempts.",
                headers=(
                    ("X-RateLimit-Limit", str(self.limit)),
                    ("X-RateLimit-Remaining", "0"),
                    ("Retry-After", str(left)),
                    ("X-RateLimit-Reset", str(-(-until // SECOND))),
                ),
            )
        self._windows[key] = (until, used + 1)
        return (("X-RateLimit-Limit", str(self.limit)), ("X-RateLimit-Remaining", str(self.limit - used - 1)))
