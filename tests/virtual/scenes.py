"""Small worlds in which every duration is a round number, so that every instant can be said in advance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sim.distributions import Constant
from sim.policy import Debounce
from sim.results.summary import summarise
from sim.scenario import Api, Broadcaster, Fleet, Network, Pages, Scenario
from sim.virtual.ledger import Tables
from sim.virtual.reference import run
from sim.workload import Instants

MS = 1_000_000

EXACT = Scenario(
    name="exact",
    duration=10,
    drain=10,
    cooldown=0,
    fleet=Fleet(users=1, servers_per_user=1, sites_per_user=1),
    workload=Instants(at=(1.0,)),
    pages=(Pages("detail", 1),),
    policy=Debounce(0.5),
    network=Network(Constant(0.002), Constant(0.003), Constant(0.004)),
    broadcaster=Broadcaster(fixed=0.001, per_subscriber=0.0001),
    api=Api(workers=1, service=Constant(0.01)),
)
"""One server, one detail page. Network: to broadcaster 2 ms, to subscriber 3 ms, to application 4 ms. Fan-out: 1 ms and 0.1 ms
each. Service: 10 ms."""


def scene(at: Sequence[float] = (1.0,), **changes: Any) -> Scenario:
    """`EXACT` with updates of server 1 at these seconds; *changes* by keys with `__` for the dot."""
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return EXACT.replace({"workload": {"kind": "instants", "at": list(at)}, **keys})


def play(at: Sequence[float] = (1.0,), **changes: Any) -> Tables:
    return run(scene(at, **changes))


def ms(column: pd.Series) -> list[float | None]:
    """Instants in milliseconds, None for never."""
    return [None if np.isnan(value) else round(value * 1000, 6) for value in column]


def figure(tables: Tables, name: str) -> float:
    """A figure of the summary."""
    value = summarise(tables)[name]["value"]
    assert value is not None
    return float(value)


def metric(tables: Tables, name: str) -> float:
    """The last sample of a metric."""
    return float(tables.metrics.loc[tables.metrics["metric"] == name, "value"].iloc[-1])
