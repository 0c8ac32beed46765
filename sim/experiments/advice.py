"""What to set for an objective, what it costs and gains, how far it carries, what breaks first and what helps then.

All by simulation of one scenario, with common random numbers: every setting meets the same updates. The search takes the fleet
engine: it leaves out what that engine cannot do (`screened`), and takes a part of a long run (`shortened`). The settings that it
would recommend, and the present one, are then simulated several times as the scenario says, with other updates. Nothing is
measured here: costs are the scenario's own, or fitted ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sim.errors import BadInput, did_you_mean
from sim.experiments.remedies import AS_IT_IS, herd, remedies
from sim.policy import Immediate, Policy, Polling
from sim.prediction import Fit
from sim.results.answers.choices import WAITS, Choice, grid
from sim.results.run import Run
from sim.results.summary import LEVELS, level_of, summarise
from sim.results.text import number, percent, seconds
from sim.scenario import Scenario
from sim.study import row
from sim.virtual import engines, fleet, reference
from sim.virtual.preparation import expected_size
from sim.virtual.sweep import COST, Objective
from sim.workload import Arrivals, Bursty, Instants, Superposition, Workload, streams

TIMES = (2, 5, 10)
"""Multiples of the load at which head-room is looked for."""

GROWTHS = {"pages": "pages", "updates": "updates", "users": "users (and so of their pages, servers and updates)"}
"""What may grow -> the same in words."""

REPLICATIONS = 5
"""Simulations of a setting before it is recommended, and of what is there now."""

FINALISTS = 6
"""Settings that are simulated so often, cheapest first, until one surely meets the objective."""

EXACT = 600_000
"""Notifications and refetches up to which a remedy takes the engine that leaves nothing out: some seconds."""

REPEATED = 100_000
"""The same for what is simulated several times: a second or so each."""

QUICK, LEAST = 60_000, 20.0
"""Notifications and refetches of a simulation of the search, and the seconds that it has at least."""

BUSY = 0.8
"""Share of its time from which a station counts as the limit: its queue then takes several times as long as its work."""

COUNTED = {"refetch_rate": "refetch_rate.mean", "updates": "updates"}
"""Further columns of a trial, and the summary's metric of each."""

MOST = 1024
"""Times the load at which `largest` gives up looking for the limit."""

Row = dict[str, Any]


class Limit(NamedTuple):
    """The growth of a load at which an objective is missed."""

    times: float
    """The largest multiple of the load at which it was met; 0: none, inf: all that were tried."""
    missed: float
    """The smallest multiple at which it was not; inf: none."""
    trail: pd.DataFrame
    """`trial` of each multiple that was tried; times, subscribers."""


class Priced(NamedTuple):
    """A scenario with the costs that advice on it rests on."""

    scenario: Scenario
    draws: Sequence[Mapping[str, Any]]
    """Joint draws of a fit, one for each of the repeated simulations; empty: no fit."""
    source: str
    """Where the costs come from, in words."""
    unknown: tuple[str, ...]
    """What is not known of the costs, as sentences."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Frames with one row per thing tried; columns of `trial`, further ones as listed."""

    scenario: Scenario
    """What is there now, with the costs that were used."""
    objective: Objective
    now: Row
    """`trial` of the scenario as it is; met."""
    best: Row | None
    """`trial` of the recommended policy; met, policy, setting, choice. None: no policy meets the objective."""
    tried: pd.DataFrame
    """By setting; policy, setting, choice, polling: is it an alternative without events."""
    headroom: pd.DataFrame
    """By growth and times; policy (now, best), met."""
    limits: Mapping[str, Limit]
    """By growth: how far the recommended policy carries; empty where none meets the objective."""
    breaking: Row | None
    """`trial` of the least growth at which the objective is missed: growth, times, cause (in words); None: none."""
    remedies: pd.DataFrame
    """By remedy, tried there; remedy, met, ranked."""
    left_out: tuple[str, ...]
    """What the search, head-room and remedies had to leave out, in words."""
    searched: float
    """Seconds of updates that the search, head-room and remedies took (`shortened`)."""
    whole: bool
    """Whether what is there now and what is recommended were simulated with all of it."""

    @property
    def recommended(self) -> Policy | None:
        return None if self.best is None else self.best["choice"].policy

    @property
    def nearest(self) -> Row:
        """Of `tried`: what head-room and remedies are about where no policy meets the objective."""
        return _nearest(self.tried)


