"""Fitting finds again what simulated runs were made with, says what it cannot find, and refuses what would mislead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim
from sim.cli import main
from sim.distributions import Constant, Lognormal
from sim.errors import BadInput
from sim.prediction import Fit, Parameter, estimates, read
from sim.prediction.estimates import Estimates, answer_of, line, processor, rest, rested, slope
from sim.prediction.fit import _parameter, _ranges, _unidentified, fit, fitted, point, unit_of
from sim.prediction.observations import Observed, observe
from sim.prediction.parameters import REST
from sim.prediction.samples import own_times, sample_of
from sim.results.answers import report
from sim.results.run import Run
from sim.results.summary import summarise
from sim.scenario import Api, Broadcaster, Fleet, Network, Pages, Scenario
from sim.virtual import reference
from sim.workload import Poisson
from tests.experiments.bundles import bundle
from tests.results.frames import frame

SCENARIO = Scenario(
    name="target",
    duration=40.0,
    drain=3.0,
    fleet=Fleet(users=4, servers_per_user=5),
    workload=Poisson(rate=3.0),
    pages=(Pages(page="detail", subscribers=40), Pages(page="dashboard", subscribers=60)),
    network=Network(to_broadcaster=Lognormal(0.004, 0.4), to_subscriber=Constant(0.0), to_api=Constant(0.0002)),
    broadcaster=Broadcaster(fixed=0.0001, compose_per_subscriber=0.00002, per_subscriber=0.00003),
    api=Api(
        workers=2,
        service=Lognormal(0.003, 0.3),
        save=Lognormal(0.004, 0.3),
        service_per_row=0.0002,
        answer_bytes=2400,
        dashboard_bytes=500,
        answer_bytes_per_row=80,
        not_modified_bytes=143,
    ),
)

Array = np.ndarray[Any, Any]
Made = Callable[..., Run]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Makes a run of the scenario with changes, which passes for a measured one; each once."""
    known: dict[str, Run] = {}

    def make(subscribers: int = 100, **changes: object) -> Run:
        name = json.dumps([subscribers, changes])
        if name not in known:
            scenario = SCENARIO.with_subscribers(subscribers).replace(changes)
            known[name] = bundle(tmp_path_factory.mktemp("fit") / f"run-{subscribers}", scenario, "measured")
        return known[name]

    return make


@pytest.fixture(scope="module")
def both(made: Made) -> Fit:
    """Two sizes, in one of which events come so fast that some wait."""
    runs = [made(100), made(400, **{"workload.rate": 12.0, "duration": 20.0, "policy.wait": 3600.0, "drain": 0.0})]
    return fit([Observed(run) for run in runs], draws=40)


def by_key(found: Fit) -> dict[str, Parameter]:
    return {parameter.key: parameter for parameter in found.parameters if parameter.identified}


def test_two_sizes_tell_all_costs_of_the_broadcaster(both: Fit) -> None:
    found = by_key(both)
    assert found["broadcaster.per_subscriber"].value == pytest.approx(0.00003, rel=0.02)
    assert found["broadcaster.compose_per_subscriber"].value == pytest.approx(0.00002, rel=0.15)
    assert found["network.to_broadcaster"].mean == pytest.approx(0.0041, rel=0.15)


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("api.service", "s"),
        ("network.to_subscriber", "s"),
        ("cpu.application.per_second", "s"),
        ("api.answer_bytes", "bytes"),
        ("memory.broadcaster.per_process", "bytes"),
        ("api.workers", ""),
        ("api.save_lock", ""),
        ("broadcaster.answer", ""),
        (f"{REST}api.save", ""),
    ],
)
def test_the_unit_of_each_parameter(key: str, unit: str) -> None:
    assert unit_of(key) == unit


def test_when_a_publish_is_answered() -> None:
    spread = np.linspace(0.01, 0.02, 40)
    assert answer_of(spread, np.full(40, 0.0005)) == "before"
    assert answer_of(spread, spread + 0.0004) == "after"
    # A slow answer that does not grow with the fan-out was given before it; of one size nobody can tell.
    assert answer_of(spread, np.full(40, 0.05)) == "before"
    assert answer_of(np.full(40, 0.01), np.full(40, 0.05)) is None
    assert answer_of(np.full(40, 0.01), np.full(40, 0.012)) == "after"


