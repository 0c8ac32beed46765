"""When pages refetch, from what they hear: all at once as by the machines, and what tells which of two is first."""

from __future__ import annotations

import numpy as np
import pytest

from sim.clock import SECOND
from sim.policy import Debounce, FullPayload, Immediate, Policy, RateLimit, Throttle, Window, fires
from sim.virtual.fires import BY_CALL, drive, fires_of

POLICIES = [Immediate(), Debounce(wait=0.3), Debounce(wait=0.0), Throttle(wait=0.2), Window(wait=0.3), RateLimit(wait=0.2)]


def heard_by_one() -> np.ndarray:
    rng = np.random.default_rng(5)
    heard = np.sort(rng.integers(0, 60 * SECOND, 300))
    return np.sort(np.concatenate([heard, heard[:5] + 300_000_000]))  # gaps of exactly the wait


@pytest.mark.parametrize("policy", POLICIES)
def test_all_at_once_is_the_machines(policy: Policy) -> None:
    heard = heard_by_one()
    at, answered, _ = fires_of(policy, heard)
    assert list(at) == fires(policy, heard.tolist())
    driven = drive(policy.machine(), heard.tolist())
    assert [*zip(at.tolist(), answered.tolist(), strict=True)] == [(fire.at, fire.answered) for fire in driven]
    assert fires_of(policy, heard[:0])[0].size == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_pages_do_not_hear_for_each_other(policy: Policy) -> None:
    one = heard_by_one()
    parts = [one[:7], one[7:9], one, one[40:41]]
    first = np.cumsum([0, *(part.size for part in parts[:-1])])
    at, answered, place = fires_of(policy, np.concatenate(parts), first)
    page = np.searchsorted(first, place, side="right") - 1
    for number, part in enumerate(parts):
        alone = fires_of(policy, part)
        assert [*zip(at[page == number], answered[page == number], strict=True)] == [*zip(*alone[:2], strict=True)]


def test_a_full_payload_is_not_refetched() -> None:
    assert fires_of(FullPayload(), heard_by_one())[0].size == 0


def test_who_started_the_timer_earlier_is_first() -> None:
    """Both are silent since 9; the timer of the first page was started anew at 10, that of the second at 9."""
    chain, alone = drive(Debounce(wait=5e-9).machine(), [5, 9]), drive(Debounce(wait=5e-9).machine(), [9])
    assert (chain[0].at, alone[0].at) == (14, 14)
    assert chain[0].cause is not None
    assert alone[0].cause is not None
    assert (chain[0].cause.armed_at, chain[0].cause.call) == (10, 0)
    assert (alone[0].cause.armed_at, alone[0].cause.call) == (9, 0)


def test_a_timer_at_the_instant_of_a_notification_has_no_known_cause() -> None:
    found = drive(Debounce(wait=5e-9).machine(), [5, 10])
    assert [(fire.at, fire.cause is None) for fire in found] == [(10, True), (15, False)]


def test_a_notification_that_is_answered_at_once_has_no_timer() -> None:
    _, fire = drive(Immediate().machine(), [5, 6])
    assert fire.cause is not None
    assert (fire.cause.armed_at, fire.cause.call) == (BY_CALL, 1)
