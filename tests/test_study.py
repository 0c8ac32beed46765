"""Settings side by side: same updates for all, exact engines, and theory where there is one."""

from __future__ import annotations

import math

import pytest

from sim import study
from sim.errors import BadInput
from sim.policy import Debounce, Immediate, Polling, Throttle, Window
from sim.results import fronts
from sim.results.answers import choices
from sim.results.answers import sentences as answers
from sim.results.answers.choices import Choice
from sim.results.summary import summarise
from sim.scenario import Fleet, Pages, Scenario, to_dict
from sim.virtual import reference
from sim.workload import Poisson

SCENARIO = Scenario(
    name="small",
    duration=60.0,
    drain=5.0,
    fleet=Fleet(users=2),
    workload=Poisson(rate=5.0),
    pages=(Pages("detail", 8), Pages("dashboard", 12, policy=Debounce(wait=9.0))),
)
SOME = [Choice("debounce", "wait 300 ms", Debounce(wait=0.3)), Choice("polling", "every 1 s", Polling(interval=1.0))]


def test_both_engines_give_the_same_row() -> None:
    scenario = study.only(SCENARIO, "dashboard")
    for policy in (Debounce(wait=0.3), Window(wait=0.5), Debounce(wait=0.3, leading=True)):
        changed = scenario.replace({"policy": to_dict(policy)})
        quick, literal = study.row(study.summary(changed)), study.row(summarise(reference.run(changed), changed))
        assert quick["refetches_per_update"] == literal["refetches_per_update"]
        assert quick["fresh_p95"] == pytest.approx(literal["fresh_p95"], rel=0.03)


def test_pages_of_one_kind_take_the_policy_that_is_studied() -> None:
    scenario = study.only(SCENARIO, "dashboard")
    assert [(p.page, p.policy) for p in scenario.pages] == [("dashboard", None)]
    with pytest.raises(BadInput, match="no pages of kind 'site'"):
        study.only(SCENARIO, "site")


def test_polls_of_the_drain_are_not_charged_to_the_updates() -> None:
    found = study.simulated(study.only(SCENARIO, "dashboard"), Polling(interval=1.0))
    updates = study.summary(SCENARIO)["updates"]["value"]
    assert found["refetches_per_update"] == pytest.approx(12 * 60 / updates, rel=0.03)


def test_an_objective_chooses_the_cheapest_setting_that_meets_it() -> None:
    frame = fronts.front(study.choices(study.only(SCENARIO, "dashboard"), SOME), "refetches_per_update", "fresh_p95")
    customary = study.presets(study.only(SCENARIO, "dashboard")).loc["the pattern's document"]
    said = answers.choose(frame, 1.5, customary, "dashboard")
    assert "polling every 1 s" in said[0]
    assert "No setting" in answers.choose(frame, 0.01, customary, "dashboard")[0]


def test_closed_forms_and_simulation_agree_on_steady_updates() -> None:
    frame = study.steady(4.0, (0.1, 0.3), hours=1.0)
    exact = study.agreement(frame, study.measured([]))
    assert (exact["off"].abs() < 0.1).all()
    assert (~exact["holds"]).sum() <= study.misses_allowed(len(exact))
    wrong = frame.assign(mean=frame["mean"].where(frame["source"] == "simulated", frame["mean"] * 1.2))
    assert (~study.agreement(wrong, study.measured([]))["holds"]).sum() > study.misses_allowed(len(exact))
    assert "late on average" in answers.steady(frame, 4.0, 0.3)


def test_polling_overtakes_a_debounce_where_theory_says() -> None:
    rates, waits, _ = study.as_good_as_polling((2.0, 10.0))
    for rate, wait in zip(rates, waits, strict=True):
        below, above = (study.predict(Debounce(wait=wait * factor), rate) for factor in (0.9, 1.1))
        polled = [0.5 / found["refetch_rate.mean"] for found in (below, above)]
        assert below["time_to_fresh.mean"] < polled[0]
        assert above["time_to_fresh.mean"] > polled[1]