def test_the_application_is_read_off_its_queue(made: Made) -> None:
    found = by_key(fit([Observed(made(100))], draws=10))
    assert found["api.service"].mean == pytest.approx(0.003, rel=0.05)
    assert found["api.service_per_row"].value == pytest.approx(0.0002, rel=0.2)
    assert found["api.save"].mean == pytest.approx(0.004, rel=0.1)
    assert found["api.workers"].value == 2


def test_an_interval_holds_its_value(made: Made) -> None:
    """A run of one size does not tell how what comes first is divided, and the value is at one end of what is possible."""
    found = by_key(fit([Observed(made(100))], draws=10))
    for key, parameter in found.items():
        mean = parameter.mean
        assert parameter.low is None or parameter.high is None or mean is None or parameter.low <= mean <= parameter.high, key
    drawn = [{"api.save": 1.0}, {"api.save": 2.0}]
    assert _parameter("api.save", 0.5, drawn, {}, [Observed(made(100))]).low == 0.5
    assert _parameter("api.save", 2.5, drawn, {}, [Observed(made(100))]).high == 2.5


@pytest.mark.parametrize("workers", ["shared", "own"])
def test_changes_that_do_not_wait_for_refetches_have_workers_of_their_own(made: Made, workers: str) -> None:
    lock = {"api.save_lock": "database"} if workers == "own" else {}
    run = Run(made(200, **{"api.save_workers": workers} | lock).directory)
    run.scenario = run.scenario.replace({"api.save_workers": "shared"})  # It claims nothing: the rows tell.
    found = by_key(fit([Observed(run)], draws=10))
    assert found["api.save"].mean == pytest.approx(0.004, rel=0.1)
    assert found["api.workers"].value == 2
    assert {key: found[key].value for key in ("api.save_workers", "api.save_lock") if key in found} == (
        {"api.save_workers": "own", "api.save_lock": "database"} if workers == "own" else {}
    )


@pytest.mark.parametrize("workers", ["shared", "own"])
def test_pages_that_come_and_go_hide_neither_own_times_nor_whose_workers_changes_have(made: Made, workers: str) -> None:
    """Some leave while their refetch waits, and first loads and authorisations, of which only the end is known, stand between."""
    lives = {"page": "detail", "subscribers": 200, "session": {"kind": "exponential", "scale": 5.0}}
    changes = {"api.workers": 1, "api.save_workers": workers, "fleet.users": 1, "fleet.servers_per_user": 1}
    run = Run(made(200, pages=[lives], **changes).directory)
    run.scenario = run.scenario.replace({"api.save_workers": "shared"})
    assert (run.refetches["outcome"] == "cancelled").sum() > 50
    assert Observed(run).subscribers == pytest.approx(200, rel=0.05), "of which each is replaced when it leaves"
    found = by_key(fit([Observed(run)], draws=10))
    assert found["api.service"].mean == pytest.approx(0.003, rel=0.03)
    assert found["api.save"].mean == pytest.approx(0.004, rel=0.1)
    assert ("api.save_workers" in found) == (workers == "own")


@pytest.mark.parametrize(
    "changes",
    [
        {"api.timeout": 0.05},
        {"in_flight": "cancel", "policy.wait": 0.1},
        {"in_flight": "single_flight", "policy.wait": 0.1},
        {"api.rate_limit": 30},
        {"api.queue_limit": 5},
        {"api.retries": 2, "api.timeout": 5.0},
        {"api.cache": 1.0},
        {"api.retries": 2, "api.timeout": 0.08},
        {"api.retries": 2, "api.rate_limit": 30},
    ],
    ids=lambda changes: " ".join(f"{key}={value}" for key, value in changes.items()),
)
def test_requests_without_an_answer_do_not_change_the_service_time_and_what_hides_the_queue_leaves_it_open(
    made: Made, changes: dict[str, Any]
) -> None:
    """Those that were given up are worked on all the same; a cache answers without a worker; a row is of all attempts."""
    given = {"api.workers": 1, "api.service_per_row": 0.0, "duration": 10.0} | changes
    own = sample_of(Observed(made(150, **given))).service["own"]
    if "api.cache" in changes or ("api.retries" in changes and changes.get("api.timeout") != 5.0):
        assert not len(own)
    else:
        assert own.mean() == pytest.approx(0.003, rel=0.07)


