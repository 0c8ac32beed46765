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
        ("POST /login: login: sent back to the login form: wrong credentials", "cannot log in"),
        ("POST /login: login: the CSRF token was not accepted", "SANCTUM_STATEFUL_DOMAINS"),
        ("subscription_error 401 The connection is unauthorized.", "same key and secret"),
        ("HTTP 419", "CSRF"),
        ("POST /broadcasting/auth: HTTP 200 without JSON member auth", "login page"),
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
    assert advice.replace("REVERB_", "PUSHER_") in remedy(said, "PUSHER")
