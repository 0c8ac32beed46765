"""Estimators on numbers made by hand; on runs: `test_fit.py`."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim.distributions import Constant, Empirical
from sim.prediction.estimates import (
    MIN_ANSWERS,
    MIN_EVENTS,
    NEAR,
    STRATA,
    WORK,
    distribution,
    estimate,
    memory,
    processor,
    rest,
    separable,
    windows_of,
    workers_at_most,
)
from sim.prediction.samples import BREADTH, RunSample
from sim.results.ledger import costs
from sim.scenario import Broadcaster, Network, Scenario
from tests.prediction.test_samples import sample


def test_a_distribution_is_its_values_or_the_means_of_equal_parts_of_them() -> None:
    assert distribution(np.full(5, 0.25)) == Constant(0.25)
    assert distribution(np.array([3.0, 1.0])) == Empirical((1.0, 3.0))
    many = np.random.default_rng(1).permutation(10 * STRATA) / 1000
    found = distribution(many)
    assert isinstance(found, Empirical)
    assert found.values[:2] == (0.0045, 0.0145)
    assert len(found.values) == STRATA == 100
    assert found.mean() == pytest.approx(many.mean())


def test_fan_outs_differ_in_size_where_two_groups_of_ten_events_do() -> None:
    few, many = np.full(MIN_EVENTS, 100.0), np.full(MIN_EVENTS, 150.0)
    assert separable(np.r_[many, few])
    assert not separable(np.r_[many, few[1:]])
    assert not separable(np.r_[many - 1, few])
    assert not separable(np.r_[many[1:], few, few]), "of the larger ones there are nine"
    assert not separable(few[:3])


def test_a_rest_tells_something_only_where_rests_differ() -> None:
    since, took = np.full(30, 2.0), np.linspace(0.001, 0.002, 30)
    assert rest(since, took) == 0.0
    assert rest(np.linspace(1.0, 2.0, 30), took) == pytest.approx(1.0, abs=0.05)
    two = np.where(np.arange(30) < 15, 1.0, 1.5)
    assert rest(two, 0.001 * two) == pytest.approx(1.0), "by as much as is asked for"
    assert rest(np.linspace(1.0, 2.0, 30), took[::-1]) == 0.0, "no rest makes it quicker"
    since = np.linspace(1.0, 2.0, 30)
    assert rest(since, 0.001 * since**40) == 1.0, "no rest adds more than itself"
    nine = np.where(np.arange(30) < MIN_EVENTS - 1, np.linspace(1.0, 4.0, 30), np.nan)
    assert rest(nine, took) == 0.0


def test_how_many_jobs_are_worked_on_at_once_is_what_gets_done_over_what_one_takes_alone() -> None:
    n = 2 * MIN_ANSWERS
    waits = np.arange(n) < MIN_ANSWERS
    own = np.where(waits, 0.04, 0.01)

    def bound(alone: int = MIN_ANSWERS, waited: int = MIN_ANSWERS) -> float | None:
        kept = np.r_[np.arange(waited), n - 1 - np.arange(alone)]
        columns = {"own": own, "board": np.zeros(n, bool), "waited": waits, "alone": ~waits}
        return workers_at_most([sample(answers=n, **{name: column[kept] for name, column in columns.items()})])

    assert bound() == pytest.approx(1.0), "four at once, each four times as long"
    assert bound(alone=MIN_ANSWERS - 1) is None
    assert bound(waited=MIN_ANSWERS - 1) is None
    own[:] = 0.0
    assert bound() is None, "what takes no time tells nothing"


EACH, COMPOSE, FIXED, WAY, BACK = 1e-5, 2e-5, 4e-4, 5e-3, 1e-3


def fan_outs(
    alone: int = 40, busy: int = 10, floor: float | None = None, near: float | None = None, **broadcaster: Any
) -> RunSample:
    """Events to 100 and to 200 receivers by the model, of which *busy* found the broadcaster so. *near*: what the first `NEAR`,
    which came soon after others, waited besides (s)."""
    number = np.arange(alone + busy)
    receivers = np.where(number % 2 == 0, 100.0, 200.0)
    ranks, first_rank = receivers - 1 - number % 3, (number % 3).astype(float)
    idle = number < alone
    taken = FIXED + receivers * COMPOSE + EACH * first_rank
    soon = (number < NEAR) & (near is not None)
    events = {
        "first": WAY + taken + BACK + np.where(soon, near or 0.0, 0.0),
        "spread": ranks * EACH,
        "ranks": ranks,
        "first_rank": first_rank,
        "receivers": receivers,
        "gap": np.where(idle, np.nan, taken),
        "answered": np.full(len(number), np.nan),
        "alone": idle,
        "quiet": np.where(soon, 0.02, 1.0 + number),
    }
    scenario = Scenario(network=Network(to_subscriber=Constant(BACK)), broadcaster=Broadcaster(**broadcaster))
    sizes = dict.fromkeys(("page", "dashboard", "not_modified"), np.zeros(0))
    seen: Any = SimpleNamespace(scenario=scenario, floor=floor)
    return replace(sample(), observed=seen, events=events, sizes=sizes)


def test_costs_and_ways_of_a_fan_out_are_found_again_exactly() -> None:
    found = estimate([fan_outs()])
    assert found.slope_known
    way = found.values.pop("network.to_broadcaster")
    assert way.mean() == pytest.approx(WAY)
    assert found.values == pytest.approx(
        {
            "broadcaster.per_subscriber": EACH,
            "broadcaster.compose_per_subscriber": COMPOSE,
            "broadcaster.fixed": FIXED,
        }
    )
    assert found.n == dict.fromkeys(found.n, 40) | {"broadcaster.fixed": 10}
    floor = estimate([fan_outs(floor=2 * BACK)]).values
    assert (floor["network.to_subscriber"], floor["network.to_broadcaster"].mean()) == (2 * BACK, pytest.approx(WAY - BACK))
    thrice = estimate([fan_outs(keep_alive=False)]).values
    assert thrice["network.to_broadcaster"].mean() == pytest.approx(WAY / 3, rel=1e-3), "each publish has a connection of its own"


@pytest.mark.parametrize(("ranks", "known"), [(BREADTH - 1, True), (BREADTH - 2, False)])
def test_what_a_frame_takes_is_told_by_events_to_enough_receivers(ranks: int, known: bool) -> None:
    made = fan_outs()
    made.events.update(ranks=np.full(50, float(ranks)), spread=np.full(50, ranks * EACH))
    assert ("broadcaster.per_subscriber" in estimate([made]).values) is known


@pytest.mark.parametrize(
    ("boards", "base", "per_row"),
    [
        ([(1, 580), (4, 820)], 500, 80),
        ([(1, 100), (4, 1000)], 0, 220),  # Neither part can be less than nothing: then all of it is the other.
        ([(1, 800), (4, 500)], 650, 0),
        ([(4, 820)], 700, None),  # Of one length: a row is what the scenario says, and of that nothing has been learnt.
    ],
)
def test_a_dashboard_is_its_rows_and_what_it_has_without_any(
    boards: list[tuple[int, int]], base: int, per_row: int | None
) -> None:
    samples = []
    for rows, size in boards:
        made = fan_outs()
        given = made.observed.scenario.replace({"fleet.servers_per_user": rows, "api.answer_bytes_per_row": 30})
        seen: Any = SimpleNamespace(scenario=given, floor=None)
        samples.append(replace(made, observed=seen, sizes=made.sizes | {"dashboard": np.full(MIN_ANSWERS, float(size))}))
    found = estimate(samples).values
    assert (found["api.dashboard_bytes"], found.get("api.answer_bytes_per_row")) == (base, per_row)


def test_without_enough_events_of_a_kind_nothing_is_said_of_it() -> None:
    assert estimate([fan_outs(alone=MIN_EVENTS - 1)]).values == {}
    assert "broadcaster.fixed" not in estimate([fan_outs(busy=MIN_EVENTS - 1)]).values
    few = estimate([fan_outs(alone=2 * MIN_EVENTS - 2)])
    assert not few.slope_known, "nine of a size are too few for a slope"
    assert "broadcaster.compose_per_subscriber" not in few.values


@pytest.mark.parametrize(("near", "waits"), [(0.007, False), (0.008, True)])
def test_events_soon_after_another_waited_where_they_took_a_quarter_of_an_acknowledgement_longer(
    near: float, waits: bool
) -> None:
    assert estimate([fan_outs(near=near)]).values["broadcaster.nagle"] is waits
    assert "broadcaster.nagle" not in estimate([fan_outs()]).values
    made = fan_outs()
    made.events["quiet"][:] = 0.02
    assert "broadcaster.nagle" not in estimate([made]).values, "there is no other event to compare with"


def test_a_resample_with_few_events_has_a_value_of_its_own() -> None:
    whole, few = fan_outs(alone=MIN_EVENTS), fan_outs(alone=2, busy=2)
    few.events["spread"] *= 2
    few.events["gap"] += FIXED
    found = estimate([few], estimate([whole])).values
    assert found["broadcaster.per_subscriber"] == pytest.approx(2 * EACH)
    assert found["broadcaster.fixed"] != estimate([whole]).values["broadcaster.fixed"]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_what_waiting_events_took_is_composing_and_fixed_in_any_proportion_where_no_slope_tells(share: float) -> None:
    made = fan_outs()
    made.events["receivers"][:], made.events["gap"][40:] = 100.0, 0.002 + made.events["first_rank"][40:] * EACH
    found = estimate([made], estimate([made]), share).values
    assert 100 * found["broadcaster.compose_per_subscriber"] == pytest.approx(share * 0.002)
    assert found["broadcaster.fixed"] == pytest.approx((1 - share) * 0.002)


def test_memory_is_in_the_middle_of_where_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "level", lambda ledger, *_: ledger)

    def lies(noise: float) -> dict[str, tuple[float, float, float]]:
        held = {100: 9 * noise, 200: -9 * noise, 400: 5 * noise, 300: -5 * noise}
        runs: list[Any] = [
            SimpleNamespace(subscribers=size, scenario=Scenario(), ledger=3e7 + 3000 * size + more) for size, more in held.items()
        ]
        return memory(runs)

    for value, low, high in lies(1e3).values():
        assert high - value == pytest.approx(value - low)
        assert low < value
    assert lies(2e5) == {}, "what a page takes is lost in what runs differ by"


@pytest.mark.parametrize(("samples", "known"), [(MIN_EVENTS, True), (MIN_EVENTS - 1, False)])
def test_a_process_has_costs_where_enough_samples_say_so(monkeypatch: pytest.MonkeyPatch, samples: int, known: bool) -> None:
    columns = [*{name for work in WORK.values() for name in work}, "used"]
    monkeypatch.setattr(costs, "spent", lambda ledger, process: pd.DataFrame(np.ones((ledger, len(columns))), columns=columns))
    seen: Any = SimpleNamespace(ledger=samples)
    assert list(windows_of([seen])) == (list(WORK) if known else [])


def test_a_sample_in_which_much_was_done_does_not_drown_what_the_others_say() -> None:
    deliveries = np.where(np.arange(60) < 50, 10.0, np.arange(60) * 100.0)
    used = (0.002 + 0.00001 * deliveries) * np.where(np.arange(60) == 59, 1.5, 1.0)
    assert processor(np.column_stack([np.ones(60), deliveries, used]))[0] == pytest.approx(0.002, rel=0.01)
