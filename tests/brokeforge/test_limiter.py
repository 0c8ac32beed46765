"""Requests per key and minute, counted by a clock that stands still."""

from __future__ import annotations

import pytest

from sim.brokeforge import limiter
from sim.brokeforge.http import HttpError
from sim.clock import SECOND, ns


class Clock:
    at = 0

    def __call__(self) -> int:
        return self.at


def test_a_minute_is_used_up_and_over_at_its_very_end() -> None:
    now = Clock()
    two = limiter.RateLimiter(2, now)
    now.at = ns(0.5)
    assert [dict(two.hit("a"))["X-RateLimit-Remaining"] for _ in range(2)] == ["1", "0"]
    for at, left in ((0.5, "60"), (1.0, "60"), (59.5, "1"), (60.4, "1")):
        now.at = ns(at)
        with pytest.raises(HttpError) as refused:
            two.hit("a")
        assert refused.value.status == 429
        assert dict(refused.value.headers) == {
            "X-RateLimit-Limit": "2",
            "X-RateLimit-Remaining": "0",
            "Retry-After": left,
            "X-RateLimit-Reset": "61",
        }
    assert dict(two.hit("b")) == {"X-RateLimit-Limit": "2", "X-RateLimit-Remaining": "1"}
    now.at = ns(60.5)
    assert dict(two.hit("a"))["X-RateLimit-Remaining"] == "1"


def test_keys_whose_minute_is_over_make_room_and_a_flood_of_others_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "KEYS", 2)
    now = Clock()
    one = limiter.RateLimiter(1, now)
    one.hit("old")
    now.at = 30 * SECOND
    one.hit("a")
    now.at = limiter.WINDOW * SECOND
    one.hit("b")
    assert set(one._windows) == {"a", "b"}
    with pytest.raises(HttpError):
        one.hit("a")
    one.hit("c")
    one.hit("a")