def trial(scenario: Scenario, metric: str) -> Row:
    """One simulation, by the fleet engine where it can: the objective's metric as `value` (inf: never, None: undefined), the
    columns of `study`, `node` and `workers` (share of their time that the busiest broadcaster node and the workers work).

    Raises `BadInput` where a run has no such metric.
    """
    levels = (*LEVELS, *({level_of(metric) or LEVELS[0]} - set(LEVELS)))
    if not fleet.supports(scenario):
        result = fleet.run(scenario)
        figures = result.summary(levels)
        node, workers = max(result.broadcaster_busy), result.utilisation
    else:
        tables = reference.run(scenario)
        figures = summarise(tables, scenario, levels)
        node = figures["broadcaster.utilisation"]["value"] if "broadcaster.utilisation" in figures else 0.0
        workers = float(figures["utilisation"]["value"]) if "utilisation" in figures else math.nan
    if metric not in figures:
        figures = engines.run(scenario).summary
    if metric not in figures:
        raise BadInput(f"{metric!r}: the runs have no such figure{did_you_mean(metric, figures)}")
    value = math.inf if figures[metric].get("never") else figures[metric]["value"]
    stations = {"node": float(node), "workers": float(workers)}
    return row(figures) | stations | {name: figures[metric]["value"] for name, metric in COUNTED.items()} | {"value": value}


def screened(scenario: Scenario) -> tuple[Scenario, tuple[str, ...]]:
    """The scenario without what the fleet engine cannot simulate, and that in words."""
    left_out = []
    if scenario.incidents:
        scenario = dataclasses.replace(scenario, incidents=())
        left_out.append("incidents")
    for key, value, words, there in (
        ("broadcaster.nagle", False, "Nagle's algorithm", scenario.broadcaster.costs.nagle),
        ("broadcaster.keep_alive", True, "a connection for each publish", not scenario.broadcaster.costs.keep_alive),
        ("api.save_workers", "own", "saves that wait for the workers of refetches", scenario.api.changes_need_workers),
    ):
        if there and fleet.supports(scenario):
            scenario = scenario.replace({key: value})
            left_out.append(words)
    return scenario, tuple(left_out)


def shortened(scenario: Scenario, most: int = QUICK) -> Scenario:
    """As long as *most* notifications and refetches take, for a search of many simulations; `LEAST` seconds at least."""
    size = sum(expected_size(scenario, scenario.draw_updates(streams(scenario.seed))))
    length = max(min(scenario.duration, LEAST), scenario.duration * min(1.0, most / max(size, 1)))
    return dataclasses.replace(scenario, duration=length)


def with_policy(scenario: Scenario, policy: Policy) -> Scenario:
    """One policy for all pages; a full payload becomes a notification, since it would be fetched in vain."""
    pages = tuple(dataclasses.replace(some, policy=None) for some in scenario.pages)
    broadcast = dataclasses.replace(scenario.broadcast, payload="notify")
    return dataclasses.replace(scenario, policy=policy, pages=pages, broadcast=broadcast)


def grown(scenario: Scenario, growth: str, times: float) -> Scenario:
    """The scenario with *times* as many pages, updates, or users (with pages, servers and updates of theirs). Raises `BadInput`
    where its servers cannot change that often."""
    if growth == "updates":
        more = dataclasses.replace(scenario, workload=busier(scenario.workload, times))
        had, has = (len(some.draw_updates(streams(some.seed))) for some in (scenario, more))
        if times > 1 and has < 0.7 * times * had:
            raise BadInput(
                f"{scenario.fleet.servers} servers cannot change {times:g} times as often: all of them are busy already"
            )
        return more
    scenario = scenario.with_subscribers(max(1, round(scenario.subscribers * times)))
    if growth == "pages":
        return scenario
    users = max(1, round(scenario.fleet.users * times))
    of_each = getattr(scenario.workload, "per", "total") == "server"
    workload = scenario.workload if of_each else busier(scenario.workload, times)
    return dataclasses.replace(scenario, fleet=dataclasses.replace(scenario.fleet, users=users), workload=workload)


