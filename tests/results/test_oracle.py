"""The ledger against a literal reading of the definitions (`oracle`), on random runs and on simulated ones."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.results.ledger.book import Ledger
from sim.results.summary import summary_of
from sim.scenario import Broadcast, Fleet, Pages, Scenario, load_scenario
from sim.virtual import fleet, reference
from tests.results.frames import NAN, frame
from tests.results.oracle import Oracle

START, END, OVER = 2.0, 10.0, 13.0
MEASURED = SimpleNamespace(source="measured", window={"start": START, "end": END, "cooldown": 1.0, "drain": 2.0})
SIMULATED = SimpleNamespace(source="simulated", window=MEASURED.window)


def same(found: Any, wanted: Any) -> bool:
    if wanted is None or found is None:
        return found is wanted
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)


def compare(tables: Any, scenario: Scenario, measured: bool = False) -> None:
    ledger = Ledger(tables, scenario)
    summary = summary_of(ledger)
    window = ledger.window
    wanted = Oracle(tables, scenario, window.start, window.end, window.over, measured).figures()
    for name, figure in wanted.items():
        row = summary[name]
        value = math.inf if row.get("never") else row["value"]
        assert same(value, figure), f"{name}: {value} by the ledger, {figure} by its definition"
    identities(summary)


def identities(summary: dict[str, Any]) -> None:
    """What adds up in every run."""

    def of(*names: str) -> float:
        return float(sum(summary[name]["value"] for name in names))

    fates = [f"pairs.{fate}" for fate in ("shown", "never", "left", "unknown")]
    assert of("pairs.owed") == pytest.approx(of(*fates))
    outcomes = [f"refetches.{outcome}" for outcome in ("applied", "not_newer", "superseded", "cancelled", "failed", "running")]
    assert of("refetches") == pytest.approx(of(*outcomes))
    assert of("refetches.wasted") == pytest.approx(of("refetches.not_newer", "refetches.superseded", "refetches.cancelled"))
    assert of("deliveries.expected") == pytest.approx(of("deliveries.received", "deliveries.missing"))
    reasons = [f"deliveries.missing.{reason}" for reason in ("target", "connection", "on_its_way")]
    assert of("deliveries.missing") == pytest.approx(of(*reasons))


class Instants:
    """Instants that never tie: a distinct fraction for each."""

    def __init__(self, draw: Any) -> None:
        self.draw, self.count = draw, 0

    def __call__(self, low: float = 0.0, high: float = 14.0) -> float:
        self.count += 1
        return float(self.draw(st.integers(int(low * 4), int(high * 4)))) / 4 + self.count * 1e-4


@st.composite
def runs(draw: Any, payload: bool = False) -> tuple[Any, Scenario]:
    """A small run with everything that goes wrong: regressions, gaps, pages that leave, weights, duplicates, unknown versions,
    dashboards of two users, polls, full payloads, queued events."""
    at = Instants(draw)
    stamp = draw(st.sampled_from([1, 10**15]))
    scenario = Scenario(
        fleet=Fleet(users=2, servers_per_user=2, sites_per_user=1),
        pages=(Pages(subscribers=1),),
        broadcast=Broadcast(
            channels=draw(st.sampled_from(["both", "generic", "specific"])), payload="full" if payload else "notify"
        ),
    ).replace({"api.dashboard_of": draw(st.sampled_from(["user", "everyone"]))})
    updates: list[dict[str, Any]] = []
    versions: dict[tuple[str, int], int] = {}
    commits = sorted(at(0, 12) for _ in range(draw(st.integers(1, 9))))
    for serial, committed in enumerate(commits):
        place = draw(st.sampled_from([("server", 1), ("server", 2), ("server", 3), ("site", 1), ("task", 1)]))
        fate = draw(st.sampled_from(["", "", "", "", "failed", "silent", "unversioned", "untold", "unsure"]))
        row = {
            "update": serial,
            "resource": place[0],
            "resource_id": place[1],
            "intended_at": committed - draw(st.sampled_from([0.0, 0.3])),
        }
        if fate == "failed":
            accepted = draw(st.sampled_from([NAN, committed]))  # On save, and then not committed.
            row |= {"version": None, "sequence": None, "committed_at": NAN, "published_at": accepted, "status": "failed"}
        else:
            versions[place] = versions.get(place, 0) + 1
            known = fate != "unversioned" and (fate != "untold" or draw(st.booleans()))
            row |= {
                "version": versions[place] * stamp if known else None,
                "sequence": serial + 1 if known else None,
                "committed_at": NAN if fate in ("untold", "unsure") else committed,
                "published_at": NAN if fate in ("silent", "unsure") else committed + draw(st.sampled_from([0.01, 0.2, 1.5])),
                "status": {"silent": "not_broadcast", "unsure": "unknown"}.get(fate, "committed"),
            }
        updates.append(row)
    pages, subscriptions, refetches, heard = [], [], [], []
    for subscriber in range(draw(st.integers(1, 4))):
        kind, resource, number = draw(
            st.sampled_from(
                [
                    ("detail", "server", 1),
                    ("site", "site", 1),
                    ("dashboard", "dashboard", 0),
                    ("detail", "server", 2),
                    ("task", "task", 1),
                ]
            )
        )
        policy = "full_payload" if payload else draw(st.sampled_from(["debounce", "debounce", "polling"]))
        user = draw(st.sampled_from([1, 2])) if kind == "dashboard" else 1
        opened = at(0, 6)
        closed = draw(st.sampled_from([NAN, NAN, at(7, 14)]))
        shows = {
            "page": kind,
            "user": user,
            "resource": resource,
            "resource_id": number,
            "policy": policy,
            "subscriber": subscriber,
        }
        step = 1 if kind == "dashboard" else stamp
        pages.append(
            shows
            | {
                "opened_at": opened,
                "closed_at": closed,
                "reason": "end" if closed != closed else "closed",
                "loaded_version": draw(st.sampled_from([None, None, 0, step, 2 * step])),
                "weight": draw(st.sampled_from([1.0, 1.0, 3.0])),
            }
        )
        names = ["private-servers", "private-sites"] if kind == "dashboard" else [f"private-{resource}s.{number}"]
        for name in names if policy != "polling" else []:
            since = opened + draw(st.sampled_from([0.0, 0.5]))
            cut = draw(st.sampled_from([NAN, at(6, 9)]))
            row = shows | {"channel": name, "subscribed_at": since, "ended_at": cut, "reason": "end" if cut != cut else "dropped"}
            subscriptions.append(row)
            if cut == cut and draw(st.booleans()):
                subscriptions.append(row | {"subscribed_at": at(9, 11), "ended_at": NAN, "reason": "end"})
            for update in updates:
                if draw(st.booleans()):
                    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
                        heard.append(
                            {"update": update["update"], "subscriber": subscriber, "channel": name, "received_at": at(0, 13)}
                        )
        for _ in range(draw(st.integers(0, 6)) if not payload or draw(st.booleans()) else 0):
            started = at(0, 13)
            outcome = draw(
                st.sampled_from(["applied", "applied", "applied", "not_newer", "superseded", "cancelled", "failed", "running"])
            )
            done = outcome in ("applied", "not_newer", "failed")
            version = draw(st.sampled_from([0, 1, 2, 3, 4, 5] if draw(st.integers(0, 9)) else [None]))
            refetches.append(
                {
                    "subscriber": subscriber,
                    "resource": resource,
                    "resource_id": number,
                    "due_at": started,
                    "started_at": started,
                    "finished_at": started + draw(st.sampled_from([0.03, 1.1])) if done else NAN,
                    "version": version * step if version is not None and outcome in ("applied", "not_newer") else None,
                    "outcome": outcome,
                }
            )
    tables = SimpleNamespace(
        updates=frame("updates", updates),
        notifications=frame("notifications", heard),
        refetches=frame("refetches", refetches),
        subscriptions=frame("subscriptions", subscriptions),
        pages=frame("pages", pages),
        metrics=frame("metrics", []),
    )
    return tables, scenario


LOOSE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@LOOSE
@given(runs(), st.booleans())
def test_every_figure_is_what_its_definition_says(run: tuple[Any, Scenario], measured: bool) -> None:
    tables, scenario = run
    tables.manifest = MEASURED if measured else SIMULATED
    compare(tables, scenario, measured)


@LOOSE
@given(runs(payload=True), st.booleans())
def test_a_full_payload_counts_as_an_answer(run: tuple[Any, Scenario], measured: bool) -> None:
    tables, scenario = run
    tables.manifest = MEASURED if measured else SIMULATED
    compare(tables, scenario, measured)


SMALL = {
    "fleet.users": 2,
    "duration": 6.0,
    "drain": 2.0,
    "pages": [{"page": "detail", "subscribers": 4}, {"page": "dashboard", "subscribers": 3}],
}
VARIANTS: dict[str, dict[str, Any]] = {
    "debounce": {"policy": {"kind": "debounce", "wait": 0.3}},
    "starving": {"policy": {"kind": "debounce", "wait": 2.0}},
    "cancel": {"policy": {"kind": "immediate"}, "in_flight": "cancel", "api.service": 0.3},
    "overlap": {
        "policy": {"kind": "immediate"},
        "in_flight": "overlap",
        "api.workers": 8,
        "api.service": {"kind": "exponential", "scale": 0.3},
    },
    "failing": {"api.queue_limit": 0, "api.service": 0.2, "policy": {"kind": "window", "wait": 0.2}},
    "polling": {"policy": {"kind": "polling", "interval": 1.0}},
    "restart": {"incidents": [{"kind": "restart", "at": 2.0, "down": 1.0}]},
    "sessions": {
        "pages": [
            {"page": "detail", "subscribers": 4, "session": {"kind": "exponential", "scale": 2.0}},
            {"page": "dashboard", "subscribers": 2, "hidden": 0.5},
        ]
    },
    "queued": {"broadcast.dispatch": "queued", "broadcast.queue_latency": 0.7},
    "everyone": {"api.dashboard_of": "everyone", "broadcast.channels": "generic"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_simulated_runs_too(variant: str) -> None:
    scenario = load_scenario("demo").replace(SMALL | VARIANTS[variant])
    compare(reference.run(scenario), scenario)


@pytest.mark.parametrize("variant", ["debounce", "starving", "overlap", "polling", "everyone"])
def test_rows_of_a_share_of_the_pages_too(variant: str) -> None:
    scenario = load_scenario("demo").replace(SMALL | VARIANTS[variant])
    if reasons := fleet.supports(scenario):
        pytest.skip(str(reasons))
    _, tables, sampling = fleet.sample(scenario, probes=3)
    assert sampling["method"] == "subscribers"
    compare(tables, scenario)