def test_where_no_change_met_a_herd_nothing_is_said_of_workers(made: Made) -> None:
    found = by_key(fit([Observed(made(100, **{"policy.wait": 3600.0, "drain": 0.0}))], draws=10))
    assert "api.save" in found
    assert "api.save_workers" not in found


def test_a_fit_to_one_policy_predicts_the_other_at_the_sockets() -> None:
    """Both sample runs are of the embedded application, which gives a change no worker where its save takes no time."""
    run = report.run("start-here-window")
    scenario = run.scenario.replace(point(report.run("start-here"), "broadcaster.", "network.", "api."))
    summary = summarise(reference.run(scenario, updates=report.updates_of(run)), scenario)
    for metric in ("time_to_fresh.mean", "time_to_fresh.p95", "refetches_per_update"):
        assert summary[metric]["value"] == pytest.approx(run.summary[metric]["value"], rel=0.05)


@pytest.mark.parametrize(
    ("claimed", "changes"),
    [
        (3, {"api.save": 0.0, "api.service_per_row": 0.0}),
        (3, {}),
        (6, {"pages": [{"page": "dashboard", "subscribers": 200}]}),
    ],
)
def test_a_scenario_that_claims_more_workers_than_work_is_corrected(made: Made, claimed: int, changes: dict[str, object]) -> None:
    run = Run(made(200, **changes).directory)
    assert estimates.workers_at_most([sample_of(Observed(run))]) == pytest.approx(2.0, rel=0.1)
    run.scenario = run.scenario.replace({"api.workers": claimed})
    found = by_key(fit([Observed(run)], draws=10))
    assert found["api.workers"].value == 2
    assert f"has {claimed}" in found["api.workers"].made_from
    assert found["api.service"].mean == pytest.approx(0.003, rel=0.05)


def departures(arrived: Array, service: float, cold: float) -> Array:
    """When jobs leave that share one processor evenly; what comes to an idle one takes *cold* more (s)."""
    left, order = np.full(len(arrived), np.nan), np.argsort(arrived, kind="stable").tolist()
    work: dict[int, float] = {}
    now = 0.0
    while order or work:
        job = min(work, key=work.__getitem__, default=-1)
        ends = now + work[job] * len(work) if work else np.inf
        comes = float(arrived[order[0]]) if order else np.inf
        at = min(ends, comes)
        work = {one: rest - (at - now) / len(work) for one, rest in work.items()}
        now = at
        if ends <= comes:
            left[job] = now
            del work[job]
        else:
            work[order.pop(0)] = service + (0.0 if work else cold)
    return left


@pytest.mark.parametrize("cold", [0.0, 0.003])
def test_requests_that_share_a_processor_are_not_taken_for_workers(made: Made, cold: float) -> None:
    # As of an application on threads of one interpreter: four at once take four times as long each.
    run = Run(made(200, **{"api.save": 0.0, "api.service_per_row": 0.0, "api.workers": 1}).directory)
    way = run.scenario.network.to_api.mean()
    rows = run.refetches[run.refetches["started_at"].notna()]
    vars(run)["refetches"] = rows.assign(
        finished_at=departures(rows["started_at"].to_numpy(float) + way, 0.003, cold) + way, status=200, answered=rows["answered"]
    )
    bound = estimates.workers_at_most([sample_of(Observed(run))])
    assert bound is not None
    assert bound > 1.5, "those that find it idle are overtaken, or cold: their time is not what one takes by itself"
    found = by_key(fit([Observed(run)], draws=10))
    assert found["api.workers"].value == 1
    assert found["api.service"].mean == pytest.approx(0.003, rel=0.1)


def test_the_sample_run_is_fitted_with_its_one_worker() -> None:
    found = fit(observe([report.run("start-here")]), draws=10)
    assert by_key(found)["api.workers"].value == 1
    off = {row.metric: abs(row.off) for row in found.residuals}
    assert off["time_to_fresh.p95"] < 0.05
    assert off["refetch_time.p99"] < 0.1