def busier(workload: Workload, times: float) -> Workload:
    """*times* as many updates of the same kind. Raises `BadInput` for instants, which are a fixed list."""
    match workload:
        case Superposition():
            return dataclasses.replace(workload, parts=tuple(busier(part, times) for part in workload.parts))
        case Instants():
            raise BadInput("workload instants: exactly these updates cannot become more")
        case Bursty():
            return dataclasses.replace(workload, rate=workload.rate * times, off_rate=workload.off_rate * times)
        case Arrivals():
            return dataclasses.replace(workload, rate=workload.rate * times)
        case _ if workload.per_minute is not None:
            return dataclasses.replace(workload, per_minute=workload.per_minute * times)
        case _:
            return dataclasses.replace(workload, parallel=max(1, round(workload.parallel * times)))


def records(frame: pd.DataFrame) -> list[Row]:
    """The frame's rows."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def priced(scenario: Scenario, run: Run | None = None, fit: Fit | None = None, name: str = "") -> Priced:
    """*scenario* with the costs of *fit* (called *name*); without one, of what the measured *run* says by itself, where that can
    be fitted; else with its own."""
    unknown = []
    if fit is None and run is not None and run.manifest.source == "measured":
        # Here and not above: SciPy, which a scenario without a run need not wait for.
        from sim.prediction.fit import fit as fitted
        from sim.prediction.observations import observe

        try:
            fit, name = fitted(observe([run])), "this run, fitted"
        except BadInput as error:
            unknown.append(f"The run cannot be fitted, so its scenario's costs stand: {error}")
    if fit is None:
        api = scenario.api
        source = (
            f"Costs are the scenario's: {scenario.broadcaster.model}'s broadcaster, application workers: {number(api.workers)}, "
            f"each {seconds(api.service.mean())} a request."
        )
        if not unknown:
            unknown.append("What a request and a delivery really cost: fit them to a load test (workbench fit, then --fit).")
        return Priced(scenario, (), source, tuple(unknown))
    low, high = fit.ranges.get("subscribers", (math.nan, math.nan))
    unknown += [f"{p.key} is not fitted, the scenario's value stands ({p.needs})." for p in fit.parameters if not p.identified]
    if math.isfinite(high) and not low <= scenario.subscribers <= high:
        measured = number(low) if low == high else f"{number(low)} to {number(high)}"
        unknown.append(f"Costs were fitted at {measured} subscribers; this has {number(scenario.subscribers)}.")
    draws = [fit.draw(np.random.default_rng(seed), scenario) for seed in range(REPLICATIONS)]
    return Priced(fit.apply(scenario), draws, f"Costs are those of {name}.", tuple(unknown))


# --- the search ----------------------------------------------------------------------------------------------------------


def advise(
    scenario: Scenario, objective: Objective, waits: tuple[float, ...] = WAITS, draws: Sequence[Mapping[str, Any]] = ()
) -> Advice:
    """*draws*: dotted keys and values, a set for each of the repeated simulations (joint draws of a fit).

    Raises `BadInput` for a scenario that cannot be simulated, or an objective on a figure that no run has.
    """
    quick, left_out = screened(scenario)
    quick = shortened(quick)
    if not any(pages.subscribers for pages in scenario.pages):
        raise BadInput(f"scenario {scenario.name}: no pages to advise on (set pages.0.subscribers)")
    tried = pd.DataFrame(list(_tried(quick, objective, waits)))
    if tried["value"].isna().all():
        raise BadInput(
            f"scenario {scenario.name}: {objective.metric} has no figure with any policy: no update is of what a page shows "
            "(raise the workload's rate, the duration, or the pages)"
        )
    best = _chosen(scenario, objective, tried, draws)
    policy = (best or _nearest(tried))["choice"].policy
    there = with_policy(quick, policy)
    headroom = pd.DataFrame(list(_headroom(quick, there, objective)))
    breaking = _breaking(there, headroom, objective.metric, best is not None)
    ranked, large = (pd.DataFrame(), ()) if breaking is None else _remedies(breaking["scenario"], objective)
    return Advice(
        scenario=scenario,
        objective=objective,
        now=_repeated(scenario, objective, draws),
        best=best,
        tried=tried,
        headroom=headroom,
        limits={} if best is None else {growth: limit(there, objective, growth, TIMES[-1]) for growth in GROWTHS},
        breaking=breaking,
        remedies=ranked,
        left_out=(*left_out, *large),
        searched=quick.duration,
        whole=affordable(scenario, REPEATED),
    )


def _tried(scenario: Scenario, objective: Objective, waits: tuple[float, ...]) -> Iterator[Row]:
    """Every setting once, on the same updates."""
    for choice in (Choice("at once", "no wait", Immediate()), *grid(waits)):
        if isinstance(choice.policy, Polling) and polled(scenario, choice.policy) >= 1:
            continue  # its queue has no end
        found = trial(with_policy(scenario, choice.policy), objective.metric)
        met = objective.met([found["value"]])
        label = {"policy": choice.family, "setting": choice.setting, "choice": choice}
        yield label | found | {"met": met, "polling": isinstance(choice.policy, Polling)}


def polled(scenario: Scenario, policy: Polling) -> float:
    """Share of the workers' time that polling takes; beyond 1 it cannot be answered."""
    return scenario.subscribers * scenario.api.service.mean() / (policy.interval * scenario.api.workers)


