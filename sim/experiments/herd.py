"""Herds of refetches after a generic event: how long the application needs for one, what tames it, and when it never recovers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from sim.distributions import Constant, Exponential
from sim.experiments.remedies import AS_IT_IS, remedies
from sim.incidents import Outage
from sim.policy import Debounce, Immediate
from sim.prediction import fit
from sim.results.answers.choices import describe
from sim.results.ledger import costs
from sim.results.ledger.book import ledger_of
from sim.results.ledger.herds import herds
from sim.results.run import Run
from sim.results.summary import sampled_share
from sim.results.text import percent
from sim.scenario import Api, Fleet, Pages, Scenario, to_dict
from sim.study import NO_TIME, row, summary, variants
from sim.virtual import reference
from sim.virtual.ledger import Tables
from sim.virtual.theory import jittered_herd_response_mean, retry_utilisation_max
from sim.workload import Poisson, Regular

# --- measured herds ------------------------------------------------------------------------------------------------------


def of(run: Run, least: int = 10) -> pd.DataFrame:
    """The run's herds inside its window (`herds.herds`), scaled to all subscribers: at, size, span, drain, p99, answered (per s).

    Herds of fewer than *least* refetches are stragglers.
    """
    refetches = ledger_of(run).refetches
    found = herds(refetches[refetches["answered"] > 0], gap=1.0)
    found = found[(found["at"] < ledger_of(run).window.end) & (found["size"] >= least)].reset_index(drop=True)
    return found.assign(answered=found["size"] / found["drain"])


def beside(runs: list[Run]) -> pd.DataFrame:
    """The herds of the last of several runs, to compare with those of the first; empty where there is only one."""
    found = of(runs[-1])
    return found if len(runs) > 1 else found.head(0)


def in_flight(run: Any, share: float = 1.0) -> pd.DataFrame:
    """Refetches sent and not answered yet, over time: at (s), running; scaled by the *share* of pages that have rows."""
    sent = run.refetches[run.refetches["started_at"].notna() & run.refetches["finished_at"].notna()]
    at = np.r_[sent["started_at"].to_numpy(), sent["finished_at"].to_numpy()]
    step = np.r_[np.ones(len(sent)), -np.ones(len(sent))]
    order = np.argsort(at, kind="stable")
    frame = pd.DataFrame({"at": at[order], "running": np.cumsum(step[order]) / share})
    return frame[frame["at"] >= 0].reset_index(drop=True)


def label(run: Run) -> str:
    """A run in a few words: name, policy, and of how many of its pages it has rows."""
    share = sampled_share(run)
    words = [run.name, describe(run.scenario.policy)]
    return ", ".join(words if share == 1 else [*words, f"rows of {percent(share)} of the pages"])


def flights(runs: Iterable[Run]) -> dict[str, pd.DataFrame]:
    """`in_flight` of each run, by name."""
    return {run.name: in_flight(run, sampled_share(run)) for run in runs}


def cpu_per_herd(run: Run, herds: int) -> float:
    """Seconds of the application's CPU for one herd, the changes behind it included; NaN where it kept no counter."""
    found = costs.costs(run)
    return found["cpu_per_refetch"] * found["refetches"] / herds if herds else float("nan")


def cpu(runs: Iterable[Run]) -> dict[str, pd.DataFrame]:
    """CPU of the application over time, by run: at (s), share (of one core, since the sample before)."""
    found = {run.name: costs.spent(ledger_of(run), "application") for run in runs}
    return {name: rows[["at"]].assign(share=rows["used"] / rows["seconds"]) for name, rows in found.items()}


BUSY, HERDS = 0.7, 20
"""Where remedies are compared: how busy the workers are, and about how many herds there are."""


