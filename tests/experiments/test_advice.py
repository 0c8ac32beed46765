"""What to set: found on the same updates, as far as it carries, and what helps where it breaks."""

from __future__ import annotations

import dataclasses
import math

import pandas as pd
import pytest

from sim.distributions import Constant
from sim.errors import BadInput
from sim.experiments import advice, advised, remedies
from sim.incidents import Restart
from sim.policy import Debounce, FullPayload, Polling, Window
from sim.prediction import Fit, Parameter
from sim.results.answers import report
from sim.results.answers.choices import describe, snippet
from sim.results.answers.sections import WIDTH, to_markdown, to_text
from sim.scenario import Api, Broadcast, Broadcaster, Fleet, Pages, Scenario, to_dict
from sim.virtual import fleet
from sim.virtual.sweep import COST, Objective
from sim.workload import Bursty, Instants, Poisson, Provisioning, Superposition

GOAL = Objective.parse("time_to_fresh.p95 < 0.6")
BUSY = Scenario(
    name="busy",
    duration=20.0,
    fleet=Fleet(users=4, servers_per_user=1, sites_per_user=0),
    workload=Poisson(rate=8.0),
    pages=(Pages("dashboard", 40),),
    api=Api(service=Constant(0.002)),
)
"""A debounce of half a second starves at eight updates a second."""


@pytest.fixture(scope="module")
def found() -> advice.Advice:
    return advice.advise(BUSY, GOAL, waits=(0.1, 0.25, 0.5, 1.0))


def test_the_cheapest_setting_that_keeps_the_objective(found: advice.Advice) -> None:
    assert found.now["met"] == "no"
    assert found.best is not None
    assert found.best["met"] == "yes"
    assert len(found.best["values"]) == advice.REPLICATIONS
    cheaper = found.tried[(found.tried[COST] < 0.95 * found.best[COST]) & ~found.tried["polling"]]
    assert len(cheaper)
    assert (cheaper["met"] != "yes").all()
    # A window is never staler than a debounce of the same load (theory, 1.4), so no plain debounce is recommended here.
    assert not (isinstance(found.recommended, Debounce) and found.recommended.max_wait is None)


def test_more_load_is_not_fresher_and_the_limit_lies_where_it_breaks(found: advice.Advice) -> None:
    best = found.headroom[found.headroom["policy"] == "best"]
    values = best[best["growth"] == "pages"]["value"].to_numpy()
    assert (values[1:] >= values[:-1]).all()
    there = advice.with_policy(BUSY, found.recommended)  # type: ignore[arg-type]
    times = found.limits["pages"].times
    assert 1 < times < 10
    for most, met in ((times, "yes"), (1.05 * times, "no")):
        assert GOAL.met([advice.trial(advice.grown(there, "pages", most), GOAL.metric)["value"]]) == met


def test_a_limit_below_what_is_there_and_beyond_what_is_tried() -> None:
    small = advice.with_policy(BUSY.replace({"duration": 6.0}), Window(wait=0.5))
    lower = advice.limit(small, Objective.parse("time_to_fresh.p95 < 0.53"))
    assert 0 < lower.times < 1
    assert lower.trail["times"].is_monotonic_increasing
    assert advice.limit(small, Objective.parse("time_to_fresh.p95 < 0.001")).times == 0
    assert advice.limit(small, Objective.parse("time_to_fresh.p95 < 9"), most=2).times == math.inf
    scripted = small.replace({"workload": {"kind": "provisioning", "parallel": 4}})
    assert advice.limit(scripted, Objective.parse("time_to_fresh.p95 < 9"), "updates", 10).times == 1


def test_remedies_are_ranked_where_it_breaks(found: advice.Advice) -> None:
    assert found.breaking is not None
    assert found.breaking["met"] != "yes"
    met = (found.remedies["met"] == "yes").tolist()
    assert met == sorted(met, reverse=True)
    rows = found.remedies.set_index("remedy")
    assert rows.loc["as it is", "value"] == pytest.approx(found.breaking["value"])
    assert rows.loc["twice the application workers", "value"] < rows.loc["as it is", "value"]
    assert rows[rows["met"] == "yes"][COST].is_monotonic_increasing


