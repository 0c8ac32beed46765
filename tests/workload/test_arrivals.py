"""Arrival processes: what holds for all of them, and what each is for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.clock import SECOND, ns
from sim.distributions import Constant as Always
from sim.distributions import Empirical, Exponential, Gamma, Lognormal, Pareto, Uniform, Weibull
from sim.errors import BadInput
from sim.scenario import Scenario, build
from sim.workload import (
    Bursty,
    Deployments,
    Diurnal,
    FlashCrowd,
    Heard,
    Instants,
    Logs,
    Mmpp,
    Poisson,
    Provisioning,
    Regular,
    Superposition,
    Workload,
    streams,
)
from tests.workload.kinds import illegal_moves, of_resource, workloads


def draw(workload: Any, duration: float = 60.0, servers: int = 6, sites: int = 4, seed: int = 1) -> Any:
    return workload.updates(streams(seed)["workload"], duration, servers, sites)


@settings(max_examples=300, deadline=None)
@given(workloads, st.floats(0.0, 20.0), st.integers(3, 6), st.integers(1, 4), st.integers(0, 2**32))
def test_every_workload_is_sorted_within_time_and_fleet_and_makes_only_legal_changes(
    workload: Workload, duration: float, servers: int, sites: int, seed: int
) -> None:
    updates = draw(workload, duration, servers, sites, seed)
    assert np.all(np.diff(updates.at) >= 0)
    assert np.all((updates.at >= 0) & (updates.at <= ns(duration)))
    for resource, limit in (("server", servers), ("site", sites), ("task", servers)):
        ids = of_resource(updates, resource).resource_id
        assert np.all((ids >= 1) & (ids <= limit))
    assert not illegal_moves(updates)


numbers = st.sampled_from([0.0, 5e-324, 1e-300, 1e-6, 0.5, 1.0, 1e6, 1e12, 1e154, 1.7e308])
durations = st.one_of(
    *(st.tuples(st.just(kind), numbers) for kind in (Always, Exponential)),
    st.tuples(st.just(Uniform), st.just(0.0), numbers),
    *(st.tuples(st.just(kind), numbers, numbers | st.just(1 + 1e-9)) for kind in (Lognormal, Gamma, Weibull, Pareto)),
    st.tuples(st.just(Empirical), st.tuples(numbers, numbers)),
)
extremes = st.one_of(
    st.tuples(st.sampled_from([Poisson, Regular]), numbers),
    st.tuples(st.just(Bursty), numbers, st.just("server"), st.just(0.5), numbers, durations, durations),
    st.tuples(st.just(Mmpp), numbers, st.just("total"), st.just(0.0), st.tuples(numbers, numbers), st.tuples(numbers, numbers)),
    st.tuples(st.just(Diurnal), numbers, st.just("total"), st.just(0.0), st.just(1.0), numbers, numbers),
    st.tuples(st.just(FlashCrowd), numbers, st.just("total"), st.just(0.0), *[numbers] * 5),
    st.tuples(st.just(Heard), numbers, st.just("total"), st.just(0.5), durations, durations, st.just((1, 3))),
)


def made(parts: Any) -> Any:
    """The value of (kind, arguments ...), whose arguments may be such tuples."""
    if isinstance(parts, tuple) and parts and isinstance(parts[0], type):
        return parts[0](*map(made, parts[1:]))
    return parts


@pytest.mark.filterwarnings("error")
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extremes, numbers, st.integers(0, 9))
def test_numbers_of_any_size_are_drawn_from_or_refused(parts: Any, duration: float, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sim.workload.arrivals.MOST", 10_000)
        try:
            workload = made(parts)
        except ValueError:
            return  # refused where the scenario is read
        duration = min(duration, 1e9)
        try:
            updates = draw(workload, duration, seed=seed)
        except BadInput:
            return
    assert np.all(np.diff(updates.at) >= 0)
    assert np.all((updates.at >= 0) & (updates.at <= ns(duration)))


@settings(max_examples=100, deadline=None)
@given(workloads, st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_updates_bit_for_bit(workload: Workload, seed: int) -> None:
    one, two = draw(workload, seed=seed), draw(workload, seed=seed)
    for column in ("at", "resource", "resource_id", "change"):
        assert getattr(one, column).tobytes() == getattr(two, column).tobytes()


@pytest.mark.parametrize(
    "workload",
    [
        Poisson(3.0),
        Poisson(0.5, per="server"),
        Poisson(3.0, site_share=0.5),
        Regular(2.5),
        Bursty(10.0, off_rate=1.0, on=Exponential(1.0), off=Exponential(3.0)),
        Bursty(4.0, per="server", on=Exponential(0.5), off=Exponential(1.0)),
        Mmpp(2.0, rates=(0.5, 5.0, 1.0), dwell=(3.0, 0.5, 1.0)),
        Mmpp(per="server", rates=(0.1, 2.0), dwell=(2.0, 1.0)),
        Diurnal(5.0, swing=1.0, period=100.0, peak=20.0),
        Diurnal(5.0, swing=0.5, period=40.0, peak=0.0),
        FlashCrowd(1.0, factor=10.0, start=10.0, ramp=4.0, hold=5.0, decay=6.0),
        FlashCrowd(1.0, factor=10.0, start=10.0, ramp=0.0, hold=5.0, decay=0.0),
        FlashCrowd(1.0, factor=10.0, start=58.0, ramp=4.0, hold=5.0, decay=3.0),
        Logs(2.0, servers=3, batch=4),
        Logs(2.0, servers=99),
        Instants((1.0, 2.0, 70.0)),
        Superposition((Poisson(1.0), Logs(2.0))),
    ],
    ids=repr,
)
def test_as_many_updates_as_expected(workload: Any) -> None:
    counts = np.array([len(draw(workload, seed=seed)) for seed in range(300)])
    error = counts.std(ddof=1) / np.sqrt(len(counts))
    expected = workload.expected(60.0, 6, 4)
    # Constant intervals may end on the window's edge; anything else must lie within four standard errors (seeds are fixed).
    assert abs(counts.mean() - expected) <= 4 * error + (1 if isinstance(workload, Regular) else 1e-9)


def test_poisson_gaps_are_exponential() -> None:
    at = draw(Poisson(5.0), duration=4000.0).at / SECOND
    gaps = np.diff(at)
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)


def test_poisson_hits_every_server_alike() -> None:
    counts = np.bincount(draw(Poisson(50.0), duration=1000.0).resource_id, minlength=7)[1:]
    assert np.all(np.abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean()))


def test_constant_goes_round_the_servers_at_equal_intervals() -> None:
    updates = draw(Regular(2.5), duration=4.0, servers=3)
    assert updates.at.tolist() == [k * 400_000_000 for k in range(1, 10)]
    assert updates.resource_id.tolist() == [1, 2, 3, 1, 2, 3, 1, 2, 3]


def test_a_rate_per_server_is_each_server_s_own() -> None:
    assert len(draw(Regular(2.0, per="server"), duration=10.0, servers=5)) == 99
    assert draw(Regular(2.0, per="server"), duration=10.0, servers=5).at[0] == SECOND // 10


def test_the_share_of_sites_is_kept() -> None:
    updates = draw(Poisson(100.0, site_share=0.25), duration=200.0)
    assert (updates.resource == 1).mean() == pytest.approx(0.25, abs=0.015)


def test_bursts_are_silent_in_between_and_dispersed() -> None:
    updates = draw(Bursty(50.0, on=Always(1.0), off=Always(9.0)), duration=100.0)
    per_second = np.bincount(updates.at // SECOND, minlength=100)
    assert (per_second > 0).sum() <= 20
    assert per_second.max() > 20


def test_more_bursty_at_the_same_mean_means_more_dispersion() -> None:
    def dispersion(workload: Any) -> float:
        counts = np.bincount(draw(workload, duration=2000.0).at // SECOND, minlength=2000)
        return float(counts.var() / counts.mean())

    assert dispersion(Poisson(2.0)) == pytest.approx(1.0, abs=0.15)
    assert dispersion(Mmpp(rates=(0.5, 15.5), dwell=(9.0, 1.0))) > 5


def test_a_day_has_its_peak_and_its_night() -> None:
    hours = np.bincount((draw(Diurnal(1.0, swing=1.0), duration=86400.0).at // (3600 * SECOND)).astype(int), minlength=24)
    assert 11 <= hours.argmax() <= 12
    assert hours[[0, 23]].max() < hours[12] / 20


def test_a_crowd_comes_holds_and_goes() -> None:
    crowd = FlashCrowd(1.0, factor=100.0, start=10.0, ramp=2.0, hold=5.0, decay=4.0)
    assert crowd.excess(np.array([9.9, 11.0, 12.0, 17.0, 21.0])) == pytest.approx([0, 0.5, 1, 1, np.exp(-1)])
    seconds = np.bincount(draw(crowd).at // SECOND, minlength=60)
    assert seconds[:10].max() < 10
    assert seconds[13:16].min() > 60


def test_log_lines_that_are_read_together_arrive_together() -> None:
    updates = draw(Logs(20.0, servers=2, batch=5), duration=50.0)
    assert set(updates.resource_id.tolist()) == {1, 2}
    _, together = np.unique(updates.at, return_counts=True)
    assert set(together.tolist()) == {5}


def test_instants_are_taken_as_given() -> None:
    assert draw(Instants((0.25, 3.0, 61.0), server=2)).at.tolist() == [250_000_000, 3 * SECOND]
    with pytest.raises(BadInput, match="server 9 is not in the fleet of 6"):
        draw(Instants((1.0,), server=9))


def test_a_part_draws_its_own_numbers_whatever_else_is_in_the_mixture() -> None:
    alone = draw(Superposition((Poisson(1.0),)))
    both = draw(Superposition((Poisson(1.0), Logs(9.0))))
    assert np.isin(alone.at, both.at).all()


def test_parts_of_a_mixture_do_not_share_steps() -> None:
    updates = draw(Superposition((Provisioning(steps=3, step_time=Always(1.0)), Provisioning(steps=2, step_time=Always(2.0)))))
    assert sorted(set(updates.step.tolist())) == [1, 2, 3, 4, 5]


def test_a_mixture_of_parts_that_change_sites_stays_legal() -> None:
    updates = draw(Superposition((Deployments(per_minute=60, deploying=Always(1.0)), Poisson(5.0, site_share=1.0))))
    assert (updates.resource == 1).all()
    assert not illegal_moves(updates)


def test_nothing_happens_where_nothing_is_wanted() -> None:
    for workload in (Poisson(0.0), Regular(0.0), Logs(0.0), Instants(()), Superposition(()), Poisson(0.0, per="server")):
        assert len(draw(workload)) == 0
        assert len(draw(workload, servers=0, sites=0)) == 0
    assert len(draw(Poisson(5.0), duration=0.0)) == 0


@pytest.mark.parametrize(
    ("workload", "servers", "sites", "complaint"),
    [
        (Poisson(1.0), 0, 3, "no servers to update"),
        (Poisson(1.0, site_share=0.5), 3, 0, "site_share is 0.5 but no sites"),
        (Deployments(), 3, 0, "no sites to work on"),
        (Provisioning(steps=1), 0, 3, "no servers to work on"),
        (Provisioning(steps=1, step_time=Always(0.0)), 3, 3, "0 s would repeat without end"),
    ],
    ids=repr,
)
def test_a_fleet_without_what_is_changed_is_bad_input(workload: Any, servers: int, sites: int, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        draw(workload, servers=servers, sites=sites)


@pytest.mark.parametrize(
    "workload",
    [
        Poisson(1e12),
        Poisson(1e300),
        Regular(1e9, per="server"),
        Bursty(1e9),
        Bursty(1.0, on=Exponential(1e-9), off=Exponential(1e-9)),
        Mmpp(rates=(1e9, 0.0)),
        Mmpp(dwell=(1e-9, 1e-9)),
        Diurnal(1e9),
        FlashCrowd(1.0, factor=1e12, start=100.0),
        Logs(1e9, batch=1000),
        Superposition((Poisson(1e9),)),
        Provisioning(steps=10, step_time=Always(1e-9)),
        Deployments(per_minute=1e12, deploying=Always(1e-9)),
    ],
    ids=repr,
)
def test_more_updates_than_memory_holds_are_refused_before_they_are_drawn(workload: Any) -> None:
    with pytest.raises(BadInput, match=r"at most 100,000,000 are possible \(lower rate or duration\)"):
        draw(workload)


@pytest.mark.parametrize(
    ("tree", "complaint"),
    [
        ({"kind": "poisson", "rate": -1}, r"workload\.rate must be >= 0 updates/s, got -1"),
        ({"kind": "poisson", "per": "site"}, r"workload\.per must be one of"),
        ({"kind": "poisson", "site_share": 2}, r"workload\.site_share must be a share"),
        ({"kind": "bursty", "off_rate": -1}, r"workload\.off_rate must be >= 0"),
        ({"kind": "bursty", "on": 0, "off": 0}, r"workload\.on and off must not both be 0 s"),
        ({"kind": "mmpp", "rates": [1]}, r"workload\.rates and dwell must have one number per state"),
        ({"kind": "mmpp", "dwell": [1, 0]}, r"workload\.dwell must be > 0 s"),
        ({"kind": "diurnal", "swing": 1.5}, r"workload\.swing must be between 0 and 1"),
        ({"kind": "diurnal", "period": 0}, r"workload\.period must be > 0 s"),
        ({"kind": "flash_crowd", "factor": 0.5}, r"workload\.factor must be >= 1"),
        ({"kind": "flash_crowd", "decay": -1}, r"workload\.decay must be >= 0 s"),
        ({"kind": "logs", "batch": 0}, r"workload\.batch must be between 1 and"),
        ({"kind": "logs", "per": "server"}, r"do not apply to logs"),
        ({"kind": "instants", "at": [-1]}, r"workload\.at must be seconds >= 0"),
        ({"kind": "replay", "speed": 0}, r"workload\.speed must be > 0, got 0"),
        ({"kind": "replay", "parallel": 0}, r"workload\.parallel must be >= 1"),
        ({"kind": "replay", "stagger": -1}, r"workload\.stagger must be >= 0 s"),
        ({"kind": "provisioning", "failure": 1.1}, r"workload\.failure must be a probability"),
        ({"kind": "provisioning", "steps": 0}, r"workload\.steps must be >= 1"),
        ({"kind": "provisioning", "per_minute": -3}, r"workload\.per_minute must be >= 0 runs a minute"),
        ({"kind": "provisioning", "runs": -1}, r"workload\.runs must be >= 0"),
        ({"kind": "deployments", "deploying": -4}, r"workload\.deploying\.value must be a finite number >= 0 s, got -4"),
        ({"kind": "possion"}, r"workload\.kind: no such kind 'possion' - did you mean 'poisson'\?"),
        ({"kind": "mixture", "parts": [{"kind": "poisson", "rte": 1}]}, r"unknown key 'workload\.parts\[0\]\.rte'.*'rate'"),
    ],
    ids=repr,
)
def test_an_impossible_value_is_one_line_that_names_the_key(tree: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as caught:
        build(Scenario, {"workload": tree}, where="mine.toml")
    assert "\n" not in str(caught.value)
