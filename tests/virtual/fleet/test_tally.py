"""What pages show: the tally of whole herds against one page at a time, and the engine's figures against its own rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.distributions import Constant, Exponential, Lognormal
from sim.policy import Debounce, Immediate, Polling, RateLimit, Window
from sim.results.summary import summarise
from sim.scenario import Api, Fleet, Network, Pages, Scenario
from sim.virtual import fleet
from sim.virtual.fleet.groups import Group, Seats, by_value
from sim.virtual.fleet.herds import NEVER, Herd, Span
from sim.virtual.fleet.spread import Spread
from sim.virtual.fleet.tally import Outcomes, Tally
from sim.workload import Poisson

POLLING = Polling(interval=1.0)


@st.composite
def histories(draw):
    """(group, commits, herds as columns by member, timeout, overtakes): one refetch of each page after the other, in ns."""
    pages, herds, updates = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(0, 5))
    cancels, timeout = draw(st.booleans()), draw(st.sampled_from([None, 12]))
    commits = np.sort(np.array(draw(st.lists(st.integers(0, 60), min_size=updates, max_size=updates)), np.int64))
    users = draw(st.one_of(st.none(), st.lists(st.integers(1, 2), min_size=pages, max_size=pages)))
    viewers = np.array(draw(st.lists(st.integers(1, 2), min_size=updates, max_size=updates)), np.int64)
    shown_by = None if users is None else by_value(np.array(users))
    rows = np.arange(updates) if shown_by is None else np.flatnonzero(np.isin(viewers, list(shown_by)))
    none = np.empty(0, np.int64)
    policy = draw(st.sampled_from([POLLING, Immediate()]))
    rule = "cancel" if cancels else "overlap"
    group = Group(
        Seats(0, policy, rule, "dashboard", 0, channels=(), subscribers=np.arange(pages), extra=0),
        offsets=np.arange(pages),
        updates=rows,
        viewers=viewers[rows],
        shown_by=shown_by,
        events=none,
        heard=none,
        fires=none,
        answered=none,
    )
    base, columns = 0, []
    for _ in range(herds):
        base += draw(st.integers(0, 15))
        started = base + group.offsets
        begun = started + np.array(draw(st.lists(st.integers(0, 20), min_size=pages, max_size=pages)))
        finished = begun + np.array(draw(st.lists(st.integers(0, 20), min_size=pages, max_size=pages)))
        if timeout is not None:
            finished = np.where(finished - started >= timeout, NEVER, finished)
        columns.append((base, started, begun, finished))
    return group, commits, columns, timeout


def page_by_page(group: Group, commits, columns, timeout, window: Span):
    """The same for each page by itself: (times to fresh by update, outcomes, regressions)."""
    fresh: dict[int, list[int]] = {int(row): [] for row in group.updates}
    outcomes, regressions = Outcomes(), 0
    last_sent = window.stop - 1 if isinstance(group.policy, Polling) else window.end
    for page in range(group.size):
        answers = []
        for number, (_, started, begun, finished) in enumerate(columns):
            sent, at, read, outcome = int(started[page]), int(finished[page]), int(begun[page]), "heard"
            if at >= NEVER:
                at, outcome = sent + timeout, "failed"
            until = (
                int(columns[number + 1][1][page]) if group.seats.in_flight == "cancel" and number + 1 < len(columns) else NEVER
            )
            if until <= window.end and at > until:
                at, outcome = until, "superseded"
            if at > window.end:
                outcome = "running"
            answers.append((at, number, sent, read, outcome))
        mine = [
            int(row)
            for row, viewer in zip(group.updates, group.viewers, strict=True)
            if group.shown_by is None or page in group.shown_by.get(int(viewer), ())
        ]
        version = 0
        seen: set[int] = set()
        for at, _, sent, read, outcome in sorted(answers):
            contained = {row for row in mine if commits[row] <= read}
            if outcome == "heard":
                outcome = "not_newer" if len(contained) == version else "applied"
                for row in contained - seen:
                    fresh[row].append(at - int(commits[row]))
                regressions += len(contained) < version
                version, seen = len(contained), seen | contained
            if window.start <= sent <= last_sent:
                setattr(outcomes, outcome, getattr(outcomes, outcome) + 1)
    return fresh, outcomes, regressions


@settings(deadline=None, max_examples=300)
@given(histories(), st.integers(0, 30), st.integers(0, 40), st.integers(0, 40), st.booleans())
def test_herds_at_once_are_pages_one_by_one(history, start, length, drain, in_order):
    group, commits, columns, timeout = history
    window = Span(start, start + length, start + length + drain)
    batch = np.where((commits >= window.start) & (commits < window.stop), 0, -1)
    spread = Spread()
    tally = Tally(group, commits, commits, np.zeros_like(commits), batch, window, spread, overtakes=True, timeout=timeout)
    for base, started, begun, finished in columns:
        if in_order and (np.diff(begun) >= 0).all():
            tally.add(Herd(base, started - base, begun - base, np.where(finished < NEVER, finished - base, NEVER), None))
        else:
            tally.add(Herd.of_members(started, begun, finished))
    tally.finish()
    fresh, outcomes, regressions = page_by_page(group, commits, columns, timeout, window)
    assert (tally.outcomes, tally.regressions) == (outcomes, regressions)
    for place, row in enumerate(group.updates.tolist()):
        counted = fresh[row] if batch[row] >= 0 else []
        assert (tally.pages[place], tally.total[place]) == (len(counted), sum(counted))
    (histogram,) = spread.finish()
    assert histogram.total == tally.total.sum()


WILD = [
    Debounce(wait=0.1),
    Debounce(wait=0.3, jitter=0.1),
    Debounce(wait=0.05, jitter=0.4),
    Immediate(),
    Immediate(jitter=0.3),
    Window(0.2),
    RateLimit(0.2),
    Polling(interval=0.3),
    Polling(interval=0.3, mode="cancel"),
]


@pytest.mark.parametrize("policy", WILD, ids=repr)
def test_the_figures_of_all_pages_are_those_of_all_rows(policy):
    """Requests that overtake each other on a random way, time-outs, ends of windows: counted without rows, and by rows."""
    rng = np.random.default_rng(7)
    for seed in range(8):
        rule = "overlap" if policy.jitter else str(rng.choice(["overlap", "cancel"]))
        entries = tuple(Pages(page, 12, policy=policy, in_flight=rule) for page in ("dashboard", "detail"))
        scenario = Scenario(
            seed=seed,
            warmup=float(rng.choice([0.0, 2.0])),
            duration=9,
            drain=float(rng.choice([0.0, 0.4, 6.0])),
            fleet=Fleet(users=1, servers_per_user=2),
            workload=Poisson(float(rng.choice([0.7, 6.0]))),
            pages=entries,
            network=Network(to_api=[Lognormal(0.05, 1.0), Exponential(0.1), Constant(0.001)][seed % 3]),
            api=Api(workers=1 + seed % 3, service=[Constant(0.004), Exponential(0.02)][seed % 2], timeout=[None, 0.05][seed % 2]),
        )
        result, tables, _ = fleet.sample(scenario, probes=scenario.subscribers)
        mine, rows = result.summary(), summarise(tables)
        for name in (
            "time_to_fresh.mean",
            "starved_ratio",
            "starved_updates",
            "refetches",
            "refetches.applied",
            "refetches.failed",
        ):
            expected = rows[name]["value"]
            assert mine[name]["value"] == (None if expected is None else pytest.approx(expected, rel=1e-9)), (name, scenario)
        sent = tables.refetches[tables.refetches["started_at"] >= scenario.warmup]
        if isinstance(policy, Polling):
            sent = sent[sent["started_at"] < scenario.warmup + scenario.duration]
        outcomes = sent["outcome"].value_counts()
        for name in ("applied", "not_newer", "superseded", "failed"):
            assert getattr(result.outcomes, name) == outcomes.get(name, 0), (name, scenario)
        assert result.refetches == len(sent)