def _chosen(scenario: Scenario, objective: Objective, tried: pd.DataFrame, draws: Sequence[Mapping[str, Any]]) -> Row | None:
    """The cheapest setting that surely meets the objective, also with other updates; else the first that perhaps does."""
    able = tried[(tried["met"] == "yes") & ~tried["polling"]].sort_values([COST, "fresh_mean"], kind="stable")
    perhaps = None
    for setting in records(able.head(FINALISTS)):
        label = {name: setting[name] for name in ("policy", "setting", "choice")}
        found = label | _repeated(with_policy(scenario, setting["choice"].policy), objective, draws)
        if found["met"] == "yes":
            return found
        if found["met"] == "unsure" and perhaps is None:
            perhaps = found
    return perhaps


def _nearest(tried: pd.DataFrame) -> Row:
    """What comes nearest to the objective where none meets it; of what comes as near, the cheapest."""
    return records(tried[~tried["polling"]].sort_values(["value", COST], kind="stable", na_position="last"))[0]


def _repeated(scenario: Scenario, objective: Objective, draws: Sequence[Mapping[str, Any]]) -> Row:
    """Means over `REPLICATIONS` with updates that the search has not seen; `values`, `met`."""
    scenario = scenario if affordable(scenario, REPEATED) else screened(scenario)[0]
    rows = []
    for r in range(REPLICATIONS):
        drawn = scenario.replace({**(draws[r % len(draws)] if draws else {}), "seed": scenario.seed + 1 + r})
        rows.append(trial(drawn, objective.metric))
    frame = pd.DataFrame(rows)
    values = frame["value"].tolist()
    means: Row = {str(name): value for name, value in frame.mean(numeric_only=True).items()}
    return means | {"values": values, "met": objective.met(values)}


# --- growth --------------------------------------------------------------------------------------------------------------


def _headroom(now: Scenario, best: Scenario, objective: Objective) -> Iterator[Row]:
    for growth in GROWTHS:
        for times in (1, *TIMES):
            for policy, scenario in (("now", now), ("best", best)):
                try:
                    more = grown(scenario, growth, times)
                except BadInput:
                    continue
                found = trial(more, objective.metric)
                label = {"growth": growth, "times": times, "policy": policy, "subscribers": more.subscribers}
                yield label | found | {"met": objective.met([found["value"]])}


class Bracket(NamedTuple):
    """The two loads between which a limit lies."""

    held: float = 0.0
    """The most that held; 0: none has yet."""
    missed: float = math.inf
    """The least that did not; inf: all have."""

    def narrowed(self, load: float, holds: bool) -> Bracket:
        return Bracket(load, self.missed) if holds else Bracket(self.held, load)

    def following(self, first: float, least: float, most: float, precision: float) -> float | None:
        """The load to try next: *first*, then doubled or halved, then the middle of the logarithm. None: they are within
        *precision* (a share) of each other, or *least* did not hold, or *most* did."""
        if self.held and math.isfinite(self.missed):
            return math.sqrt(self.held * self.missed) if self.missed / self.held > 1 + precision else None
        if self.held:
            return min(2 * self.held, most) if self.held < most else None
        if math.isfinite(self.missed):
            return max(self.missed / 2, least) if self.missed > least else None
        return first


