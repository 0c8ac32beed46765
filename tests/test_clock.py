"""Virtual time: order, ties, cancelling, and a series that behaves as its single calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sim.clock import LONG_AGO, SECOND, EventList, ns


def test_seconds_become_whole_nanoseconds() -> None:
    assert ns(1.5) == 1_500_000_000
    assert ns(0.1 + 0.2) == 300_000_000
    assert ns(1) == SECOND


def test_entries_run_in_the_order_of_their_instants() -> None:
    clock, seen = EventList(), []
    for when in (30, 10, 20):
        clock.call_at(when, lambda: seen.append(clock.now()))
    clock.run()
    assert seen == [10, 20, 30]


def test_entries_of_one_instant_run_in_the_order_in_which_they_were_made() -> None:
    clock, seen = EventList(), []
    for name in "abc":
        clock.call_at(5, seen.append, name)
    clock.run()
    assert seen == ["a", "b", "c"]


def test_a_cancelled_entry_does_not_run() -> None:
    clock, seen = EventList(), []
    clock.call_at(1, seen.append, "kept")
    clock.call_at(1, seen.append, "cancelled").cancel()
    clock.run()
    assert seen == ["kept"]


def test_what_is_past_runs_now_and_never_within_the_caller() -> None:
    clock, seen = EventList(start=100), []

    def caller() -> None:
        clock.call_at(7, lambda: seen.append(clock.now()))
        seen.append("caller done")

    clock.call_at(100, caller)
    clock.run()
    assert seen == ["caller done", 100]


def test_run_until_includes_the_instant_and_leaves_the_clock_there() -> None:
    clock, seen = EventList(), []
    for when in (10, 11):
        clock.call_at(when, seen.append, when)
    clock.run(until=10)
    assert seen == [10]
    assert clock.now() == 10
    clock.run(until=50)
    assert seen == [10, 11]
    assert clock.now() == 50


instants = st.lists(st.integers(0, 12), max_size=6).map(sorted)
Make = Callable[[EventList, list[int], Callable[[Any, int], None]], None]


def one_by_one(clock: EventList, whens: list[int], callback: Callable[[Any, int], None]) -> None:
    for item, when in enumerate(whens):
        clock.call_at(when, callback, item, when)


def at_once(clock: EventList, whens: list[int], callback: Callable[[Any, int], None]) -> None:
    clock.call_each(whens, range(len(whens)), callback)


def told(clock: EventList, whens: list[int], callback: Callable[[Any, int], None]) -> None:
    """Each listener finds what its series is of."""
    of = object()

    def notified(item: int, when: int) -> None:
        callback(item if clock.telling is of else "another's", when)

    listeners = [SimpleNamespace(quiet_until=LONG_AGO, notified=partial(notified, item)) for item in range(len(whens))]
    clock.tell_each(whens, [SimpleNamespace(listener=listener) for listener in listeners], of)


@given(st.lists(st.tuples(instants, st.integers(0, 12)), max_size=5), st.integers(0, 14))
def test_a_series_is_the_same_as_its_calls(plan: list[tuple[list[int], int]], pause: int) -> None:
    """Also among other entries, entries made on the way, and across a pause of the clock."""

    def play(make: Make) -> list[tuple[Any, ...]]:
        clock, seen = EventList(), []
        for number, (whens, single) in enumerate(plan):
            make(clock, whens, lambda item, when, number=number: seen.append((number, item, when, clock.now())))
            clock.call_at(single, lambda number=number: clock.call_at(clock.now() + 1, seen.append, ("child", number)))
        clock.run(until=pause)
        seen.append(("pause", clock.now()))
        clock.run()
        return seen

    assert play(at_once) == play(told) == play(one_by_one)


def test_a_listener_that_waits_for_silence_is_called_once_it_is_there() -> None:
    """Its timer is put off from 5 to 8; one that has heard nothing rings when it was to, and so does one that is not meant."""
    clock, rang = EventList(), []
    lane = clock.lane("lane", lambda listener, when: rang.append((listener.name, when, clock.now())), silence=5)
    for name, heard_at, alarm_at in (("put off", 3, 5), ("silent", 0, 5), ("another timer", 3, 7)):
        lane.post(5, SimpleNamespace(name=name, heard_at=heard_at, alarm_at=alarm_at, quiet_until=alarm_at))
    clock.run()
    assert rang == [("silent", 5, 5), ("another timer", 5, 5), ("put off", 8, 8)]
