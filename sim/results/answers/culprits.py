"""The limits that a run has reached: a sentence for each, which says why figures are bad and which key changes that."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from sim.results import text
from sim.results.answers.choices import describe
from sim.results.text import Summary, number, percent, seconds
from sim.scenario import Scenario

Value = Callable[[str], float]
"""Figure of the summary by its name (`text.value`)."""

FULL = 0.95
"""Share of its time from which a worker, a node or a core counts as busy all the time: its queue then grows with every burst."""

EASY = 0.7
"""Share of the workers' time at which a herd is answered before the next comes, most of the time."""

LATE = 5.0
"""Multiple of its wait from which the 95th percentile of a policy that waits for silence says that silence is rare."""

RARE = 0.25
"""Refetches per notification below which the policy holds pages back, and not what comes after it."""

STARVED = 0.01
"""Share of the updates that some page never showed, from which pages starve."""


def culprits(summary: Summary, scenario: Scenario, updates: pd.DataFrame | None = None) -> list[str]:
    """The limits that a run has reached, most basic first; empty where it reached none. *updates*: the bundle's table."""

    value = partial(text.value, summary)
    slow = math.isinf(value("time_to_fresh.p95")) or value("starved_ratio") > STARVED
    found = [
        _workers(value, scenario),
        *_refused(value, scenario),
        _node(value, scenario),
        _queue(updates, scenario),
        _away(value, scenario) if slow else "",
    ]
    found = [sentence for sentence in found if sentence]
    # A page also starves because it gets no answer: then its policy is not to blame.
    return found or _silence(value, scenario, slow)


def _workers(value: Value, scenario: Scenario) -> str:
    busy = value("utilisation") if not math.isnan(value("utilisation")) else value("application.busy_ratio")
    if busy >= FULL:
        count = scenario.api.workers
        what = "the one application worker is" if count == 1 else f"the {number(count)} application workers are"
        needed = value("refetch_rate.mean") * scenario.api.service.mean() / EASY
        to = f" to {number(math.ceil(needed))}" if needed > count else ""
        return f"{what} busy {percent(busy)}: set api.workers{to}, or have pages refetch less often (policy)"
    cores = value("cpu.application")
    return (
        f"the application's process takes {number(cores)} of a core: give it more processes, or refetch less"
        if cores >= FULL
        else ""
    )


def _refused(value: Value, scenario: Scenario) -> list[str]:
    api, found = scenario.api, []
    if value("application.refused") > 0:
        limits = {"api.rate_limit": api.rate_limit, "api.queue_limit": api.queue_limit}
        named = " or ".join(f"{key} = {number(limit)}" for key, limit in limits.items() if limit is not None)
        found.append(
            f"the application refuses {number(value('application.refused'))} requests: raise {named}, or refetch less often"
        )
    if value("pages.timeouts") > 0 and api.timeout is not None:
        more = value("pages.retries")
        again = f", and {number(more)} retries come on top: set api.retry_budget, or api.retries = 0" if more > 0 else ""
        found.append(
            f"{number(value('pages.timeouts'))} requests wait longer than api.timeout = {seconds(api.timeout)}: "
            f"the application still works on them, in vain{again}"
        )
    return found


def _node(value: Value, scenario: Scenario) -> str:
    busy, cores = value("broadcaster.utilisation"), value("cpu.broadcaster")
    if busy >= FULL:
        count = scenario.broadcaster.nodes
        what = "the broadcaster's one node is" if count == 1 else f"a node of the broadcaster's {number(count)} is"
        return f"{what} busy {percent(busy)}: set broadcaster.nodes, or channels that fewer pages hear (broadcast.channels)"
    if cores >= FULL * scenario.broadcaster.nodes:
        return f"the broadcaster takes {number(cores)} of a core: set broadcaster.nodes, or channels that fewer pages hear"
    return ""


def _queue(updates: pd.DataFrame | None, scenario: Scenario) -> str:
    """Events that wait ever longer for a worker of the queue: the last quarter of them much longer than the first."""
    cast = scenario.broadcast
    if updates is None or cast.dispatch != "queued":
        return ""
    waits = (updates["published_at"] - updates["committed_at"]).dropna().to_numpy(dtype=float)
    quarter = len(waits) // 4
    if quarter < 5:
        return ""
    first, last = float(np.median(waits[:quarter])), float(np.median(waits[-quarter:]))
    if last < 2 * first or last - first < 0.5:
        return ""
    count = cast.queue_workers
    what = "one worker" if count == 1 else f"{number(count)} workers"
    return (
        f"the publisher's queue grows: an event waits {seconds(last)} at the end, {seconds(first)} at the start, "
        f"for {what}: set broadcast.queue_workers, or broadcast.unique"
    )


def _away(value: Value, scenario: Scenario) -> str:
    missed = value("deliveries.missed_while_away")
    if not missed > 0 or all(pages.refetch_on_reconnect for pages in scenario.pages):
        return ""
    return f"{number(missed)} changes came while their page had no connection: set pages.N.refetch_on_reconnect"


def _silence(value: Value, scenario: Scenario, slow: bool) -> list[str]:
    policies = {scenario.policy_of(pages) for pages in scenario.pages if pages.subscribers}
    found: list[str] = []
    if not value("refetches_per_notification") < RARE:
        return found
    for policy in policies:
        if policy.waits_for_silence and (slow or value("time_to_fresh.p95") > LATE * getattr(policy, "wait", math.inf)):
            starved = value("starved_ratio")
            never = f"; {percent(starved)} of what pages had to show they never did" if starved > 0 else ""
            found.append(
                f"{describe(policy)} waits for a silence that hardly comes{never}: set policy.max_wait, or policy.kind = window"
            )
    return sorted(found)
