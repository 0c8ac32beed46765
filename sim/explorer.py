"""Sliders over one page's policy, for JupyterLab: closed forms as you drag, and the fleet engine's answer for so many pages.

    from sim import explorer
    explorer.explore()

`answer` is what the sliders call; it needs no widgets.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from sim import study
from sim.errors import BadInput
from sim.policy import Debounce, Policy, Polling, Window
from sim.results.answers.report import describe
from sim.results.text import number, percent, seconds
from sim.scenario import Fleet, Pages, Scenario
from sim.virtual.theory import predict
from sim.workload import Poisson


def policies(wait: float, max_wait: float) -> list[Policy]:
    """What is compared at one setting of the sliders; *max_wait* 0: none."""
    capped = [Debounce(wait=wait, max_wait=max(max_wait, wait))] if max_wait else []
    return [Debounce(wait=wait), *capped, Window(wait=wait), Polling(interval=wait)]


def answer(wait: float, max_wait: float, rate: float, subscribers: int, seconds_of_updates: float = 120.0) -> pd.DataFrame:
    """One row per policy: time to fresh and load by closed form, and by simulation with *subscribers* pages."""
    scenario = Scenario(
        duration=seconds_of_updates,
        drain=max(10.0, 4 * wait),
        fleet=Fleet(users=1),
        workload=Poisson(rate=rate),
        pages=(Pages("dashboard", subscribers),),
    )
    rows = {}
    for policy in policies(wait, max_wait):
        drawn = study.simulated(scenario, policy)
        exact = closed_form(policy, rate)
        rows[describe(policy)] = {
            "mean, theory": seconds(exact.get("time_to_fresh.mean")),
            "p95, theory": seconds(exact.get("time_to_fresh.p95")),
            "p95, simulated": seconds(drawn["fresh_p95"]),
            "never shown": percent(drawn["never_share"]),
            "refetches/s": number(drawn["refetches_per_update"] * rate),
            "peak/s": number(drawn["peak"]),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def closed_form(policy: Policy, rate: float) -> dict[str, float]:
    """The closed forms; empty where there is none."""
    try:
        return predict(policy, rate)
    except BadInput:
        return {}


def explore() -> Any:
    """Sliders for wait, maxWait, update rate and subscribers, and the table of `answer` below them."""
    import ipywidgets as widgets

    def slider(label: str, value: float, low: float, high: float, step: float) -> Any:
        return widgets.FloatSlider(
            value=value,
            min=low,
            max=high,
            step=step,
            description=label,
            continuous_update=False,
            style={"description_width": "9em"},
        )

    return widgets.interactive(
        answer,
        wait=slider("wait, s", 0.5, 0.05, 3.0, 0.05),
        max_wait=slider("maxWait, s (0: none)", 0.0, 0.0, 6.0, 0.1),
        rate=slider("updates per second", 2.0, 0.1, 20.0, 0.1),
        subscribers=widgets.IntSlider(value=300, min=1, max=5000, description="subscribers", continuous_update=False),
        seconds_of_updates=widgets.fixed(120.0),
    )
