"""The fleet engine by itself: hand-checked herds, laws, edges, pieces, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import sim
import sim.virtual.theory as theory
from sim import cli
from sim.clock import SECOND
from sim.distributions import Constant, Exponential, Lognormal
from sim.errors import BadInput
from sim.incidents import Restart
from sim.policy import Debounce, FullPayload, Immediate, Polling, RateLimit, Throttle, Window
from sim.results.run import Run
from sim.results.summary import summarise
from sim.scenario import Api, Broadcast, Broadcaster, Fleet, Network, Pages, Scenario
from sim.virtual import draws, engines, fleet
from sim.virtual.fleet import compiled, engine, refetching, schedule
from sim.virtual.fleet.tally import Outcomes
from sim.workload import Poisson, Updates

STILL = Network(to_broadcaster=Constant(0.0), to_subscriber=Constant(0.0), to_api=Constant(0.0))


def updates_at(*seconds: float) -> Updates:
    return Updates.of(np.array(seconds) * SECOND, 0, 1, 4)


def herd(pages: int, workers: int = 1, **changes) -> Scenario:
    """One herd of equal requests of 0.1 s, half a second after each update; nothing else takes time."""
    scenario = Scenario(
        duration=10,
        drain=20,
        fleet=Fleet(users=1, servers_per_user=1),
        pages=(Pages("dashboard", pages),),
        policy=Debounce(wait=0.5),
        network=STILL,
        broadcaster=Broadcaster(fixed=0.0, per_subscriber=0.0),
        api=Api(workers=workers, service=Constant(0.1)),
    )
    return scenario.replace(changes)


# --- by hand -----------------------------------------------------------------------------------------------------------


def test_a_herd_is_answered_by_rank():
    result = fleet.run(herd(5, workers=2), updates=updates_at(1.0))
    # Due at 1.5; two at a time: answered after 0.1, 0.1, 0.2, 0.2, 0.3 s.
    assert result.time_to_fresh.mean == pytest.approx(0.5 + (0.1 + 0.1 + 0.2 + 0.2 + 0.3) / 5)
    assert result.time_to_fresh.max == pytest.approx(0.8)
    assert (result.refetches, result.notifications, result.never_fresh) == (5, 5, 0)
    assert result.wait_max == pytest.approx(0.2)
    assert result.utilisation == pytest.approx(0.5 / (2 * 10))
    assert result.load[15] == 5
    assert result.load.sum() == 5


def test_an_update_during_a_herd_is_in_the_answers_that_were_begun_after_it():
    result = fleet.run(herd(5), updates=updates_at(1.0, 1.75))
    # The second update comes when the requests begun at 1.5, 1.6, 1.7 have read already; those begun at 1.8 and 1.9 contain it.
    # The next herd is due at 2.25, and the three first of it are answered at 2.35, 2.45, 2.55.
    first = sum(0.5 + 0.1 * k for k in range(1, 6))
    second = (1.9 - 1.75) + (2.0 - 1.75) + (2.35 - 1.75) + (2.45 - 1.75) + (2.55 - 1.75)
    assert result.time_to_fresh.mean == pytest.approx((first + second) / 10)
    assert result.refetches == 10


def test_the_reading_of_a_commit_that_is_at_the_very_instant_contains_it():
    result = fleet.run(herd(2), updates=updates_at(1.0, 1.6))
    # The second request begins at 1.6, when the second update is there.
    fresh = [0.6, 0.7, 0.1, 2.2 - 1.6]
    assert result.time_to_fresh.mean == pytest.approx(sum(fresh) / 4)


def test_a_page_gives_up_and_the_next_herd_tells_it():
    result = fleet.run(herd(3, **{"api.timeout": 0.25}), updates=updates_at(1.0, 5.0))
    # The third answer would take 0.3 s; its page hears of both updates never, as the next one takes as long.
    assert result.never_fresh == 2
    assert result.time_to_fresh.count == 4
    assert result.summary()["time_to_fresh.mean"]["value"] is None
    assert result.summary()["starved_ratio"]["value"] == pytest.approx(2 / 6)


def test_a_new_refetch_aborts_the_running_one():
    result = fleet.run(herd(8, in_flight="cancel"), updates=updates_at(1.0, 1.6))
    # Due at 1.5 (answers until 2.3) and at 2.1: the seventh and eighth answer of the first herd come too late.
    assert result.outcomes.superseded == 2
    # The queue is not rid of the aborted work: the second herd is answered from 2.4 to 3.1.
    assert result.time_to_fresh.max == pytest.approx(3.1 - 1.0)


def test_what_would_start_after_the_end_aborts_nothing():
    scenario = herd(2, in_flight="cancel", duration=2.0, drain=0.0, **{"broadcaster.per_subscriber": 0.05, "api.service": 0.3})
    result = fleet.run(scenario.replace({"policy.wait": 0.2}), updates=updates_at(1.7, 1.9))
    # Due at 1.95 and 2.0, then (of the second update) at 2.15: after the end.
    assert result.outcomes == Outcomes(running=2)


def test_who_has_given_up_is_not_aborted():
    result = fleet.run(herd(8, in_flight="cancel", **{"api.timeout": 0.55}), updates=updates_at(1.0, 1.6))
    # The first herd gives up at 2.05, before the second starts at 2.1.
    assert result.outcomes.superseded == 0
    # Answered by then: five pages, of which all but the first have read both updates. The second herd begins at 2.3, when the
    # abandoned work is done, and gives up at 2.65: the first three pages are answered, for the first one it is the second update.
    assert result.time_to_fresh.count == 5 + 5
    assert result.never_fresh == 6


def test_full_payloads_are_fresh_when_they_arrive():
    full = {"broadcast.payload": "full", "broadcaster.per_byte": 0.0, "broadcaster.per_subscriber": 0.01}
    scenario = herd(4, policy={"kind": "full_payload"}, **full)
    result = fleet.run(scenario, updates=updates_at(1.0, 2.0))
    assert result.refetches == 0
    assert result.time_to_fresh == result.time_to_notified
    assert result.time_to_fresh.mean == pytest.approx(0.025)


def test_the_end_of_the_run_is_the_end():
    result = fleet.run(herd(5, duration=1.2, drain=0.55), updates=updates_at(1.0))
    assert result.never_fresh == 3  # answered at 1.6 and 1.7, then it is over at 1.75
    assert result.refetches == 5


# --- laws --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delays", [(0.0, 0.0, 0.0), (0.05, 0.11, 0.07)], ids=["still", "delayed"])
def test_the_no_overlap_theorem(delays):
    """While a herd drains within the wait, its pages are fresh by rank: response, and what each reads late."""
    rate, wait, pages, workers, service = 0.5, 1.0, 150, 16, 0.06
    out, down, way = delays
    scenario = Scenario(
        duration=40_000,
        drain=60,
        workload=Poisson(rate),
        fleet=Fleet(users=1, servers_per_user=1),
        pages=(Pages("dashboard", pages),),
        policy=Debounce(wait=wait),
        network=Network(to_broadcaster=Constant(out), to_subscriber=Constant(down), to_api=Constant(way)),
        broadcaster=Broadcaster(fixed=0.0, per_subscriber=0.0),
        api=Api(workers=workers, service=Constant(service)),
    )
    result = fleet.run(scenario)
    exact = theory.herd_fresh_mean(rate, wait, pages, workers, service, before=out + down + way, after=way)
    mean = result.summary()["time_to_fresh.mean"]
    half = (mean["ci_high"] - mean["ci_low"]) / 2
    assert half < 0.02 * mean["value"]
    assert abs(mean["value"] - exact) < 2 * half
    # As if all read at the fire, it would be refused.
    assert theory.trailing_delay_mean(rate, wait) + sum(delays) + way + 5 * service > mean["value"] + 2 * half
    assert result.refetches / pages / 40_000 == pytest.approx(theory.debounce.trailing_refetch_rate(rate, wait), rel=0.03)


def test_without_a_queue_it_is_the_closed_form():
    """One page, an answer that takes next to no time: time to fresh is the delay of the policy."""
    for policy, mean in [
        (Debounce(wait=0.5), theory.trailing_delay_mean(2.0, 0.5)),
        (Window(wait=0.5), theory.policies.window_delay_mean(2.0, 0.5)),
        (RateLimit(wait=0.5), theory.policies.limiter_delay_mean(2.0, 0.5)),
        (Debounce(wait=0.5, max_wait=1.5, timing="lodash"), theory.max_wait.lodash_max_wait(2.0, 0.5, 1.5).delay_mean),
        (Polling(interval=1.0), theory.policies.grid_delay_mean(1.0)),
    ]:
        changes = {"duration": 6_000.0, "workload": {"kind": "poisson", "rate": 2.0}, "api.service": 1e-6}
        result = fleet.run(replace(herd(1).replace(changes), policy=policy))
        error = result.all_fresh.sums.std() / math.sqrt(result.updates / 4)  # neighbours share a refetch
        assert abs(result.time_to_fresh.mean - mean) < 5 * error, policy


def test_littles_law():
    """The number of updates not yet on a screen, on time average, is their rate times the mean time to fresh."""
    result = fleet.run(herd(10, workload={"kind": "poisson", "rate": 3.0}, duration=400.0))
    stale = result.all_fresh.sums.sum() / 10 / 400
    assert stale == pytest.approx(result.updates / 400 * result.time_to_fresh.mean, rel=1e-9)


def test_a_notification_at_the_instant_of_the_timer_belongs_to_the_next_refetch():
    """Updates at a constant rate of one per wait: each is answered by its own refetch, and none answers nothing."""
    scenario = herd(3, duration=10.0, drain=5.0, cooldown=0.0, **{"broadcaster.fixed": 0.0001})
    result, tables, _ = fleet.sample(
        scenario.replace({"workload": {"kind": "instants", "at": list(np.arange(1, 19) / 2)}}), probes=3
    )
    # Each reads after the next commit, so the last one finds nothing new.
    assert result.outcomes == Outcomes(applied=17 * 3, not_newer=3)
    assert (tables.refetches["answered"] == 1).all()
    assert len(tables.refetches) == len(tables.notifications) == 18 * 3


# --- it does not matter how it is computed ---------------------------------------------------------------------------------


VARIANTS = {
    "constant service": {},
    "random service": {"api.service": {"kind": "lognormal", "scale": 0.004, "sigma": 1.0}, "api.workers": 3},
    "jitter": {"policy.jitter": 0.3, "api.service": {"kind": "exponential", "scale": 0.002}, "api.workers": 2},
    "two groups": {"pages": [{"page": "dashboard", "subscribers": 37}, {"page": "detail", "subscribers": 31}]},
    "overload": {"api.service": 0.02},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("numba", [True, False], ids=["numba", "numpy"])
def test_pieces_of_any_size_give_the_same(changes, numba, monkeypatch):
    scenario = Scenario(
        duration=60,
        drain=30,
        workload=Poisson(2.0),
        fleet=Fleet(users=2, servers_per_user=2),
        pages=(Pages("dashboard", 60),),
        policy=Debounce(wait=0.4),
        api=Api(workers=1, service=Constant(0.005)),
        broadcaster=Broadcaster(per_subscriber=0.0011),
    ).replace(changes)
    whole = fleet.run(scenario)
    monkeypatch.setattr(compiled, "ENABLED", numba and compiled.INSTALLED)
    for piece, small in [(1, 10), (100, 10), (1000, 4096)]:
        monkeypatch.setattr(schedule, "PIECE", piece)
        monkeypatch.setattr(schedule, "SMALL", small)
        monkeypatch.setattr(refetching, "MOVES", small)
        monkeypatch.setattr(draws, "PART", 7)
        again = fleet.run(scenario)
        assert again.time_to_fresh == whole.time_to_fresh
        np.testing.assert_array_equal(again.load, whole.load)
        assert again.summary() == whole.summary()


def test_the_same_seed_gives_the_same_and_another_another():
    scenario = Scenario(duration=30, workload=Poisson(2.0), pages=(Pages("dashboard", 20),))
    assert fleet.run(scenario).summary() == fleet.run(scenario).summary()
    assert fleet.run(scenario).summary() != fleet.run(scenario.replace({"seed": 2})).summary()


def test_policies_meet_the_same_updates():
    """Common random numbers: what a policy does leaves the workload as it is."""
    scenario = Scenario(duration=30, workload=Poisson(2.0), pages=(Pages("dashboard", 20),))
    results = [fleet.run(scenario.replace({"policy": {"kind": kind}})) for kind in ("immediate", "window", "debounce")]
    assert len({result.updates for result in results}) == 1
    assert results[0].time_to_notified == results[1].time_to_notified == results[2].time_to_notified


# --- edges -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"duration": 0.0},
        {"duration": 0.0, "drain": 0.0},
        {"workload.rate": 0.0},
        {"pages": [{"page": "dashboard", "subscribers": 0}]},
        {"pages": []},
        {"broadcast.channels": "specific"},
        {"api.service": 0.0},
        {"policy": {"kind": "polling", "interval": 100.0}},
    ],
)
def test_empty_runs_have_empty_results(changes):
    result = fleet.run(herd(3).replace(changes))
    summary = result.summary()
    assert summary["updates"]["value"] == result.updates
    assert all(row["value"] is None or math.isfinite(row["value"]) for row in summary.values())


def test_warm_up_is_not_counted():
    scenario = herd(4, duration=10.0, warmup=5.0)
    result = fleet.run(scenario, updates=updates_at(1.0, 6.0, 9.0))
    assert (result.updates, result.notifications, result.refetches) == (2, 8, 8)
    assert result.load.size == 100
    assert result.load[15] == 4  # due at 6.5, that is 1.5 s into the window


def test_an_impossible_fleet_is_refused_in_one_line():
    with pytest.raises(BadInput, match="fleet has none"):
        fleet.run(Scenario(fleet=Fleet(sites_per_user=0), pages=(Pages("site", 3),)))


def test_a_run_that_does_not_fit_is_refused_with_the_figure(monkeypatch):
    monkeypatch.setattr("sim.virtual.preparation.available_memory", lambda: 10**9)
    with pytest.raises(BadInput, match=r"4,000,000 pages and .* need about 1\.2 GB, 1\.0 GB are free"):
        fleet.run(herd(4_000_000), updates=updates_at(1.0))


def test_the_command_takes_either_engine(capsys):
    assert cli.main(["simulate", "steady", "--set", "duration=5", "--engine", "fleet"]) == 0
    printed = capsys.readouterr().out
    assert "figures of all pages" in printed
    assert cli.main(["simulate", "steady", "--set", "duration=5"]) == 0
    assert "figures of all pages" not in capsys.readouterr().out
    assert cli.main(["simulate", "steady", "--set", "in_flight=single_flight", "--engine", "fleet"]) == 2
    assert "single_flight" in capsys.readouterr().err


UNSUPPORTED = {
    "incidents": Scenario(incidents=(Restart(at=1.0),)),
    "dispatch": Scenario(broadcast=Broadcast(dispatch="queued")),
    "debounce": Scenario(broadcast=Broadcast(debounce=0.1)),
    "to_subscriber": Scenario(network=Network(to_subscriber=Exponential(0.01))),
    "queue_limit": Scenario(api=Api(queue_limit=5)),
    "rate_limit": Scenario(api=Api(rate_limit=5)),
    "cache": Scenario(api=Api(cache=1.0)),
    "retries": Scenario(api=Api(retries=1, timeout=1.0)),
    "session": Scenario(pages=(Pages(session=Constant(5.0)),)),
    "hidden": Scenario(pages=(Pages(hidden=0.5),)),
    "behaviour": Scenario(pages=(Pages(behaviour="stop_reading"),)),
    "single_flight": Scenario(in_flight="single_flight"),
    "rest": Scenario(policy=Polling(mode="rest")),
    "cancel": Scenario(policy=Debounce(jitter=0.1), in_flight="cancel"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_feeds_back_is_named_and_left_to_the_reference_engine(name):
    scenario = UNSUPPORTED[name]
    assert any(name in reason for reason in fleet.supports(scenario))
    with pytest.raises(BadInput, match="use the reference engine"):
        fleet.run(scenario)
    assert engines.choose(scenario) == "reference"


def test_the_default_scenario_and_every_policy_are_supported():
    for policy in (Immediate(), Debounce(), Throttle(), Window(), RateLimit(), Polling(), FullPayload(), Debounce(jitter=0.4)):
        assert fleet.supports(Scenario(policy=policy)) == []


def test_the_engine_is_chosen_by_size():
    assert engines.choose(Scenario()) == "reference"
    assert engines.choose(Scenario(duration=600, workload=Poisson(10.0), pages=(Pages("dashboard", 1000),))) == "fleet"


# --- what is written -----------------------------------------------------------------------------------------------------


def test_a_bundle_has_the_rows_of_some_and_the_figures_of_all(tmp_path, monkeypatch):
    scenario = Scenario(
        name="many",
        fleet=Fleet(users=1),
        duration=20,
        workload=Poisson(2.0),
        pages=(Pages("dashboard", 500),),
        api=Api(workers=4, service=Lognormal(0.002, 0.5)),
    )
    monkeypatch.setattr(fleet, "PROBES", 25)
    run = sim.simulate(scenario, output=tmp_path / "run", engine="fleet")
    read = Run(tmp_path / "run")
    read.verify()
    result = fleet.run(scenario)
    assert run.manifest.sampling == {"method": "subscribers", "share": 0.05, "subscribers": 25, "of": 500}
    assert read.manifest.extra["engine"] == "fleet"
    exact = result.summary()
    assert {name: read.summary[name] for name in exact} == exact
    every = sim.simulate(scenario, output=tmp_path / "all").summary
    missing = {name for name in every if name.split(".")[0] not in ("application", "pages", "broadcaster")} - set(read.summary)
    assert not missing
    for name in ("stale_ratio", "age_of_information.mean", "refetches.applied", "bytes_per_update"):
        assert read.summary[name]["value"] == pytest.approx(every[name]["value"], rel=0.02), name
    assert read.subscriptions["subscriber"].nunique() == 25
    assert len(read.notifications) == 25 * len(read.updates), "those of the cool-down too"
    loads = read.metrics[read.metrics["metric"] == "refetches_started"]
    assert loads["value"].sum() == result.load.sum()


def test_probes_are_unbiased():
    """Over many draws of the probes the mean of their means is the mean of all, within its own error."""
    scenario = Scenario(
        duration=30,
        workload=Poisson(1.0),
        pages=(Pages("dashboard", 60),),
        api=Api(service=Constant(0.01)),
        broadcaster=Broadcaster(per_subscriber=0.003),
    )
    exact = fleet.run(scenario).time_to_notified.mean
    means = []
    run = fleet.FleetRun(scenario)
    rng = np.random.default_rng(1)
    for _ in range(200):
        probes = engine.Probes(scenario, run.database, run.plan, 6, rng, run.window.end)
        rows = probes.tables().notifications.merge(probes.tables().updates[["update", "intended_at"]], on="update")
        means.append((rows["received_at"] - rows["intended_at"]).mean())
    assert abs(np.mean(means) - exact) < 4 * np.std(means) / math.sqrt(len(means))


def test_what_is_not_done_by_the_end_does_not_make_workers_busy():
    result = fleet.run(herd(400), updates=updates_at(1.0))
    # 40 s of work from 1.5 s on, seen in a window of 10 s; the requests that arrive in it wait longer than it lasts.
    assert result.utilisation == pytest.approx(8.5 / 10)
    assert result.wait_max == pytest.approx(39.9)
    assert result.outcomes == Outcomes(applied=285, running=115)


def test_intervals_are_those_of_the_rows_and_only_where_there_are_enough_updates():
    few = fleet.run(herd(3), updates=updates_at(1.0, 2.0)).summary()["time_to_fresh.mean"]
    assert few["ci_low"] is None
    scenario = herd(3, workload={"kind": "poisson", "rate": 2.0}, duration=1500.0)
    result, tables, _ = fleet.sample(scenario, probes=3)
    mine, rows = result.summary(), summarise(tables)
    compared = 0
    for name, row in rows.items():
        if name in mine and row["ci_low"] is not None:
            # Counted in bins, and refetches of the drain are left out of the spread.
            near = pytest.approx([row["ci_low"], row["ci_high"] or 0.0], rel=0.02)
            assert [mine[name]["ci_low"], mine[name]["ci_high"] or 0.0] == near, name
            compared += 1
    assert {"time_to_fresh.p50", "time_to_fresh.p95", "time_to_fresh.mean", "refetches_per_update"} <= set(mine)
    assert compared > 8