def test_the_page_says_it_all_in_text_and_markdown(found: advice.Advice) -> None:
    sections = advised.page(found, "Of a test.", ["one thing more."])
    text, markdown = to_text(sections), to_markdown(sections)
    assert text.startswith("Advice\n  Set ")
    assert "misses it" in sections[0].sentences[0]
    assert found.recommended is not None
    assert snippet(found.recommended, BUSY) in markdown
    assert markdown.startswith("### Advice\n\n**Set ")
    assert "- one thing more." in markdown
    for heading in ("What it costs and gains", "Head-room", "What breaks first", "What is not known"):
        assert heading in text
        assert f"#### {heading}" in markdown
    assert "nan" not in text
    assert len(text.splitlines()) < 100
    code = snippet(found.recommended, BUSY).splitlines()
    assert [line for line in text.splitlines() if len(line) > WIDTH and line.strip() not in code] == []
    costs = advised.costs(found)
    assert costs.columns.tolist() == ["now", "recommended", "no wait"]
    assert costs.loc["meets"].tolist()[:2] == ["no", "yes"]
    assert (f"take the first {found.searched:g} s of" in text) == (found.searched < BUSY.duration)


def test_costs_are_those_of_a_fit_or_of_the_measured_run_itself_or_the_scenario_s(monkeypatch: pytest.MonkeyPatch) -> None:
    assert advice.priced(BUSY).scenario == BUSY
    assert "really cost" in advice.priced(BUSY).unknown[0]
    missing = Parameter("api.save", identified=False, needs="a run at four times the rate")
    fit = Fit((missing, Parameter("api.workers", 3)), to_dict(BUSY), ranges={"subscribers": (5, 5)})
    found = advice.priced(BUSY, fit=fit, name="my.fit.json")
    assert (found.scenario.api.workers, len(found.draws)) == (3, advice.REPLICATIONS)
    assert "my.fit.json" in found.source
    assert found.unknown == (
        "api.save is not fitted, the scenario's value stands (a run at four times the rate).",
        "Costs were fitted at 5 subscribers; this has 40.",
    )
    run = report.sample("start-here")
    measured = advice.priced(run.scenario, run)
    assert measured.scenario.api.service != run.scenario.api.service
    assert "this run, fitted" in measured.source
    simulated = report.sample("start-here-simulated")
    assert advice.priced(simulated.scenario, simulated).scenario == simulated.scenario

    def refuse(runs: object) -> None:
        raise BadInput("start-here: no event was published")

    monkeypatch.setattr("sim.prediction.observations.observe", refuse)
    unfitted = advice.priced(run.scenario, run)
    assert unfitted.scenario == run.scenario
    assert unfitted.unknown == ("The run cannot be fitted, so its scenario's costs stand: start-here: no event was published",)


def test_what_a_notebook_draws(found: advice.Advice) -> None:
    front = advised.front(found)
    chosen = advised.chosen(found)
    assert chosen is not None
    assert chosen["choice"].policy == found.recommended
    assert not front.loc[chosen.name, "dominated"]
    growth = advised.growth(found)
    assert set(growth["group"]) == set(advice.GROWTHS)
    assert f"{found.limits['pages'].times:.3g} times the pages" in advised.reach(found)
    first = found.remedies["remedy"][0]
    assert next(iter(advised.bars(found).index)) == first
    assert advised.bars_claim(found).lower().startswith(first if found.remedies["met"][0] == "yes" else "nothing")


