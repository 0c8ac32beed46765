"""Over wide ranges every closed form gives a number (or inf) or says that it does not hold: never NaN, never a traceback."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sim.errors import BadInput
from sim.policy import Debounce, Immediate, Policy, Polling, RateLimit, Window
from sim.virtual import theory

wide = st.floats(-9, 9).map(lambda power: 10**power) | st.sampled_from([1e-300, 1e-60, 1e60, 1e300])


def policies(wait: float, cap: float) -> list[Policy]:
    return [
        Immediate(),
        Debounce(wait),
        Debounce(wait, leading=True),
        Debounce(wait, leading=True, trailing=False),
        Debounce(wait, max_wait=cap, timing="lodash"),
        Window(wait),
        RateLimit(wait),
        Polling(wait),
    ]


@settings(max_examples=150, deadline=None)
@given(rate=wide, wait=wide, cap=wide)
@example(rate=391.1336694545893, wait=0.06382076864236505, cap=1.0)
@example(rate=276097.57853799226, wait=0.0002542781740236997, cap=1.0)
def test_predictions_are_numbers_or_bad_input(rate: float, wait: float, cap: float) -> None:
    for policy in policies(wait, cap):
        try:
            found = theory.predict(policy, rate)
        except BadInput:
            continue
        assert not [name for name, value in found.items() if math.isnan(value)], policy


@settings(max_examples=150, deadline=None)
@given(a=wide, b=wide, c=wide, q=st.floats(0, 1))
def test_functions_give_numbers_or_bad_input(a: float, b: float, c: float, q: float) -> None:
    for function, arguments in (
        (theory.debounce.trailing_delay_sf, (a, b, c)),
        (theory.debounce.trailing_delay_quantile, (q, a, b)),
        (theory.policies.window_delay_quantile, (q, a, b)),
        (theory.policies.grid_sync_age, (a, b)),
        (theory.fanout_delay_last, (100, a, b)),
        (theory.sizing.nodes_needed, (a, 100, b)),
        (theory.jittered_herd_response_mean, (100, 3, a, b)),
    ):
        try:
            found = function(*arguments)
        except BadInput:
            continue
        numbers = found if isinstance(found, tuple) else (found,)
        assert not any(math.isnan(value) for value in numbers), (function.__name__, arguments)


@pytest.mark.parametrize("x", [24.0, 40.0, 300.0])
def test_a_page_that_all_but_starves_has_exponential_delays(x: float) -> None:
    mean = theory.trailing_delay_mean(x, 1.0)
    assert theory.debounce.trailing_delay_quantile(0.5, x, 1.0) == pytest.approx(math.log(2) * mean, rel=1e-6)


def test_beyond_float64_a_page_starves_for_ever() -> None:
    found = theory.predict(Debounce(wait=1.0), 1000.0)
    assert found["refetch_rate.mean"] == 0.0
    assert found["time_to_fresh.mean"] == found["time_to_fresh.p50"] == math.inf
