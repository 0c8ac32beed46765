"""Laravel's `throttle:N` of an API: N requests per user and minute, then 429 until that minute is over."""

from __future__ import annotations

from collections.abc import Callable

from sim.brokeforge.http import HttpError

WINDOW = 60
"""Seconds."""

Headers = tuple[tuple[str, str], ...]


class RateLimiter:
    """Counts per key in fixed windows. *now*: ns. One per process: P processes allow up to P times *limit*."""

    def __init__(self, limit: int, now: Callable[[], int]) -> None:
        self.limit = limit
        self._now = now
        self._windows: dict[str, tuple[int, int]] = {}

    def hit(self, key: str) -> Headers:
        """Count a request; the headers its answer carries. Raises `HttpError` 429 when *key* has used its minute up."""
        now = self._now() // 1_000_000_000
        until, used = self._windows.get(key, (0, 0))
        if until <= now:
            if len(self._windows) > 100_000:
                self._windows = {k: w for k, w in self._windows.items() if w[0] > now}
            until, used = now + WINDOW, 0
        if used >= self.limit:
            raise HttpError(
                429,
                "Too Many Attempts.",
                headers=(
                    ("X-RateLimit-Limit", str(self.limit)),
                    ("X-RateLimit-Remaining", "0"),
                    ("Retry-After", str(until - now)),
                    ("X-RateLimit-Reset", str(until)),
                ),
            )
        self._windows[key] = (until, used + 1)
        return (("X-RateLimit-Limit", str(self.limit)), ("X-RateLimit-Remaining", str(self.limit - used - 1)))
