"""Sliders over one channel and its policy, for JupyterLab: front, starvation map and saw-tooth follow them as you drag.

    from sim import explorer
    explorer.explore()

Everything is closed form, so that it keeps up: Poisson updates on one channel, pages that all hear them, and an application whose
workers answer the pages of one herd one after the other. Where herds meet or a burst comes, simulate. `figures`, `front`,
`late` and `picture` are what the sliders call; they need no widgets.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log10
from typing import Any

import numpy as np
import pandas as pd

from sim.clock import SECOND, ns
from sim.policy import Debounce, Policy, Polling, RateLimit, Window, fires
from sim.results import fronts
from sim.results.answers.choices import WAITS, describe
from sim.results.text import number, percent, seconds
from sim.virtual.theory import predict

POLICIES: dict[str, Callable[[float, float], Policy]] = {
    "debounce": lambda wait, times: Debounce(wait=wait),
    "debounce with maxWait": lambda wait, times: Debounce(wait=wait, max_wait=times * wait, timing="lodash"),
    "debounce, leading and trailing": lambda wait, times: Debounce(wait=wait, leading=True),
    "window (maxWait = wait)": lambda wait, times: Window(wait=wait),
    "rate limit": lambda wait, times: RateLimit(wait=wait),
    "polling": lambda wait, times: Polling(interval=wait),
}
"""Name -> the policy of a wait (polling: interval, s) and of maxWait as a multiple of it."""

MAP_RATES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
MAP_WAITS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
LIMIT = 5.0
"""Seconds of mean lateness from which the map prints in bold."""

SPAN = 20.0
"""Seconds of the saw-tooth."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the sliders stand."""

    policy: str = "debounce"
    wait: float = 0.5
    """Of the policy, or between polls, s."""
    max_wait: float = 3.0
    """Multiple of the wait; counts for the policy with maxWait only."""
    rate: float = 2.0
    """Updates per second on the channel."""
    subscribers: int = 300
    service: float = 0.005
    """Of one refetch, s."""
    workers: int = 4


@lru_cache(maxsize=4096)
def _exact(policy: Policy, rate: float) -> dict[str, float]:
    return predict(policy, rate)


def figures(at: Setting) -> dict[str, float]:
    """The figures of one setting, all pages together.

    refetches_per_second; busy (share of the workers' time that this takes; from 1 on nothing is answered in time); drain (s that
    one herd takes; a single answer where pages poll, each at an instant of its own); late, late_p95 (mean and 95th percentile of
    the time to fresh, s; inf: never; the latter an upper bound, and NaN where there is no closed form).
    """
    exact = _exact(POLICIES[at.policy](at.wait, at.max_wait), at.rate)
    load = exact["refetch_rate.mean"] * at.subscribers
    busy = load * at.service / at.workers
    herd = 1 if at.policy == "polling" else at.subscribers
    response = at.service * np.ceil(np.arange(1, herd + 1) / at.workers)
    # A page that reads late finds what came meanwhile: exact for a debounce whose herds do not meet, close for the others.
    read = np.minimum(response - at.service, at.wait)
    early = np.minimum(read * exact["refetch_rate.mean"], 1.0)
    late = float(((1 - early) * (exact["time_to_fresh.mean"] + response) + early * (response - read / 2)).mean())
    p95 = exact.get("time_to_fresh.p95", np.nan) + float(response[-1])
    late, p95 = (np.inf, np.inf) if busy >= 1 else (late, p95)
    return {"refetches_per_second": load, "busy": busy, "drain": float(response[-1]), "late": late, "late_p95": p95}


def front(at: Setting) -> pd.DataFrame:
    """Every policy at every usual wait, and the setting itself: policy, setting, wait (s), the `figures`, dominated."""
    rows = []
    for name in POLICIES:
        for wait in sorted({*WAITS, at.wait} if name == at.policy else WAITS):
            found = figures(replace(at, policy=name, wait=wait))
            rows.append({"policy": name, "setting": seconds(wait), "wait": wait} | found)
    return fronts.front(pd.DataFrame(rows), "refetches_per_second", "late")


def late(at: Setting) -> pd.DataFrame:
    """Mean time to fresh (s) of the policy: index wait, columns updates per second; inf where the workers are too few."""
    return pd.DataFrame(
        {rate: {wait: figures(replace(at, rate=rate, wait=wait))["late"] for wait in MAP_WAITS} for rate in MAP_RATES}
    )


