"""Strategies for workloads of every kind, and the checks that hold for all of them."""

from __future__ import annotations

from hypothesis import strategies as st

from sim import distributions as d
from sim.workload import (
    NEXT,
    RESOURCES,
    Bursty,
    Constant,
    Deployments,
    Diurnal,
    FlashCrowd,
    Instants,
    Logs,
    Mixture,
    Mmpp,
    Poisson,
    Provisioning,
    Status,
    Updates,
)

rates = st.floats(0.0, 30.0)
shares = st.floats(0.0, 1.0)
per = st.sampled_from(["total", "server"])
times = st.builds(d.Exponential, st.floats(0.1, 5.0)) | st.builds(d.Lognormal, st.floats(0.1, 5.0), st.floats(0.0, 2.0))
starts = st.fixed_dictionaries(
    {"parallel": st.integers(1, 5), "stagger": st.floats(0, 3), "runs": st.none() | st.integers(0, 5)},
    optional={"per_minute": st.floats(0, 60)},
)

arrivals = (
    st.builds(Poisson, rates, per, shares)
    | st.builds(Constant, rates, per, shares)
    | st.builds(Bursty, rates, per, shares, rates, times, times)
    | st.builds(Mmpp, rates, per, shares, st.tuples(rates, rates, rates), st.tuples(*[st.floats(0.1, 5.0)] * 3))
    | st.builds(Diurnal, rates, per, shares, shares, st.floats(1, 50), st.floats(0, 50))
    | st.builds(FlashCrowd, rates, per, shares, st.floats(1, 20), st.floats(0, 10), *[st.floats(0, 5)] * 3)
    | st.builds(Logs, rates, servers=st.integers(1, 5), batch=st.integers(1, 5))
    | st.builds(Instants, st.lists(st.floats(0, 20), max_size=9).map(tuple), st.integers(1, 3))
)
scripts = st.builds(
    lambda starts, **rest: Provisioning(**starts, **rest),
    starts,
    steps=st.integers(1, 6),
    step_time=times,
    failure=shares,
    speed=st.floats(0.5, 5),
) | st.builds(lambda starts, **rest: Deployments(**starts, **rest), starts, deploying=times, failure=shares)
workloads = arrivals | scripts | st.builds(Mixture, st.lists(arrivals | scripts, max_size=3).map(tuple))


def illegal_moves(updates: Updates) -> list[object]:
    """Updates that change nothing, or that the transition table does not allow."""
    now: dict[tuple[str, int, int], Status] = {}
    found: list[object] = []
    for update in updates:
        key = (update.resource, update.resource_id, update.step)
        if update.resource == "site":
            legal = update.step == 0 and (update.status == "installing") != (now.get(key) == "installing")
        else:
            legal = update.step >= 1 and update.status in NEXT[now.get(key)]
        if not legal:
            found.append((update, now.get(key)))
        now[key] = update.status
    return found


def of_resource(updates: Updates, resource: str) -> Updates:
    return updates[updates.resource == RESOURCES.index(resource)]
