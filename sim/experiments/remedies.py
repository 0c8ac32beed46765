"""What may help where a load is too much: changes of a scenario, each tried alone."""

from __future__ import annotations

import math
from typing import Any

from sim.scenario import Scenario

AS_IT_IS = "as it is"
"""Name of the scenario without any remedy, beside those with one."""


def remedies(scenario: Scenario, drain: float | None = None) -> dict[str, dict[str, Any]]:
    """Remedy -> the dotted keys that it sets, without those that the scenario has already, or that mean nothing there.

    *drain*: seconds that the application needs for a herd; None: as its costs say.
    """
    drain = round(herd(scenario)[1] if drain is None else drain, 3)
    policy, cast = scenario.policy, scenario.broadcast
    wait, cap = (getattr(policy, name, None) for name in ("wait", "max_wait"))
    boards = any(pages.page == "dashboard" and pages.subscribers for pages in scenario.pages)
    tried: dict[str, tuple[bool, dict[str, Any]]] = {
        "a channel for each user": (boards and cast.channels in ("both", "generic"), {"broadcast.channels": "per_user"}),
        "twice the application workers": (True, {"api.workers": 2 * scenario.api.workers}),
        "twice the broadcaster nodes": (True, {"broadcaster.nodes": 2 * scenario.broadcaster.nodes}),
        "twice the wait": (bool(wait), {"policy.wait": 2 * (wait or 0)} | ({"policy.max_wait": 2 * cap} if cap else {})),
        "a window, not a debounce": (policy.kind == "debounce", {"policy": {"kind": "window", "wait": wait}}),
        "jitter over a herd's time": (drain > 0.001 and hasattr(policy, "jitter"), {"policy.jitter": drain}),
        "events coalesced on the server": (
            drain > 0.001 and not cast.debounce,
            {"broadcast.debounce": drain, "broadcast.debounce_max_wait": drain},
        ),
        "answers cached for 1 s": (not scenario.api.cache, {"api.cache": 1.0}),
        "single flight": (scenario.in_flight != "single_flight", {"in_flight": "single_flight"}),
        "the event carries the resource": (True, {"policy": {"kind": "full_payload"}, "broadcast.payload": "full"}),
    }
    return {name: keys for name, (sensible, keys) in tried.items() if sensible}


def herd(scenario: Scenario) -> tuple[int, float]:
    """(pages that one event makes fetch at once, seconds that the application's workers need for them), where it is most."""
    boards = sum(pages.subscribers for pages in scenario.pages if pages.page == "dashboard")
    others = scenario.subscribers - boards
    if scenario.broadcast.channels == "per_user":
        boards = math.ceil(boards / scenario.fleet.users)
    others = math.ceil(others / max(1, scenario.fleet.servers))
    each = scenario.api.service.mean()
    work = boards * (each + scenario.api.service_per_row * scenario.dashboard_rows) + others * each
    return boards + others, work / scenario.api.workers
