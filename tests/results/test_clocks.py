"""The offset between two clocks, and a bound that holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sim.results.clocks import ClockEstimate, RoundTrip

DELAYS = st.lists(
    st.tuples(st.integers(0, 5_000_000), st.integers(0, 1_000_000), st.integers(0, 5_000_000)), min_size=1, max_size=30
)


def trip(at: int, offset: int, there: int, thinking: int, back: int) -> RoundTrip:
    """A round trip begun at *at* by the worker's clock, with the true *offset* of the master's."""
    heard = at + there + offset
    return RoundTrip(at, heard, heard + thinking, at + there + thinking + back)


@given(st.integers(-(10**12), 10**12), DELAYS)
def test_the_true_offset_lies_within_the_bound_whatever_the_ways_take(offset: int, delays: list[tuple[int, int, int]]) -> None:
    estimate = ClockEstimate()
    for i, (there, thinking, back) in enumerate(delays):
        estimate.add(trip(i * 10**9, offset, there, thinking, back))
    assert abs(estimate.offset - offset) <= estimate.error
    assert estimate.round_trips == len(delays)


def test_the_fastest_round_trip_decides() -> None:
    estimate = ClockEstimate()
    for there, back in [(4_000_000, 0), (100, 100), (0, 9_000_000)]:
        estimate.add(trip(0, 5_000, there, 50, back))
    assert estimate.offset == 5_000
    assert estimate.error == 101


def test_a_clock_that_drifts_widens_the_bound() -> None:
    steady, drifting = ClockEstimate(window=1_000), ClockEstimate(window=1_000)
    for i in range(10):
        steady.add(trip(i * 1_000, 0, 10, 0, 10))
        drifting.add(trip(i * 1_000, i * 100, 10, 0, 10))
    assert steady.error == 11
    assert drifting.error >= 900 - 11


def test_nothing_is_known_before_the_first_answer() -> None:
    assert ClockEstimate().members() == {"offset_ns": 0, "error_ns": -1, "round_trips": 0}


def test_a_round_trip_in_which_a_clock_was_set_back_says_nothing() -> None:
    estimate = ClockEstimate()
    estimate.add(RoundTrip(asked=100, heard=50, answered=60, back=90))
    estimate.add(RoundTrip(asked=100, heard=60, answered=50, back=110))
    assert estimate.round_trips == 0
