"""Before a run, whichever engine it takes: its updates, whether it is possible, how large it will be, and whether that fits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

from sim.errors import BadInput
from sim.policy import FullPayload, Immediate, Polling
from sim.scenario import Pages, Scenario
from sim.workload import RESOURCES, Streams, Updates

Progress = Callable[[float], None]
"""Told the share of the run that is done, 0 to 1."""

BYTES_PER_NOTIFICATION = 90
BYTES_PER_REFETCH = 200
BYTES_PER_PAGE = 2600
BYTES_PER_UPDATE = 400
"""Of peak resident memory, tables included; measured by benchmarks/reference.py --memory."""

SHARE = 0.8
"""Of the memory that is free, this much may be used."""


def draw_updates(scenario: Scenario, rng: Streams) -> Updates:
    """The workload's updates, from the run's start to the end of its window."""
    duration = scenario.warmup + scenario.duration
    if duration == 0:
        return Updates.none()
    return scenario.workload.updates(rng["workload"], duration, scenario.fleet.servers, scenario.fleet.sites)


def check(scenario: Scenario) -> None:
    """Raise `BadInput` where keys contradict each other, or pages would show what the fleet does not have, or never stay."""
    scenario.check()
    for i, pages in enumerate(scenario.pages):
        where = f"scenario {scenario.name}: pages[{i}]"
        if not pages.subscribers:
            continue
        if pages.page == "site" and not scenario.fleet.sites:
            raise BadInput(f"{where} shows sites, but the fleet has none (set fleet.sites_per_user)")
        if pages.page not in ("site", "dashboard") and not scenario.fleet.servers:
            raise BadInput(f"{where} shows servers, but the fleet has none (set fleet.servers_per_user)")
        if pages.session is not None and not pages.session.mean() > 0:
            raise BadInput(f"{where}.session must have a mean > 0 s")


def expected_size(scenario: Scenario, updates: Updates) -> tuple[int, int]:
    """(notifications, refetches) of a run in which nothing goes wrong; refetches are an upper bound."""
    notifications = refetches = 0
    horizon = scenario.warmup + scenario.duration + scenario.drain
    on_server = Counter(updates.resource_id[updates.resource == RESOURCES.index("server")].tolist())
    on_site = Counter(updates.resource_id[updates.resource == RESOURCES.index("site")].tolist())
    for pages in scenario.pages:
        heard = _heard(scenario, pages, on_server, on_site)
        policy = scenario.policy_of(pages)
        if isinstance(policy, Polling):
            refetches += round(pages.subscribers * horizon / policy.interval)
            continue
        notifications += heard
        if isinstance(policy, FullPayload):
            continue
        wait = 0.0 if isinstance(policy, Immediate) else policy.wait
        # Two edges at most in each wait, and never more refetches than notifications.
        refetches += min(heard, round(pages.subscribers * (2 * horizon / wait + 2))) if wait else heard
    return notifications, refetches


def _heard(scenario: Scenario, pages: Pages, on_server: Counter[int], on_site: Counter[int]) -> int:
    """Notifications of one group of pages."""
    kind, fleet = scenario.broadcast.channels, scenario.fleet
    if pages.page == "dashboard":
        everything = on_server.total() + on_site.total()
        share = 1 / fleet.users if kind == "per_user" else 0 if kind == "specific" else 1
        return round(pages.subscribers * everything * share)
    if kind == "generic":
        return 0
    changes, count = (on_site, fleet.sites) if pages.page == "site" else (on_server, fleet.servers)
    full, odd = divmod(pages.subscribers, count) if count else (0, 0)
    return sum(times * (full + (resource_id <= odd)) for resource_id, times in changes.items())


def check_memory(scenario: Scenario, updates: Updates) -> None:
    """Raise `BadInput` where the run would not fit into the memory that is free."""
    notifications, refetches = expected_size(scenario, updates)
    need = (
        notifications * BYTES_PER_NOTIFICATION
        + refetches * BYTES_PER_REFETCH
        + scenario.subscribers * BYTES_PER_PAGE
        + len(updates) * BYTES_PER_UPDATE
    )
    free = free_memory()
    if need > SHARE * free:
        raise BadInput(
            f"scenario {scenario.name}: {notifications:,} notifications and up to {refetches:,} refetches need about "
            f"{need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free (lower duration, pages.*.subscribers or the workload's rate, "
            "or use the fleet engine)"
        )


def free_memory() -> int:
    """Bytes that can be had without swapping."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