def test_a_growth_that_meets_the_objective_again_is_named(found: advice.Advice) -> None:
    rows = found.headroom.copy()
    rows.loc[(rows["policy"] == "best") & (rows["growth"] == "pages") & (rows["times"] == 10), "met"] = "yes"
    assert "(and again at 10 times)" in advised.reach(dataclasses.replace(found, headroom=rows))
    assert "again" not in advised.reach(found)


def test_a_mean_of_several_simulations_says_how_sure_it_is(found: advice.Advice) -> None:
    row = {"value": 0.9612, "values": [0.95, 0.96, 0.97, 0.96, 0.966]}
    assert advised._value(found, row) == "961 ms ± 9.4 ms"
    assert advised._value(found, {"value": 0.9612}) == advised._value(found, row | {"values": [0.9612] * 5}) == "961 ms"
    assert advised._change("fresh_p95", math.inf, 0.9) == "never → 900 ms"


def test_what_is_there_now_is_kept_where_nothing_is_cheaper() -> None:
    quiet = advice.with_policy(BUSY.replace({"duration": 6.0}), Window(wait=0.5))
    found = advice.advise(quiet, Objective.parse("time_to_fresh.p95 < 0.7"), waits=(0.5,))
    assert found.recommended == Window(wait=0.5)
    assert advised.headline(found).startswith("Keep window 500 ms")
    assert advised.costs(found).columns.tolist() == ["now", "no wait"]


def test_no_policy_meets_what_no_application_can_keep() -> None:
    found = advice.advise(BUSY.replace({"duration": 6.0}), Objective.parse("time_to_fresh.p95 < 0.001"), waits=(0.5,))
    assert (found.best, found.recommended, found.limits) == (None, None, {})
    assert advised.headline(found).startswith("No policy meets time_to_fresh.p95 < 1 ms here")
    assert f"{describe(found.nearest['choice'].policy)} comes nearest" in advised.headline(found)
    assert found.remedies["remedy"].tolist()[0] != "as it is"
    assert "To paste" not in to_text(advised.page(found, ""))


def test_an_objective_on_a_figure_that_only_rows_tell_or_that_is_not_there() -> None:
    assert 0 < advice.trial(BUSY, "stale_ratio")["value"] < 1
    assert advice.trial(BUSY, "time_to_fresh.p97")["value"] > advice.trial(BUSY, "time_to_fresh.p95")["value"]
    with pytest.raises(BadInput, match="no such figure"):
        advice.trial(BUSY, "time_to_flesh.p95")
    with pytest.raises(BadInput, match="no pages"):
        advice.advise(BUSY.replace({"pages.0.subscribers": 0}), GOAL, waits=(0.5,))


def test_polling_that_no_worker_could_answer_is_not_tried(found: advice.Advice) -> None:
    tried = found.tried[found.tried["polling"]]["choice"]
    assert all(advice.polled(BUSY, choice.policy) < 1 for choice in tried)
    assert advice.polled(BUSY, Polling(interval=0.1)) == pytest.approx(0.8)
    assert advice.polled(BUSY.replace({"api.workers": 2}), Polling(interval=0.1)) == pytest.approx(0.4)


def test_what_the_fleet_engine_cannot_do_is_left_out_and_named() -> None:
    reverb = BUSY.replace({"broadcaster.model": "reverb", "api.save": 0.004, "incidents": [{"kind": "restart", "at": 5.0}]})
    assert isinstance(reverb.incidents[0], Restart)
    quick, words = advice.screened(reverb)
    assert fleet.supports(quick) == []
    assert len(words) == 4
    assert advice.screened(BUSY) == (BUSY, ())
    assert advice.screened(BUSY.replace({"api.save": 0.004, "api.save_workers": "own"}))[1] == ()


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (Poisson(rate=2.0), 3.0),
        (Bursty(rate=4.0, off_rate=1.0), 3.0),
        (Superposition((Poisson(rate=2.0), Poisson(rate=1.0))), 3.0),
        (Provisioning(parallel=1), 3.0),
        (Provisioning(per_minute=2.0), 3.0),
    ],
)
def test_busier_workloads_have_more_updates(workload: object, expected: float) -> None:
    more = advice.busier(workload, 3)  # type: ignore[arg-type]
    assert more.expected(1000.0, 60) / workload.expected(1000.0, 60) == pytest.approx(expected, rel=0.01)  # type: ignore[attr-defined]