def with_memory(observed: list[Observed], *held: float) -> list[Observed]:
    for one, value in zip(observed, held, strict=True):
        rows = frame("metrics", [{"at": 1.0, "process": "broadcaster", "metric": "rss_bytes", "value": value}])
        vars(one.run)["metrics"] = rows
    return observed


def test_memory_is_of_the_process_and_of_each_page_where_sizes_tell_it(made: Made, tmp_path: Path) -> None:
    sizes = (100, 200, 400, 300)

    def runs() -> list[Observed]:
        return [Observed(Run(made(size).directory)) for size in sizes]

    found = estimates.memory(
        with_memory(runs(), *(30e6 + 3000 * size + noise for size, noise in zip(sizes, (9e3, -9e3, 5e3, -5e3), strict=True)))
    )
    process, page = found.values()
    assert process[1] < 30e6 < process[2]
    assert page[1] < 3000 < page[2] < 4000
    assert estimates.memory(with_memory(runs(), 30e6, 40e6, 31e6, 45e6)) == {}, "what a page takes is lost in what runs differ by"
    assert estimates.memory(with_memory(runs()[:2], 30e6, 31e6)) == {}, "two runs have no spread"


def test_sizes_of_answers_by_page_and_of_those_that_nothing_has_changed(made: Made) -> None:
    found = point(made(100), "api.")
    assert found["api.answer_bytes"] == 2400
    # Of dashboards of one length only the whole is known: what the scenario says of a row stands.
    assert "api.answer_bytes_per_row" not in found
    assert found["api.dashboard_bytes"] == 500
    assert found["api.not_modified_bytes"] == 143
    scenario = made(100).scenario.replace(found)
    again = summarise(sim.simulate(scenario), scenario)
    assert again["bytes_per_update"]["value"] == pytest.approx(made(100).summary["bytes_per_update"]["value"], rel=0.02)
    assert again["refetches_per_update"]["value"] == pytest.approx(made(100).summary["refetches_per_update"]["value"], rel=0.05)


def test_intervals_hold_the_truth_and_residuals_are_small(both: Fit) -> None:
    for key, truth in (("broadcaster.compose_per_subscriber", 0.00002), ("api.save", 0.0041), ("api.service", 0.003)):
        parameter = by_key(both)[key]
        assert parameter.low is not None
        assert parameter.high is not None
        assert parameter.low * 0.95 <= truth <= parameter.high * 1.05, parameter
    off = {(row.run, row.metric): row.off for row in both.residuals}
    assert max(abs(value) for (_, metric), value in off.items() if metric.endswith("p50")) < 0.1, off


@pytest.mark.parametrize(
    ("key", "floor", "made_from", "n"),
    [
        ("api.service", None, "arrivals and departures of the queue", 3),
        ("cpu.application.per_second", None, "samples of its processor time", 7),
        ("cpu.application.per_second", 0.001, "samples of its processor time (on loopback: the receivers' share is in it)", 7),
    ],
)
def test_a_parameter_says_what_it_was_made_from(key: str, floor: float | None, made_from: str, n: int) -> None:
    seen: Any = SimpleNamespace(floor=floor)
    made = _parameter(key, 2.0, [{key: 1.0}, {key: 3.0}, {}], {"api.service": 3, "cpu.application": 7}, [seen])
    assert (made.made_from, made.n, made.value) == (made_from, n, 2.0)
    assert (made.low, made.high) == pytest.approx((1.05, 2.95))


def test_the_ranges_of_what_was_measured() -> None:
    runs: list[Any] = [
        SimpleNamespace(subscribers=size, ledger=SimpleNamespace(counted=range(30)), seconds=seconds, events=events, summary={})
        for size, seconds, events in ((100, 10.0, {"receivers": np.array([40, 60])}), (200, 0.0, {"receivers": np.zeros(0)}))
    ]
    runs[1].summary["refetch_rate.peak"] = {"value": 7.0}
    assert _ranges(runs) == {
        "subscribers": (100.0, 200.0),
        "rate": (0.0, 3.0),
        "receivers": (40, 60),
        "refetch_rate": (0.0, 7.0),
    }


