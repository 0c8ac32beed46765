"""When a refetch is due: recorded libraries, tables by hand, and what must hold for any notifications."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.clock import SECOND, ns
from sim.policy import (
    NEVER,
    Debounce,
    DebounceMachine,
    FullPayload,
    Immediate,
    Polling,
    PollingMachine,
    RateLimit,
    Throttle,
    Window,
    fires,
)
from tests import vectors

RECORDED = Path(__file__).parent / "data" / "debounce-vectors.json"
MS = 1_000_000


def due(policy: Any, *calls: int) -> list[int]:
    """Fires for calls at these milliseconds, in milliseconds."""
    return [at // MS for at in fires(policy, [call * MS for call in calls])]


# --- against the libraries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors.load(RECORDED), ids=lambda vector: vector["id"])
def test_recorded_behaviour_of_the_libraries(vector: dict[str, Any]) -> None:
    for library, difference in vectors.compare(vector):
        assert not difference, f"{library}: {difference}"


def test_the_runner_prints_a_line_per_case_and_fails_on_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vectors.main([str(RECORDED)]) == 0
    assert capsys.readouterr().out.count("\n") > 150
    wrong = tmp_path / "wrong.json"
    tree = json.loads(RECORDED.read_text())
    tree["vectors"][0]["results"]["lodash@4.18.1 debounce"]["fire_times"][0] += 1
    wrong.write_text(json.dumps(tree))
    assert vectors.main([str(wrong)]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{}", '{"vectors": [{"id": "X"}]}'])
def test_the_runner_refuses_what_is_no_recording(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    assert vectors.main([str(path)]) == 2
    assert vectors.main([str(tmp_path / "missing.json")]) == 2


def test_the_runner_is_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.vectors", str(RECORDED)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("ok   D001 timer-first lodash@4.18.1 debounce: single call")


@pytest.mark.parametrize(
    ("library", "timing"),
    [
        ("lodash@4.18.1 debounce", "lodash"),
        ("lodash@4.17.21 throttle", "lodash"),
        ("lodash@4.17.10 debounce", "use-debounce"),
        ("lodash.debounce@4.0.8", "use-debounce"),
        ("use-debounce@10.1.1 useDebouncedCallback", "use-debounce"),
    ],
)
def test_which_release_has_which_timing(library: str, timing: str) -> None:
    assert vectors.timing_of(library) == timing


# --- by hand -----------------------------------------------------------------------------------------------------------


def test_immediate_is_every_notification() -> None:
    assert due(Immediate(), 0, 1, 1, 700) == [0, 1, 1, 700]


def test_trailing_debounce_waits_for_silence() -> None:
    assert due(Debounce(0.5), 0, 400, 800) == [1300]
    assert due(Debounce(0.5), 0, 600) == [500, 1100]


def test_at_one_instant_the_timer_rings_before_the_notification_counts() -> None:
    assert due(Debounce(0.5), 0, 500) == [500, 1000]
    assert due(Window(0.5), 0, 500) == [500, 1000]
    assert due(RateLimit(0.5), 0, 100, 500) == [0, 500, 1000]


def test_a_storm_starves_a_trailing_debounce_and_max_wait_ends_it() -> None:
    storm = range(0, 3000, 100)
    assert due(Debounce(0.5), *storm) == [3400]
    assert due(Debounce(0.5, max_wait=1.0), *storm) == [1000, 2000, 3000]


def test_leading_edges() -> None:
    assert due(Debounce(0.5, leading=True), 0) == [0]
    assert due(Debounce(0.5, leading=True), 0, 100) == [0, 600]
    assert due(Debounce(0.5, leading=True, trailing=False), 0, 100, 700) == [0, 700]
    assert due(Debounce(0.5, trailing=False), 0, 100, 700) == []


@pytest.mark.parametrize(
    ("timing", "expected"),
    [("lodash", [0, 1000, 2331, 3331, 4662, 5662]), ("use-debounce", [0, 1000, 2331, 3331, 4331, 5662])],
)
def test_throttle_by_library(timing: Any, expected: list[int]) -> None:
    """The case where clearing the timer shows: a call every 333 ms, throttled to a second."""
    assert due(Throttle(1.0, timing=timing), *range(0, 5000, 333)) == expected


def test_window_covers_all_that_comes_in_it() -> None:
    assert due(Window(0.5), 0, 100, 499, 501) == [500, 1001]


def test_a_rate_limit_is_free_at_the_very_instant_at_which_it_frees() -> None:
    machine = RateLimit(0.5).machine()
    assert machine.call(0)
    assert not machine.call(500 * MS - 1)
    assert machine.ring(500 * MS)
    assert machine.call(1000 * MS), "at once, without a timer"
    assert machine.next_at == NEVER


def test_after_cancel_a_timer_that_was_left_behind_fires_nothing() -> None:
    """A storm with max_wait leaves a stray timer; with nothing pending it rings for nothing."""
    machine = DebounceMachine(wait=10, max_wait=10)
    fired = []
    for at in (0, 4, 12, 20, 22):
        while machine.next_at <= at:
            instant = machine.next_at
            if machine.ring(instant):
                fired.append(instant)
        if machine.call(at):
            fired.append(at)
    machine.cancel()
    assert machine.next_at == 30, "the stray"
    assert fired == [10, 20]
    assert not machine.ring(30)
    assert machine.next_at == NEVER


def test_of_several_timers_that_are_left_behind_the_first_rings_next() -> None:
    machine = DebounceMachine(wait=20)
    for at in (0, 2):
        machine.call(at)
        assert machine.flush(at + 1), "its timer stays"
    machine.cancel()
    assert machine.next_at == 20
    assert not machine.ring(20)
    assert machine.next_at == 22


def test_a_timer_that_has_rung_after_the_component_went_is_not_left_behind() -> None:
    machine = DebounceMachine(wait=10)
    machine.call(0)
    machine.unmount(1)
    assert not machine.ring(10)
    assert machine.is_pending
    assert machine.flush(11)
    machine.call(12)
    assert machine.next_at == 22


def test_rate_limit_is_at_once_when_idle_and_else_a_wait_after_the_last() -> None:
    assert due(RateLimit(0.5), 0, 100, 200, 2000) == [0, 500, 2000]
    assert due(RateLimit(0.5), 0, 500) == [0, 500]


def test_no_refetch_from_notifications_where_the_page_polls_or_gets_the_state() -> None:
    assert due(FullPayload(), 0, 1) == []
    assert due(Polling(5.0), 0, 1) == []


def test_polling_keeps_its_beat_and_drops_ticks_that_were_slept_through() -> None:
    machine = PollingMachine(10)
    machine.open(5)
    assert machine.ring(5)
    assert machine.next_at == 15
    assert machine.ring(38)
    assert machine.next_at == 45


def test_polling_at_rest_counts_from_the_answer() -> None:
    machine = PollingMachine(10, rest=True)
    machine.open(0)
    assert machine.ring(0)
    assert machine.next_at == NEVER
    machine.answered(7)
    assert machine.next_at == 17


def test_is_pending_holds_until_the_timer_rings_after_a_leading_fire() -> None:
    machine = DebounceMachine(500, leading=True)
    assert machine.call(0)
    assert machine.is_pending
    assert not machine.ring(500)
    assert not machine.is_pending


def test_timers_that_outlive_their_component_ring_once_and_for_nothing() -> None:
    """flush leaves a timer behind, unmount another; both ring, and the slot stays taken as use-debounce leaves it."""
    machine = DebounceMachine(500)
    machine.call(0)
    machine.flush(100)
    machine.call(200)
    machine.unmount(300)
    rings = 0
    while machine.next_at < 10_000:
        assert not machine.ring(machine.next_at)
        rings += 1
    assert rings == 2
    assert machine.is_pending


def test_a_timer_that_has_rung_after_its_component_went_is_not_left_behind_again() -> None:
    machine = DebounceMachine(500, max_wait=5_000)
    machine.call(0)
    machine.unmount(100)
    assert not machine.ring(500)
    machine.flush(600)
    machine.call(700)
    assert machine.next_at == 1_200


def test_a_clock_that_goes_back_counts_as_silence() -> None:
    machine = DebounceMachine(500)
    machine.call(1000)
    machine.call(900)
    assert machine.next_at == 1500
    assert machine.ring(1500)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Debounce(-0.1), "wait must be >= 0 s"),
        (lambda: Debounce(0.5, max_wait=-1.0), "max_wait must be >= 0 s"),
        (lambda: Throttle(float("nan")), "wait must be >= 0 s"),
        (lambda: RateLimit(-1.0), "wait must be >= 0 s"),
        (lambda: Polling(0.0), "interval must be > 0 s"),
        *(
            (lambda kind=kind: kind(jitter=-1.0), "jitter must be >= 0 s")
            for kind in (Immediate, Debounce, Throttle, Window, RateLimit, Polling)
        ),
    ],
)
def test_impossible_values_are_refused_by_name(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# --- for any notifications ---------------------------------------------------------------------------------------------

calls = st.lists(st.integers(0, 400), max_size=60).map(sorted)
waits = st.integers(1, 60)
timings = st.sampled_from(["lodash", "use-debounce"])


def nanoseconds(policy: Any, at: list[int]) -> list[int]:
    """Fires of a policy whose durations are whole ns (given as seconds)."""
    return fires(policy, at)


@given(calls, waits)
def test_trailing_fires_are_a_wait_apart_and_the_last_state_is_fetched(at: list[int], wait: int) -> None:
    found = nanoseconds(Debounce(wait / 1e9), at)
    assert all(later - earlier >= wait for earlier, later in itertools.pairwise(found))
    assert not at or found[-1] == at[-1] + wait
    assert len(found) == sum(b - a >= wait for a, b in itertools.pairwise(at)) + bool(at)


@given(calls, waits)
def test_window_serves_every_notification_within_its_wait(at: list[int], wait: int) -> None:
    found = nanoseconds(Window(wait / 1e9), at)
    assert all(any(call < fire <= call + wait for fire in found) for call in at)
    assert all(later - earlier >= wait for earlier, later in itertools.pairwise(found))


@given(calls, waits)
def test_rate_limit_never_fires_twice_in_a_wait_and_never_makes_wait_longer(at: list[int], wait: int) -> None:
    found = nanoseconds(RateLimit(wait / 1e9), at)
    assert all(later - earlier >= wait for earlier, later in itertools.pairwise(found))
    assert all(any(call <= fire <= call + wait for fire in found) for call in at)


@given(calls, waits, st.integers(0, 200), st.booleans(), st.booleans(), timings)
def test_no_fire_without_a_notification_before_it(
    at: list[int], wait: int, cap: int, leading: bool, trailing: bool, timing: Any
) -> None:
    policy = Debounce(wait / 1e9, leading, trailing, cap / 1e9, timing)
    found = nanoseconds(policy, at)
    assert len(found) <= len(at)
    assert found == sorted(found)
    for earlier, later in zip([-1, *found], found, strict=False):
        # Since the fire before, or at its very instant (the timer rings first, then the call counts).
        assert any(earlier <= call <= later for call in at)
    if trailing and at:
        assert found
        assert found[-1] >= at[-1] or (leading and found[-1] == at[-1])


@given(calls, waits, st.booleans(), timings)
def test_without_max_wait_the_libraries_do_not_differ(at: list[int], wait: int, leading: bool, timing: Any) -> None:
    policy = Debounce(wait / 1e9, leading=leading, timing=timing)
    assert nanoseconds(policy, at) == nanoseconds(Debounce(wait / 1e9, leading=leading), at)


@given(calls, waits)
def test_the_quick_way_is_the_long_way(at: list[int], wait: int) -> None:
    """A machine without a cap takes short cuts; a cap that is never reached must not change a fire."""
    assert nanoseconds(Debounce(wait / 1e9), at) == nanoseconds(Debounce(wait / 1e9, max_wait=1e6), at)


def test_what_is_due_at_the_last_instant_asked_for_is_among_what_is_due() -> None:
    assert [fires(Debounce(1.0), [0], until) for until in (SECOND - 1, SECOND)] == [[], [SECOND]]


def test_durations_are_rounded_to_the_nanosecond() -> None:
    assert fires(Debounce(0.3), [0]) == [ns(0.3)] == [300_000_000]


def test_jitter_is_only_where_it_is_asked_for_and_silence_only_where_it_is_waited_for() -> None:
    assert [policy().jitter for policy in (Immediate, Debounce, Throttle, Window, RateLimit, Polling)] == [0.0] * 6
    assert [policy().wait for policy in (Debounce, Throttle, Window, RateLimit)] == [0.5] * 4
    assert [policy.waits_for_silence for policy in (Immediate, Throttle, Window, RateLimit, Polling, FullPayload)] == [False] * 6
    waiting = [Debounce(wait=0.5), Debounce(wait=0.0), Debounce(wait=0.5, max_wait=1.0)]
    assert [policy.waits_for_silence for policy in waiting] == [True, False, False]
    assert not Debounce(wait=0.5, leading=True, trailing=False).waits_for_silence