def test_growth_of_pages_updates_and_users() -> None:
    assert advice.grown(BUSY, "pages", 2.5).subscribers == 100
    users = advice.grown(BUSY, "users", 3)
    assert (users.subscribers, users.fleet.servers, users.workload.rate) == (120, 12, 24.0)
    assert advice.grown(BUSY.replace({"workload.per": "server"}), "users", 3).workload.rate == 8.0
    assert advice.grown(BUSY, "updates", 3).subscribers == 40
    with pytest.raises(BadInput, match="exactly these"):
        advice.grown(BUSY.replace({"workload": {"kind": "instants", "at": [1.0]}}), "updates", 2)
    with pytest.raises(BadInput, match="busy already"):
        advice.grown(BUSY.replace({"workload": {"kind": "provisioning", "parallel": 4}}), "updates", 5)
    assert Instants((1.0,)).expected(2, 1) == 1


def test_who_is_to_blame() -> None:
    quiet = {"node": 0.1, "workers": 0.2, "fresh_p95": 0.5}
    assert "one broadcaster node: it is busy 95 %" in advice.cause(BUSY, quiet | {"node": 0.95})
    assert "generic channel" in advice.cause(BUSY, quiet | {"node": 0.95})
    specific = BUSY.replace({"pages.0.page": "detail"})
    assert "generic channel" not in advice.cause(specific, quiet | {"node": 0.95})
    assert "its one worker is busy 99 %" in advice.cause(BUSY, quiet | {"workers": 0.99})
    assert "the policy" in advice.cause(BUSY, quiet | {"fresh_p95": math.inf})
    fan_out = BUSY.replace({"broadcaster.per_subscriber": 0.001, "broadcaster.compose_per_subscriber": 0.0})
    assert "goes to 40 pages, one after the other, in 40 ms" in advice.cause(fan_out, quiet, "time_to_notified.p99")
    large = BUSY.replace({"pages.0.subscribers": 400})
    assert remedies.herd(large) == (400, pytest.approx(0.8))
    assert "the herd: 400 pages" in advice.cause(large, quiet)
    assert remedies.herd(large.replace({"broadcast.channels": "per_user"}))[0] == 100


def test_a_remedy_that_is_there_already_is_none() -> None:
    has = BUSY.replace({"broadcast.channels": "per_user", "in_flight": "single_flight", "api.cache": 1.0})
    found = remedies.remedies(has)
    assert set(remedies.remedies(BUSY)) - set(found) == {"a channel for each user", "single flight", "answers cached for 1 s"}
    for keys in found.values():
        has.replace(keys).check()
    assert remedies.remedies(BUSY, 2.0)["jitter over a herd's time"] == {"policy.jitter": 2.0}
    assert "twice the wait" not in remedies.remedies(advice.with_policy(BUSY, FullPayload()))


def test_a_page_with_a_policy_of_its_own_gets_the_one_that_is_tried() -> None:
    own = BUSY.replace({"pages.0.policy": {"kind": "full_payload"}, "broadcast.payload": "full"})
    tried = advice.with_policy(own, Window(wait=0.2))
    assert tried.policy_of(tried.pages[0]) == Window(wait=0.2)
    assert tried.broadcast == Broadcast()
    assert tried.broadcaster == Broadcaster()


def test_of_what_comes_as_near_the_cheapest_is_the_nearest() -> None:
    tried = pd.DataFrame({"value": [5.0, 2.0, 2.0, 1.0], "refetches_per_update": [1, 9, 3, 1], "polling": [False] * 3 + [True]})
    assert advice._nearest(tried)["refetches_per_update"] == 3