def test_what_is_not_known_stands_with_the_run_that_would_tell_it() -> None:
    def needs(sampled: bool = False, via: str = "routes") -> dict[str, str]:
        ledger, scenario = SimpleNamespace(sampled=sampled), SCENARIO.replace({"publisher.via": via})
        one: Any = SimpleNamespace(subscribers=100, ledger=ledger, scenario=scenario)
        return {found.key: found.needs for found in _unidentified(set(), Estimates({}, {}, False), [], [one])}

    assert "400 subscribers" in needs()[estimates.COMPOSE]
    assert needs()["api.service"] == f"a run with {estimates.MIN_ANSWERS} refetches"
    assert "load.probes off" in needs(sampled=True)["api.service"]
    assert needs()["api.save"] == f"a run with {estimates.MIN_ANSWERS} changes"
    assert "publisher.via = 'routes'" in needs(via="none")["api.save"]


def test_one_size_does_not_tell_a_cost_per_subscriber_from_a_delay(made: Made) -> None:
    found = fit([Observed(made(100))], draws=40)
    lacking = {parameter.key: parameter for parameter in found.parameters if not parameter.identified}
    compose = lacking["broadcaster.compose_per_subscriber"]
    assert compose.value is None
    assert "400 subscribers" in compose.needs
    assert compose.low is not None
    assert compose.high is not None
    assert compose.low < 0.00002 < compose.high
    # The draws go over all that is possible, and each of them explains the run.
    draws = [(row["broadcaster.compose_per_subscriber"], row["network.to_broadcaster"]) for row in found.draws]
    assert np.corrcoef([share for share, _ in draws], [Parameter("x", way).mean or 0 for _, way in draws])[0, 1] < -0.8


def test_channels_of_different_sizes_in_one_run_tell_it(made: Made) -> None:
    pages = [
        {"page": "detail", "subscribers": 40},
        {"page": "dashboard", "subscribers": 60},
        {"page": "site", "subscribers": 200},
    ]
    run = made(300, pages=pages, **{"workload.site_share": 0.5, "policy.wait": 3600.0, "drain": 0.0, "workload.rate": 4.0})
    found = point(run, "broadcaster.")
    assert found["broadcaster.compose_per_subscriber"] == pytest.approx(0.00002, rel=0.35)


def test_events_that_wait_tell_the_fixed_cost(made: Made) -> None:
    run = made(
        300,
        **{
            "broadcaster.fixed": 0.004,
            "workload.rate": 40.0,
            "duration": 10.0,
            "policy.wait": 3600.0,
            "drain": 0.0,
            "network.to_broadcaster": 0.0005,
            "broadcaster.compose_per_subscriber": 0.0,
            "api.save": 0.0,
        },
    )
    assert point(run, "broadcaster.")["broadcaster.fixed"] == pytest.approx(0.004, rel=0.1)


def test_a_fitted_scenario_keeps_what_was_not_asked_for(made: Made) -> None:
    scenario = fitted(made(100), "broadcaster.")
    assert scenario.policy == SCENARIO.policy
    assert scenario.api == SCENARIO.with_subscribers(100).api
    with pytest.raises(BadInput, match="too few"):
        fitted(made(100, workload={"kind": "poisson", "rate": 0.0}), "broadcaster.")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.lists(st.tuples(st.floats(0, 0.05), st.floats(0, 0.1)), min_size=1, max_size=60))
def test_own_times_are_exact_for_any_number_of_workers(workers: int, jobs: list[tuple[float, float]]) -> None:
    arrived = np.cumsum([gap for gap, _ in jobs])
    own = np.array([time for _, time in jobs])
    free, left, begun = [0.0] * workers, [], []
    for at, time in zip(arrived.tolist(), own.tolist(), strict=True):
        begin = max(at, min(free))
        free[free.index(min(free))] = begin + time
        begun.append(begin)
        left.append(begin + time)
    found = own_times(arrived, np.array(left), workers)
    assert found[:, 0] == pytest.approx(np.array(begun))
    assert found[:, 1] == pytest.approx(own, abs=1e-9)


