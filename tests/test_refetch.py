"""One page's refetches in virtual time: what an in-flight rule does, what becomes of each answer."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.clock import EventList
from sim.policy import Debounce, FullPayload, Immediate, InFlight, Policy, Polling, Throttle, Window
from sim.refetch import Refetch, Refetcher

MS = 1_000_000
S = 1000 * MS


class Browser:
    """A page, and a server that answers the n-th request after its own latency with its own version."""

    def __init__(
        self,
        policy: Policy,
        rule: InFlight = "overlap",
        latencies: tuple[int, ...] = (10,),
        versions: tuple[int | None, ...] | None = None,
        statuses: tuple[int, ...] = (),
        **options: Any,
    ) -> None:
        self.clock = EventList()
        self.latencies = latencies
        self.versions = versions
        self.statuses = statuses
        self.sent: list[Refetch] = []
        self.done: list[Refetch] = []
        self.aborted: list[Refetch] = []
        self.refetcher = Refetcher(policy, rule, self.clock, self.send, self.done.append, **options)

    def send(self, refetch: Refetch) -> Callable[[], None]:
        number = len(self.sent)
        self.sent.append(refetch)
        latency = self.latencies[number % len(self.latencies)] * MS
        version = number + 1 if self.versions is None else self.versions[number % len(self.versions)]
        status = self.statuses[number] if number < len(self.statuses) else 200
        self.clock.call_at(self.clock.now() + latency, self.answer, refetch, version, status)
        return lambda: self.aborted.append(refetch)

    def answer(self, refetch: Refetch, version: int | None, status: int) -> None:
        self.refetcher.finished(refetch, self.clock.now(), version, status, 100)

    def notified(self, *at: int) -> Browser:
        for instant in at:
            self.clock.call_at(instant * MS, self.refetcher.notified, instant * MS)
        return self

    def run(self, until: int | None = None) -> Browser:
        self.clock.run(None if until is None else until * MS)
        return self

    def started(self) -> list[int]:
        return [refetch.started_at // MS for refetch in self.sent]

    def outcomes(self) -> list[str]:
        """In the order in which they were sent."""
        return [refetch.outcome for refetch in self.sent]


def test_a_refetch_from_due_to_applied() -> None:
    browser = Browser(Debounce(0.5)).notified(0, 100, 200).run()
    (refetch,) = browser.done
    assert (refetch.due_at, refetch.started_at, refetch.finished_at) == (700 * MS, 700 * MS, 710 * MS)
    assert (refetch.answered, refetch.version, refetch.status, refetch.bytes) == (3, 1, 200, 100)
    assert refetch.outcome == "applied"
    assert browser.refetcher.version == 1
    assert browser.refetcher.in_flight == 0


def test_overlap_applies_in_the_order_of_arrival_and_may_end_on_the_oldest() -> None:
    """The recorded case of Inertia 2 and 3: reloads at 0, 50, 100 ms that take 300, 120, 200 ms; shown 2, then 3, then 1.

    (The first takes 301 ms here: in exact time the last two would arrive at one instant.)
    """
    browser = Browser(Immediate(), "overlap", (301, 120, 200)).notified(0, 50, 100).run()
    assert [refetch.version for refetch in browser.done] == [2, 3, 1]
    assert browser.outcomes() == ["applied"] * 3
    assert browser.refetcher.version == 1


def test_cancel_aborts_what_runs_and_shows_the_newest() -> None:
    """The same with Inertia 1: the first two are aborted."""
    browser = Browser(Immediate(), "cancel", (300, 120, 200)).notified(0, 50, 100).run()
    assert browser.outcomes() == ["superseded", "superseded", "applied"]
    assert browser.aborted == browser.sent[:2]
    assert browser.refetcher.version == 3
    assert [refetch.finished_at for refetch in browser.sent] == [-1, -1, 300 * MS]


def test_single_flight_runs_again_once_for_all_that_came_meanwhile() -> None:
    browser = Browser(Immediate(), "single_flight", (300,)).notified(0, 50, 100, 150).run()
    assert browser.started() == [0, 300]
    assert [refetch.answered for refetch in browser.sent] == [1, 3]
    assert browser.sent[1].due_at == 50 * MS
    assert browser.outcomes() == ["applied", "applied"]


def test_single_flight_runs_again_after_a_failure_too() -> None:
    browser = Browser(Immediate(), "single_flight", (300,), statuses=(503,)).notified(0, 50).run()
    assert browser.outcomes() == ["failed", "applied"]


@pytest.mark.parametrize("status", [0, 403, 429, 500, 503])
def test_a_failure_changes_nothing_on_the_page(status: int) -> None:
    browser = Browser(Immediate(), statuses=(status,)).notified(0).run()
    assert browser.outcomes() == ["failed"]
    assert browser.done[0].status == (status or None)
    assert browser.refetcher.version is None


def test_what_was_already_shown_is_not_newer() -> None:
    browser = Browser(Immediate(), versions=(4, 4, 5))
    browser.notified(0, 100, 200).run()
    assert browser.outcomes() == ["applied", "not_newer", "applied"]


def test_a_page_knows_what_it_was_loaded_with() -> None:
    browser = Browser(Immediate(), versions=(4,))
    browser.refetcher.version = 4
    assert browser.notified(0).run().outcomes() == ["not_newer"]


def test_an_application_without_versions_is_always_applied() -> None:
    browser = Browser(Immediate(), versions=(None,)).notified(0, 100).run()
    assert browser.outcomes() == ["applied", "applied"]


def test_after_an_answer_without_a_version_nobody_knows_what_the_page_shows() -> None:
    browser = Browser(Immediate(), versions=(4, None, 4)).notified(0, 100, 200).run()
    assert browser.outcomes() == ["applied", "applied", "applied"]
    assert browser.refetcher.version == 4


def test_jitter_is_part_of_due_and_delays_the_start() -> None:
    browser = Browser(Debounce(0.5, jitter=0.2), rng=random.Random(3)).notified(0, 1000).run()
    for refetch, fired in zip(browser.sent, (500, 1500), strict=True):
        assert fired * MS <= refetch.due_at < (fired + 200) * MS
        assert refetch.started_at == refetch.due_at


def test_jitter_needs_a_stream() -> None:
    with pytest.raises(ValueError, match="needs a random stream"):
        Browser(Debounce(0.5, jitter=0.2))


def test_timers_of_a_hidden_tab_ring_on_whole_seconds() -> None:
    browser = Browser(Debounce(0.5), timer_step=S).notified(100, 2700).run()
    assert browser.started() == [1000, 4000]
    assert [refetch.due_at // MS for refetch in browser.sent] == [600, 3200]


def test_each_hidden_tab_has_a_phase_of_its_own() -> None:
    browser = Browser(Debounce(0.5), timer_step=S, timer_phase=250 * MS).notified(100, 2700, 4750).run()
    assert browser.started() == [1250, 3250, 5250]
    assert Browser(Debounce(0.5), timer_step=S, timer_phase=250 * MS).notified(750).run().started() == [1250]  # due just then


def test_a_hidden_tab_takes_up_what_came_before_its_timer_rang() -> None:
    """Due at 0.6 s, rings at 1.0 s; silent only since 0.8 s, so it waits on, to 1.3 s, which rings at 2.0 s."""
    browser = Browser(Debounce(0.5), timer_step=S).notified(100, 800).run()
    assert browser.started() == [2000]
    assert browser.sent[0].answered == 2


@pytest.mark.parametrize("step", [0, 100 * MS])
def test_a_timer_rings_before_a_notification_of_the_same_instant(step: int) -> None:
    """Told in either order: here the notification of 500 ms is told first, because it was made before the timer."""
    browser = Browser(Debounce(0.5), timer_step=step).notified(0, 500).run()
    assert [(refetch.due_at // MS, refetch.answered) for refetch in browser.sent] == [(500, 1), (1000, 1)]


def test_a_notification_is_served_as_of_its_arrival_even_when_it_is_told_late() -> None:
    """The clock stood still from 0 to 900 ms: the timer of 500 ms goes before the notification of 600 ms."""
    browser = Browser(Debounce(0.5)).notified(0)
    browser.run(0)
    browser.clock._now = 900 * MS  # as on a real clock, whose timers ring late
    browser.refetcher.notified(600 * MS)
    assert browser.sent[0].due_at == 500 * MS
    assert browser.sent[0].started_at == 900 * MS
    browser.run()
    assert [refetch.due_at // MS for refetch in browser.sent] == [500, 1100]


@pytest.mark.parametrize(("leave", "outcome"), [("close", "cancelled"), ("stop", "running")])
def test_when_the_page_or_the_run_ends_what_was_sent_has_an_outcome_and_what_waits_is_forgotten(leave: str, outcome: str) -> None:
    browser = Browser(Immediate(), "single_flight", (300,)).notified(0, 50).run(100)
    getattr(browser.refetcher, leave)()
    browser.run()
    (refetch,) = browser.done
    assert (refetch.outcome, refetch.finished_at, refetch.version, refetch.status) == (outcome, -1, None, None)
    assert len(browser.aborted) == 1


def test_a_closed_page_hears_nothing() -> None:
    browser = Browser(Debounce(0.5)).notified(0).run(100)
    browser.refetcher.close()
    browser.notified(200).run()
    assert browser.sent == []


def test_closing_forgets_what_jitter_holds_back() -> None:
    browser = Browser(Debounce(0.1, jitter=10.0), rng=random.Random(1)).notified(0).run(150)
    browser.refetcher.close()
    browser.run()
    assert browser.sent == browser.done == []


def test_a_full_payload_is_never_refetched() -> None:
    assert Browser(FullPayload()).notified(0, 1, 2).run().sent == []


def test_demand_refetches_at_once_and_leaves_what_is_pending_to_the_policy() -> None:
    browser = Browser(Debounce(0.5)).notified(0).run(100)
    browser.refetcher.demand(browser.clock.now())
    browser.run()
    assert [(refetch.started_at // MS, refetch.answered) for refetch in browser.sent] == [(100, 0), (500, 1)]


def test_an_answer_may_come_within_send() -> None:
    clock, done = EventList(), list[Refetch]()

    def send(refetch: Refetch) -> None:
        refetcher.finished(refetch, clock.now(), 1, 200, 0)

    refetcher = Refetcher(Immediate(), "single_flight", clock, send, done.append)
    refetcher.notified(0)
    assert [refetch.outcome for refetch in done] == ["applied"]
    assert refetcher.in_flight == 0


# --- polling -----------------------------------------------------------------------------------------------------------


def test_polling_overlaps_what_still_runs() -> None:
    browser = Browser(Polling(1.0), latencies=(1500,)).run(4000)
    assert browser.started() == [1000, 2000, 3000, 4000]
    assert browser.refetcher.in_flight == 2


def test_polling_cancels_what_still_runs() -> None:
    browser = Browser(Polling(1.0, mode="cancel"), latencies=(1500,)).run(4000)
    assert browser.outcomes() == ["superseded", "superseded", "superseded", ""]


def test_polling_rests_after_the_answer() -> None:
    browser = Browser(Polling(1.0, mode="rest"), latencies=(1500,)).run(6500)
    assert browser.started() == [1000, 3500, 6000]


def test_polling_begins_somewhere_in_its_interval() -> None:
    starts = {Browser(Polling(1.0), rng=random.Random(seed)).run(1000).started()[0] for seed in range(20)}
    assert len(starts) > 10
    assert all(0 <= start < 1000 for start in starts)


def test_polling_does_not_listen() -> None:
    assert Browser(Polling(1.0)).notified(100).run(500).sent == []


# --- for anything ------------------------------------------------------------------------------------------------------

policies = st.sampled_from(
    [
        Immediate(),
        Debounce(0.02),
        Debounce(0.02, leading=True),
        Debounce(0.02, leading=True, max_wait=0.05),
        Debounce(0.01, jitter=0.02),
        Throttle(0.03),
        Window(0.02),
    ]
)


@given(
    policies,
    st.sampled_from(["cancel", "overlap", "single_flight"]),
    st.lists(st.integers(0, 300), max_size=30).map(sorted),
    st.lists(st.integers(0, 80), min_size=1, max_size=5),
    st.integers(0, 500),
)
def test_every_refetch_has_one_outcome_and_every_notification_is_answered_once(
    policy: Policy, rule: InFlight, at: list[int], latencies: list[int], closing: int
) -> None:
    browser = Browser(policy, rule, tuple(latencies), rng=random.Random(5)).notified(*at)
    browser.run(closing)
    browser.refetcher.close()
    browser.run()
    assert sorted(map(id, browser.sent)) == sorted(map(id, browser.done))
    assert all(refetch.outcome and refetch.answered for refetch in browser.done)
    assert sum(refetch.answered for refetch in browser.done) <= len([instant for instant in at if instant <= closing])
    if rule != "overlap":
        spans = sorted((refetch.started_at, refetch.finished_at) for refetch in browser.done if refetch.outcome == "applied")
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


@given(policies, st.lists(st.integers(0, 300), max_size=30).map(sorted))
def test_a_run_to_the_end_answers_every_notification(policy: Policy, at: list[int]) -> None:
    """Trailing edges leave nothing behind."""
    browser = Browser(policy, rng=random.Random(5)).notified(*at).run()
    assert sum(refetch.answered for refetch in browser.done) == len(at)
    assert bool(browser.done) == bool(at)


def test_not_modified_is_an_answer_and_a_redirect_is_none() -> None:
    browser = Browser(Immediate(), versions=(1,), statuses=(304, 305)).notified(0, 100).run()
    assert [refetch.outcome for refetch in browser.done] == ["applied", "failed"]


def test_a_304_of_an_application_without_versions_is_not_newer() -> None:
    browser = Browser(Immediate(), versions=(None,), statuses=(200, 304)).notified(0, 100).run()
    assert [refetch.outcome for refetch in browser.done] == ["applied", "not_newer"]


def test_what_was_never_answered_has_no_bytes() -> None:
    browser = Browser(Immediate(), "cancel", (300,)).notified(0, 50).run()
    assert [refetch.bytes for refetch in browser.sent] == [0, 100]


class Alarm:
    """A clock that can only do what every `Scheduler` can."""

    def __init__(self, clock: EventList) -> None:
        self.now, self.call_at = clock.now, clock.call_at


arrivals = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 2)), max_size=12).map(sorted)


@given(policies, st.lists(arrivals, max_size=6), st.sampled_from([0, 25 * MS]))
def test_what_is_only_noted_while_a_page_waits_for_silence_changes_nothing(
    policy: Policy, deliveries: list[list[tuple[int, int]]], step: int
) -> None:
    """Three pages in virtual time, told in series, and on a clock where each is called for each arrival."""

    def play(noted: bool) -> list[list[tuple[int, int, int]]]:
        clock = EventList()
        sent: list[list[Refetch]] = [[], [], []]
        pages = [
            Refetcher(policy, "overlap", clock if noted else Alarm(clock), sending.append, print, random.Random(5), step, 7 * MS)
            for sending in sent
        ]
        for delivery in deliveries:
            whens = [at * MS for at, _ in delivery]
            if noted:
                clock.tell_each(whens, [SimpleNamespace(listener=pages[page]) for _, page in delivery], None)
            else:
                for when, (_, page) in zip(whens, delivery, strict=True):
                    clock.call_at(when, pages[page].notified, when)
        clock.run()
        return [[(one.due_at, one.started_at, one.answered) for one in sending] for sending in sent]

    assert play(noted=True) == play(noted=False)