def smaller(scenario: Scenario, pages: int) -> Scenario:
    """The same herd in small: fewer *pages*, and fewer workers in proportion, so that a herd takes as long; events at random.

    Events come at the rate that keeps the workers `BUSY`. Four pages a user, so that a channel per user differs from one for all.
    """
    rate = BUSY * capacity(scenario) / scenario.subscribers
    factor = max(1, round(scenario.subscribers / pages))
    workers = max(1, scenario.api.workers // factor)
    slower = scenario.api.workers / factor / workers
    service = Constant(scenario.api.service.mean() / slower)
    return scenario.with_subscribers(pages).replace(
        {
            "duration": HERDS / rate,
            "fleet.users": pages // 4,
            "workload": to_dict(Poisson(rate=rate)),
            "api.workers": workers,
            "api.service": to_dict(service),
        }
    )


def fitted(run: Run) -> Scenario:
    """The run's scenario with every parameter that can be fitted to it, without the save: no herd waits for that."""
    return fit.fitted(run, "broadcaster.", "network.", "api.service", "api.workers", *SIZES)


SIZES = ("api.answer_bytes", "api.dashboard_bytes", "api.not_modified_bytes")


# --- what jitter does ----------------------------------------------------------------------------------------------------


def jitters(size: int, seconds_each: float, workers: int, spans: Iterable[float]) -> pd.DataFrame:
    """One herd of *size* refetches of *seconds_each* on *workers*, spread over each span: theory and the fleet engine.

    Columns: jitter (s), mean, p95 (from the fire to the screen, s), longest_wait (in the queue, s), source.
    """
    rows, wait = [], max(spans := tuple(spans), default=0.0) * 1.01 + 0.5
    for span in spans:
        exact = jittered_herd_response_mean(size, workers, seconds_each, span)
        rows.append({"jitter": span, "mean": exact, "source": "theory"})
        figures = summary(_one_herd(size, seconds_each, workers, wait, span))
        rows.append(
            {
                "jitter": span,
                "mean": figures["time_to_fresh.mean"]["value"] - wait,
                "p95": figures["time_to_fresh.p95"]["value"] - wait,
                "longest_wait": figures["queue_wait.max"]["value"],
                "source": "simulated",
            }
        )
    return pd.DataFrame(rows)


def _one_herd(size: int, each: float, workers: int, wait: float, jitter: float) -> Scenario:
    """One event to *size* dashboards; nothing but debounce, jitter and the application takes time."""
    return Scenario(
        name="one herd",
        duration=2.0,
        drain=2 * wait + 2 * size * each / workers + 10,
        cooldown=0.0,
        fleet=Fleet(users=1),
        workload=Regular(rate=0.9),
        pages=(Pages("dashboard", size),),
        policy=Debounce(wait=wait, jitter=jitter),
        api=Api(workers=workers, service=Constant(each)),
    ).replace(NO_TIME)


def jitter_error(frame: pd.DataFrame) -> float:
    """Largest relative difference between simulated and theoretical means (`jitters`)."""
    theory, drawn = (frame[frame["source"] == source].set_index("jitter")["mean"] for source in ("theory", "simulated"))
    return float((drawn / theory - 1).abs().max())


# --- how many pages ------------------------------------------------------------------------------------------------------


def loads(scenario: Scenario, sizes: Iterable[int]) -> pd.DataFrame:
    """The scenario with ever more pages: subscribers, offered (refetches/s), utilisation, p50, p99 (time to fresh), never shown.

    By the fleet engine where it is exact. What was never shown before the end of the run is infinitely late.
    """
    rows = []
    for size in sizes:
        changed = scenario.with_subscribers(size)
        figures = summary(changed)
        offered = figures["refetch_rate.mean"]["value"]
        found = row(figures)
        rows.append(
            {"subscribers": size, "offered": offered, "utilisation": offered / capacity(changed)}
            | {"p50": found["fresh_p50"], "p99": found["fresh_p99"], "never": found["never_share"]}
        )
    return pd.DataFrame(rows)


def limit(scenario: Scenario) -> int:
    """Pages from which on their refetches are more than the workers can do, if each event makes every page fetch once."""
    figures = summary(scenario)
    per_event = min(1.0, figures["refetches_per_update"]["value"] / scenario.subscribers)
    rate = figures["updates"]["value"] / scenario.duration
    return int(capacity(scenario) / (per_event * rate))


def tails(loads: pd.DataFrame) -> pd.DataFrame:
    """`loads` in long form: subscribers, latency (s), group (p50 or p99)."""
    long = loads.melt(["subscribers"], ["p50", "p99"], var_name="group", value_name="latency")
    return long[np.isfinite(long["latency"].astype(float))]


def capacity(scenario: Scenario) -> float:
    """Refetches per second that the application's workers can answer."""
    return scenario.api.workers / scenario.api.service.mean()


# --- what tames it -------------------------------------------------------------------------------------------------------


def tamed(scenario: Scenario, drain: float) -> pd.DataFrame:
    """One row per remedy, simulated by the reference engine on the same updates: `study.variants`, and besides

    running (most refetches in flight at once) and worked (requests that took a worker's time, per update).
    """

    def load(tables: Tables) -> dict[str, float]:
        last = tables.metrics.groupby("metric", observed=True)["value"].last()
        worked = float(last["requests"]) / max(len(tables.updates), 1)
        return {"running": float(in_flight(tables)["running"].max() if len(tables.refetches) else 0), "worked": worked}

    return variants(scenario, {AS_IT_IS: {}, **remedies(scenario, drain)}, more=load)


# --- when it never recovers ----------------------------------------------------------------------------------------------

RETRIES = (0, 1, 2, 3)
WORKERS, SERVICE, TIMEOUT = 8, 0.1, 1.0
"""A slow application: its workers, mean seconds of an answer, seconds of a page's patience."""

TROUBLE = (30.0, 40.0)
"""The outage that is the trigger: from when to when, s."""

UTILISATION = 0.4
"""Where two retries are too many and none is not."""


def outage(utilisation: float, retries: int, budget: float | None = None) -> Scenario:
    """An application at *utilisation*, pages that retry at once *retries* times, and an outage that ends."""
    rate = utilisation * WORKERS / SERVICE
    scenario = Scenario(
        name="outage",
        duration=140.0,
        drain=10,
        fleet=Fleet(users=50),
        workload=Poisson(rate=rate),
        pages=(Pages("detail", 100),),
        policy=Immediate(),
        api=Api(workers=WORKERS, service=Exponential(SERVICE), timeout=TIMEOUT, retries=retries, retry_budget=budget),
    )
    return scenario.replace({"incidents": [to_dict(Outage(at=TROUBLE[0], duration=TROUBLE[1] - TROUBLE[0]))]})


def goodput(refetches: pd.DataFrame, start: float, end: float, step: float = 2.0) -> pd.DataFrame:
    """Share of the refetches of each *step* that were answered at all: at (s), share."""
    sent = refetches[(refetches["due_at"] >= start) & (refetches["due_at"] < end)]
    place = ((sent["due_at"] - start) // step).astype(int)
    good = (sent["status"] == 200).fillna(False).astype(bool).groupby(place).mean()
    return pd.DataFrame({"at": start + good.index.to_numpy() * step, "share": good.to_numpy()})


def boundary(utilisations: Iterable[float], retries: Iterable[int] = RETRIES) -> pd.DataFrame:
    """Goodput in the last quarter of the run, long after the outage, over utilisation: simulated; theory as a step at 1/(1+k).

    Columns: utilisation, goodput (share), group, source.
    """
    rows = []
    for count in retries:
        group = f"{count} retries" if count != 1 else "1 retry"
        edge = retry_utilisation_max(count)
        for utilisation in utilisations:
            scenario = outage(utilisation, count)
            found = reference.run(scenario).refetches
            share = goodput(found, 0.75 * scenario.duration, scenario.duration, step=scenario.duration)["share"]
            rows.append({"utilisation": utilisation, "goodput": float(share.iloc[0]), "group": group, "source": "simulated"})
        steps = ((0.0, 1.0), (edge, 1.0)) if edge == 1 else ((0.0, 1.0), (edge, 1.0), (edge, 0.0), (1.0, 0.0))
        rows += [{"utilisation": at, "goodput": share, "group": group, "source": "theory"} for at, share in steps]
    return pd.DataFrame(rows)


def recoveries(utilisation: float) -> dict[str, pd.DataFrame]:
    """Goodput over time at one utilisation: no retry, retries, and retries with a budget."""
    kinds: dict[str, tuple[int, float | None]] = {
        "no retry": (0, None),
        "2 retries at once": (2, None),
        "2 retries, for a tenth of the requests at most": (2, 0.1),
    }
    found = {}
    for name, (retries, budget) in kinds.items():
        scenario = outage(utilisation, retries, budget=budget)
        found[name] = goodput(reference.run(scenario).refetches, 0.0, scenario.duration)
    return found