@pytest.mark.parametrize(("workers", "known"), [(1, [1, 0, 0, 1, 1]), (2, [1, 0, 0, 0, 1])])
def test_what_waits_behind_a_job_of_unknown_end_is_unknown(workers: int, known: list[int]) -> None:
    """As many jobs as there are workers; and none once the queue has run empty."""
    found = own_times(np.array([0.0, 0.1, 0.2, 0.3, 9.0]), np.array([1.0, np.nan, 3.0, 4.0, 9.5]), workers)
    assert np.isfinite(found[:, 1]).tolist() == known


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 0.3), st.integers(0, 1000))
def test_what_a_rest_adds_is_found_and_taken_off(exponent: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    since = np.r_[np.inf, rng.exponential(1.0, 400) + 0.01]
    took = 0.002 * np.where(np.isfinite(since), since, 1.0) ** exponent * rng.lognormal(0, 0.05, 401)
    found = rest(since, took)
    assert found == pytest.approx(exponent, abs=0.02)
    assert np.median(rested(since, took, found)) == pytest.approx(0.002, rel=0.03)
    assert rest(since, took[::-1] * 0 + 0.002) == pytest.approx(0.0, abs=1e-6)
    assert rest(since[:5], took[:5]) == 0.0


def test_a_target_that_no_rest_slows_has_no_power_of_it(both: Fit) -> None:
    assert not [key for key in by_key(both) if key.startswith(REST)]


def test_slopes_are_not_moved_by_outliers() -> None:
    ranks = np.arange(100.0, 200.0)
    spread = 0.001 * ranks
    spread[:20] += 5.0
    assert slope(ranks, spread) == pytest.approx(0.001)
    intercept, b = line(ranks, 2.0 + spread)
    assert (intercept, b) == (pytest.approx(2.0, abs=0.01), pytest.approx(0.001, rel=0.01))


def test_processor_time_is_divided_among_what_was_done() -> None:
    rng = np.random.default_rng(1)
    seconds, events = np.ones(60), rng.integers(0, 9, 60).astype(float)
    deliveries = events * np.where(np.arange(60) < 30, 100.0, 400.0)
    cpu = 0.002 * seconds + 0.0005 * events + 0.00001 * deliveries
    found = processor(np.column_stack([seconds, events, deliveries, cpu]))
    assert found == pytest.approx([0.002, 0.0005, 0.00001])
    # Where all that is spent on a delivery varies, windows with many deliveries do not drown what the others say.
    noisy = cpu + deliveries * 0.00001 * rng.normal(0, 0.2, 60)
    off = processor(np.column_stack([seconds, events, deliveries, noisy]))[0] / 0.002 - 1
    assert abs(off) < 0.25


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"partial": True}, "partial"),
        ({"validity": {"ok": False, "reasons": ["the publisher was late"]}}, "the publisher was late"),
        ({"source": "simulated"}, "simulated"),
        ({"files": {}}, r"updates\.parquet"),
    ],
)
def test_runs_that_would_mislead_are_refused_by_name(made: Made, tmp_path: Path, damage: dict[str, object], words: str) -> None:
    good = made(100)
    directory = tmp_path / "bad"
    directory.mkdir()
    for path in good.directory.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps(manifest | damage))
    with pytest.raises(BadInput, match=words) as raised:
        observe([good, Run(directory)])
    assert "bad" in str(raised.value)


def test_runs_of_different_targets_and_a_run_given_twice(made: Made) -> None:
    one = made(100)
    with pytest.raises(BadInput, match=r"broadcaster\.cost"):
        observe([one, made(100, **{"broadcaster.cost": 2.0})])
    with pytest.raises(BadInput, match=r"publisher\.via"):
        observe([one, made(100, publisher={"via": "broadcaster"})])
    with pytest.raises(BadInput, match="twice"):
        observe([one, one])


def test_an_edited_table_is_named(made: Made, tmp_path: Path) -> None:
    directory = tmp_path / "edited"
    directory.mkdir()
    for path in made(100).directory.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    table = directory / "refetches.parquet"
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    with pytest.raises(BadInput, match=r"refetches\.parquet: changed since the run"):
        observe([Run(directory)])


def test_the_command_prints_writes_and_refuses(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(made(100).directory), tmp_path / "target.fit.json"
    assert main(["fit", run, "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "not identified by the runs" in printed
    assert "add a run with 400 subscribers" in printed
    assert "residuals" in printed
    before = out.read_bytes()
    assert main(["fit", run, run, "-o", str(out)]) == 2
    assert "twice" in capsys.readouterr().err
    assert out.read_bytes() == before, "nothing is overwritten by what failed"
    assert read(out).runs[0]["subscribers"] == 100
