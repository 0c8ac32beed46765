"""Strategies for workloads of every kind, and the checks that hold for all of them."""

from __future__ import annotations

from hypothesis import strategies as st

from sim import distributions as d
from sim.workload import (
    NEXT,
    NUMBERED,
    RESOURCES,
    Bursty,
    Change,
    DatabaseOperations,
    Deployments,
    Diurnal,
    Firewall,
    FlashCrowd,
    Heard,
    Instants,
    Logs,
    Mmpp,
    Packages,
    Poisson,
    Provisioning,
    Regular,
    Statuses,
    Superposition,
    Tasks,
    Updates,
)

WORK = (Firewall, Packages, Tasks, DatabaseOperations)

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
    | st.builds(Regular, rates, per, shares)
    | st.builds(Bursty, rates, per, shares, rates, times, times)
    | st.builds(Mmpp, rates, per, shares, st.tuples(rates, rates, rates), st.tuples(*[st.floats(0.1, 5.0)] * 3))
    | st.builds(Diurnal, rates, per, shares, shares, st.floats(1, 50), st.floats(0, 50))
    | st.builds(FlashCrowd, rates, per, shares, st.floats(1, 20), st.floats(0, 10), *[st.floats(0, 5)] * 3)
    | st.builds(Logs, rates, servers=st.integers(1, 5), batch=st.integers(1, 5))
    | st.builds(Statuses, rates, per, of=st.sampled_from([("connection",), ("monitoring", "supervisor", "connection")]))
    | st.builds(Heard, st.floats(0.0, 5.0), st.just("total"), shares, times, times, st.tuples(st.integers(1, 4)))
    | st.builds(Instants, st.lists(st.floats(0, 20), max_size=9).map(tuple), st.integers(1, 3))
)
scripts = st.builds(
    lambda starts, **rest: Provisioning(**starts, **rest),
    starts,
    steps=st.integers(1, 6),
    step_time=times,
    failure=shares,
    speed=st.floats(0.5, 5),
) | st.builds(
    lambda starts, **rest: Deployments(**starts, **rest),
    starts,
    deploying=times,
    failure=shares,
    stages=st.integers(0, 4),
    burst=st.integers(0, 9),
)
work = st.one_of(
    *(st.builds(lambda starts, kind=kind, **rest: kind(**starts, **rest), starts, takes=times, failure=shares) for kind in WORK)
)
workloads = arrivals | scripts | work | st.builds(Superposition, st.lists(arrivals | scripts | work, max_size=3).map(tuple))


SOFTWARE: dict[object, set[str]] = {
    "installing": {"completed", "failed"},
    "completed": {"removing"},
    "failed": {"removing"},
    "removing": {"removed"},
    "removed": {"installing"},
}
MOVES: dict[str, dict[object, set[str]]] = {
    "status": {now: set(then) for now, then in NEXT.items()},
    "rule": {
        None: {"pending"},
        "pending": {"installing"},
        "installing": {"completed", "failed"},
        "completed": {"installing", "removed"},
        "failed": {"installing"},
    },
    "connection": {None: {"removed"}, "removed": {"completed"}, "completed": {"removed"}},
    "monitoring": {None: {"removing"}, **SOFTWARE},
    "scheduler": {None: {"removing"}, **SOFTWARE},
    "supervisor": {None: {"installing"}, **SOFTWARE},
    "progress": {None: {"completed"}},
    "log": {None: {"completed"}},
    "task": {None: {"pending"}, "pending": {"completed", "failed"}},
}


def illegal_moves(updates: Updates) -> list[object]:
    """Updates that change nothing, or that the application does not allow."""
    now: dict[tuple[str, int, str, int], Change] = {}
    found: list[object] = []
    for update in updates:
        key = (update.resource, update.resource_id, update.aspect, update.step)
        if update.resource == "site":
            legal = update.step == 0 and (update.status == "installing") != (now.get(key) == "installing")
        elif update.resource == "task":
            legal = update.step == 0 and update.status in ("completed", "failed")
        else:
            legal = (update.step >= 1) == (update.aspect in NUMBERED) and update.status in MOVES[update.aspect].get(
                now.get(key), ()
            )
        if not legal:
            found.append((update, now.get(key)))
        now[key] = update.status
    return found


def of_resource(updates: Updates, resource: str) -> Updates:
    return updates[updates.resource == RESOURCES.index(resource)]
