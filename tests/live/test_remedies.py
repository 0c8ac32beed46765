"""What is said to do about a refusal."""

from __future__ import annotations

import pytest

from sim.live.remedies import remedy


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("4009 Origin not allowed", "allowed_origins"),
        ("error 4009: Connection is unauthorized", "REVERB_APP_SECRET"),
        ("4001 Application does not exist", "REVERB_APP_KEY"),
        ("GET /servers/{id} (page): HTTP 401", "--accounts"),
        ("POST /broadcasting/auth: HTTP 403", "callback"),
        ("HTTP 303", "login page"),
        ("HTTP 419", "CSRF"),
        ("HTTP 500", ""),
        ("connect: connection refused", ""),
        ("1009", "too large"),
        ("9999 nonsense", ""),
        ("", ""),
    ],
)
def test_a_refusal_in_its_own_words(said: str, advice: str) -> None:
    assert advice in remedy(said)
    assert bool(advice) == bool(remedy(said))