def saw_tooth(at: Setting, seed: int = 1) -> tuple[pd.DataFrame, np.ndarray]:
    """(corners of the age of what a page in the middle of its herd shows: at, age; instants of the updates), s.

    The same draws whatever the sliders say: a faster rate moves the updates together, and changes nothing else.
    """
    span = max(SPAN, 10 / at.rate)
    gaps = np.random.default_rng(seed).exponential(size=int(span * at.rate * 1.5) + 50) / at.rate
    updates = np.cumsum(gaps)
    updates = updates[updates < span]
    policy = POLICIES[at.policy](at.wait, at.max_wait)
    if isinstance(policy, Polling):
        due = np.arange(at.wait, span, at.wait)
    else:
        due = np.array(fires(policy, [ns(update) for update in updates], ns(span)), dtype=float) / SECOND
    herd = 1 if at.policy == "polling" else at.subscribers
    answered = due + at.service * -(-(herd + 1) // 2 // at.workers)
    if figures(at)["busy"] >= 1:
        due = answered = np.empty(0)
    # What a refetch finds is the newest update before it; the page shows an update of the past when the picture begins.
    found = np.r_[0.0, updates][np.searchsorted(updates, due, side="right")]
    newer = np.r_[True, np.diff(found) > 0] if len(found) else np.empty(0, bool)
    since, shown = np.r_[0.0, answered[newer]], np.r_[0.0, found[newer]]
    until = np.r_[since[1:], span]
    kept = since < span
    at_ = np.column_stack([since, np.minimum(until, span)])[kept]
    return pd.DataFrame({"at": at_.ravel(), "age": (at_ - shown[kept, None]).ravel()}), updates


def words(at: Setting) -> str:
    """The setting's figures as a sentence or two."""
    found = figures(at)
    policy = describe(POLICIES[at.policy](at.wait, at.max_wait))
    load = f"{number(found['refetches_per_second'])} refetches/s keep the workers busy {percent(found['busy'])}"
    if found["busy"] >= 1:
        needed = int(found["busy"] * at.workers) + 1
        return f"{policy}: the application does not keep up. {load}; {number(needed)} workers would."
    p95 = f", 95 % within {seconds(found['late_p95'])}" if np.isfinite(found["late_p95"]) else ""
    herd = "" if at.policy == "polling" else f" One event's refetches take {seconds(found['drain'])}."
    return f"{policy}: a change is on the page after {seconds(found['late'])} on average{p95}. {load}.{herd}"


@lru_cache(maxsize=1)
def _paper() -> Any:
    from sim.results.plots.policies import empty_choice

    return empty_choice()


def picture(at: Setting) -> bytes:
    """Front, map and saw-tooth at this setting, as a PNG."""
    from sim.results.plots.policies import Chosen, plot_choice

    chosen = Chosen(at.policy, at.wait, at.rate)
    figure = plot_choice(front(at), late(at), *saw_tooth(at), chosen, limit=LIMIT, figure=_paper())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def explore() -> Any:
    """The sliders, with the sentence and the picture below them; where no widgets are shown, the picture alone."""
    import ipywidgets as widgets

    start = Setting()
    style = {"description_width": "17em"}

    def slider(kind: Any, label: str, value: float, low: float, high: float, **options: Any) -> Any:
        # A layout of its own: one that is shared would hide all sliders with the first.
        layout = widgets.Layout(width="50em")
        return kind(value=value, min=low, max=high, description=label, style=style, layout=layout, **options)

    controls: dict[str, Any] = {
        "policy": widgets.Dropdown(
            options=list(POLICIES), value=start.policy, description="policy", style=style, layout=widgets.Layout(width="36em")
        ),
        "wait": slider(widgets.FloatSlider, "wait or interval, s", start.wait, 0.05, 3.0, step=0.05),
        "max_wait": slider(widgets.FloatSlider, "maxWait, times the wait", start.max_wait, 2.0, 10.0, step=0.5),
        "rate": slider(
            widgets.FloatLogSlider,
            "updates per second",
            start.rate,
            log10(start.rate) - 1.3,
            1.4,
            step=0.02,
            readout_format=".3g",
        ),
        "subscribers": slider(widgets.IntSlider, "subscribers", start.subscribers, 1, 5000),
        "service": slider(
            widgets.FloatLogSlider, "service time of a refetch, s", start.service, log10(start.service) - 1, 0, step=0.02
        ),
        "workers": slider(widgets.IntSlider, "workers of the application", start.workers, 1, 64),
    }
    # Their steps lie on the starting values: a browser moves a slider to its nearest step.
    controls["service"].readout_format = ".3g"
    sentence, shown = widgets.HTML(), widgets.Image(format="png")
    sentence.add_class("explorer-words")

    def follow(_: Any = None) -> None:
        at = Setting(**{name: control.value for name, control in controls.items()})
        controls["max_wait"].layout.display = None if at.policy == "debounce with maxWait" else "none"
        sentence.value, shown.value = f"<b>{words(at)}</b>", picture(at)

    for control in controls.values():
        control.observe(follow, "value")
    follow()

    class Explorer(widgets.VBox):
        """Also a picture, for a reader without a kernel."""

        def _repr_mimebundle_(self, **options: Any) -> Any:
            bundle = super()._repr_mimebundle_(**options)
            return {**bundle, "text/plain": words(start), "image/png": picture(start)}

    return Explorer([*controls.values(), sentence, shown])