def limit(scenario: Scenario, objective: Objective, growth: str = "pages", most: float = MOST, precision: float = 0.02) -> Limit:
    """The limit of one *growth*, up to *most* times; where the present load misses it, downwards to a single page."""
    rows: list[Row] = []
    bracket = Bracket()
    while (times := bracket.following(1.0, 1 / scenario.subscribers, most, precision)) is not None:
        try:
            more = grown(scenario, growth, times)
        except BadInput:  # its servers cannot change more often
            break
        rows.append({"times": times, "subscribers": more.subscribers} | trial(more, objective.metric))
        bracket = bracket.narrowed(times, objective.met([rows[-1]["value"]]) == "yes")
    trail = pd.DataFrame(rows).sort_values("times", ignore_index=True)
    return Limit(math.inf if bracket.held >= most else bracket.held, bracket.missed, trail)


def _breaking(scenario: Scenario, headroom: pd.DataFrame, metric: str, now: bool) -> Row | None:
    """The least growth at which the objective is missed, users first; and why."""
    best = headroom[headroom["policy"] == "best"]
    rows = best[(best["met"] != "yes") & (best["times"] > (1 if now else 0))]
    if rows.empty:
        return None
    order = {name: i for i, name in enumerate(("users", "pages", "updates"))}
    ordered = rows.assign(order=rows["growth"].map(order)).sort_values(["times", "order"], kind="stable")
    first = records(ordered)[0]
    there = grown(scenario, first["growth"], first["times"])
    return first | {"scenario": there, "cause": cause(there, first, metric)}


def cause(scenario: Scenario, found: Mapping[str, Any], metric: str = "") -> str:
    """The cause of a missed objective, in words: a station without time left, one event's fan-out (where the objective's *metric*
    is about that), a herd, or the policy itself."""
    node, workers = float(found["node"]), float(found["workers"])
    if max(node, workers) >= BUSY:
        if node >= workers:
            return f"one broadcaster node: it is busy {percent(min(node, 1.0))} of the time{_generic(scenario)}"
        count = scenario.api.workers
        what = "its one worker is" if count == 1 else f"its {number(count)} workers are"
        return f"the application: {what} busy {percent(min(workers, 1.0))} of the time"
    pages, drain = herd(scenario)
    if metric.startswith(("time_to_notified", "fan_out")):
        costs, nodes = scenario.broadcaster.costs, scenario.broadcaster.nodes
        last = pages / nodes * (costs.compose_per_subscriber + costs.between(scenario.extra_payload))
        return f"the fan-out: one event goes to {number(pages)} pages, one after the other, in {seconds(last)}"
    if 0.2 * float(found["fresh_p95"]) < drain < math.inf:
        return f"the herd: {number(pages)} pages fetch after one event, and the application answers them within {seconds(drain)}"
    return "the policy: no station is short of time, pages wait for it"


def _generic(scenario: Scenario) -> str:
    """A clause, where most frames are those of the generic channel; else empty."""
    frames = [(pages.page == "dashboard", pages.subscribers * rate) for pages, rate in scenario.heard()]
    everything = sum(count for _, count in frames)
    share = sum(count for board, count in frames if board) / everything if everything else 0.0
    generic = share > 0.5 and scenario.broadcast.channels in ("both", "generic")
    return f", {percent(share)} of its frames are those of the generic channel" if generic else ""


def affordable(scenario: Scenario, most: int) -> bool:
    """Whether the fleet engine can, or the run has no more than *most* notifications and refetches."""
    return not fleet.supports(scenario) or sum(expected_size(scenario, scenario.draw_updates(streams(scenario.seed)))) <= most


def _remedies(scenario: Scenario, objective: Objective) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """(each remedy where it breaks, on the same updates: those that meet the objective, cheapest first, then the freshest; those
    that were too large to simulate, in words)."""
    rows, large = [{"remedy": AS_IT_IS, "keys": {}} | trial(scenario, objective.metric)], []
    for remedy, keys in remedies(scenario).items():
        if affordable(changed := scenario.replace(keys), EXACT):
            rows.append({"remedy": remedy, "keys": keys} | trial(changed, objective.metric))
        else:
            large.append(remedy)
    frame = pd.DataFrame(rows)
    frame["met"] = [objective.met([value]) for value in frame["value"]]
    helps = frame["met"] == "yes"
    order = frame.assign(helps=~helps, by=frame[COST].where(helps, frame["value"]))
    ranked = frame.loc[order.sort_values(["helps", "by"], kind="stable").index].reset_index(drop=True)
    return ranked, tuple(f"{remedy} (too large to try there)" for remedy in large)