def test_overlapping_answers_may_leave_pages_stale_and_single_flight_does_not() -> None:
    changes = {"policy": to_dict(Debounce(wait=0.1)), "cooldown": 0.0}
    scenario = study.only(SCENARIO, "dashboard").replace(changes)
    found = study.variants(scenario, study.rules(service=0.5))
    assert found.loc["overlap (Inertia 2, 3)", "out_of_order"] > 0
    assert found.loc["single flight", "stale_at_end"] == 0
    assert found.loc["cancel (Inertia 1)", "wasted"] > 0


def test_jitter_lowers_the_peak_and_never_the_wait() -> None:
    scenario = study.only(SCENARIO, "dashboard").with_subscribers(200)
    found = study.variants(scenario, {"none": {}} | study.jitters(0.4))
    assert found.loc["jitter 400 ms", "peak"] < found.loc["none", "peak"]
    assert found.loc["jitter 400 ms", "fresh_mean"] > found.loc["none", "fresh_mean"]


def test_a_debouncing_server_sends_fewer_messages() -> None:
    found = study.variants(study.only(SCENARIO, "dashboard"), study.server_side(0.5))
    assert found.loc["debounce 500 ms on the server", "messages_per_update"] < found["messages_per_update"].iloc[0]


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (Debounce(wait=0.5), "useDebouncedCallback(() => router.reload({ only: ['servers'] }), 500)"),
        (Debounce(wait=0.5, leading=True, max_wait=2.0), "500, { leading: true, maxWait: 2000 })"),
        (Debounce(wait=0.5, leading=True, trailing=False), "{ leading: true, trailing: false }"),
        (Window(wait=0.3), "300, { maxWait: 300 })"),
        (Throttle(wait=0.3), "useThrottledCallback(() => router.reload({ only: ['servers'] }), 300)"),
        (Throttle(wait=0.3, leading=False), "300, { leading: false })"),
        (Debounce(wait=0.5, jitter=0.2), "Math.random() * 200)"),
        (Polling(interval=2.0), "usePoll(2000, { only: ['servers'] })"),
        (Immediate(), "useEcho('servers', 'ServerUpdated', () => router.reload({ only: ['servers'] }))"),
    ],
)
def test_a_snippet_says_what_the_policy_says(policy: choices.Policy, code: str) -> None:
    assert code in choices.snippet(policy, study.only(SCENARIO, "dashboard"))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "useEcho('servers', 'ServerUpdated', "),
        ({"broadcast.channels": "per_user"}, "useEcho(`users.${user}.servers`, 'ServerUpdated', "),
        ({"pages.0.page": "detail"}, "useEcho(`servers.${id}`, 'ServerUpdated', "),
        ({"pages.0.page": "site"}, "useEcho(`sites.${id}`, 'ServerSiteUpdated', "),
        (
            {"pages.0.channels": ["private-orders.{id}"], "pages.0.events": ["App\\Events\\Orders\\Shipped"]},
            "useEcho(`orders.${id}`, 'Orders.Shipped', ",
        ),
        ({"pages.0.channels": ["private-orders"], "pages.0.events": ["order.shipped"]}, "useEcho('orders', '.order.shipped', "),
    ],
)
def test_a_snippet_listens_where_the_scenario_s_pages_do(changes: dict[str, object], code: str) -> None:
    scenario = study.only(SCENARIO, "dashboard").replace(changes)
    assert code in choices.snippet(Debounce(wait=0.5), scenario)


def test_the_grid_has_every_family_at_every_wait() -> None:
    some = list(choices.grid((0.1, 0.5)))
    assert len(some) == 2 * len({choice.family for choice in some})


def test_chance_alone_moves_the_mean_of_few_updates_and_hardly_that_of_many() -> None:
    for policy in (Debounce(wait=0.2), Window(wait=0.2), Polling(interval=0.2)):
        few, many = (study.by_chance(policy, n, n / 10.0, runs=40) for n in (100, 10_000))
        assert few[0] < many[0] < 0 < many[1] < few[1], policy


@pytest.mark.parametrize("count", [1, 2, 5, 18, 100])
def test_more_misses_than_allowed_are_as_rare_as_promised(count: int) -> None:
    def at_most(misses: int) -> float:
        return sum(math.comb(count, k) * 0.07**k * 0.93 ** (count - k) for k in range(misses + 1))

    allowed = study.misses_allowed(count)
    assert at_most(allowed) >= 0.999 > at_most(allowed - 1)
