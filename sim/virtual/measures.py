"""What a simulation costs beforehand, and what its parts amounted to afterwards (rows of the `metrics` table)."""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sim.clock import SECOND
from sim.errors import BadInput
from sim.policy import FullPayload, Immediate, Polling
from sim.scenario import Pages, Scenario
from sim.virtual.page import World
from sim.workload import RESOURCES, Updates

if TYPE_CHECKING:
    from sim.virtual.reference import Simulation

Array = np.ndarray[Any, Any]
Sample = tuple[float, str, str, float]

BYTES_PER_NOTIFICATION = 90
BYTES_PER_REFETCH = 200
BYTES_PER_PAGE = 2600
BYTES_PER_UPDATE = 400
"""Of peak resident memory, tables included; measured by benchmarks/reference.py --memory."""

SHARE = 0.8
"""Of the memory that is free, this much may be used."""


# --- before -----------------------------------------------------------------------------------------------------------


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


# --- afterwards -------------------------------------------------------------------------------------------------------


def samples(simulation: Simulation, notifications: pd.DataFrame, refetches: pd.DataFrame) -> list[Sample]:
    """Per second what the application had to do; at the end of the run what the others came to."""
    end = simulation.end / SECOND
    api, client = simulation.api, simulation.client
    work = api.work()
    rows = load(work, simulation.end, simulation.scenario.api.workers)
    frames = sum(node.sent for node in simulation.broadcaster.nodes)
    totals = {
        ("application", "requests"): float(len(work)),
        ("application", "refused"): float(api.refused),
        ("application", "from_cache"): float(api.from_cache),
        ("application", "in_flight_peak"): float(peak(work[:, 0], work[:, 2])),
        ("pages", "retries"): float(client.second_attempts),
        ("pages", "timeouts"): float(client.timeouts),
        ("pages", "regressions"): float(regressions(refetches)),
        ("pages", "stale_at_end"): float(simulation.stale[0]),
        ("pages", "stale_at_end_ratio"): simulation.stale[0] / max(1, simulation.stale[1]),
        ("pages", "open_at_end"): float(simulation.stale[1]),
        ("broadcaster", "frames"): float(frames),
        ("broadcaster", "bytes"): float(bytes_sent(simulation)),
    }
    for number, node in enumerate(simulation.broadcaster.nodes):
        totals["broadcaster", f"busy_ratio.{number}"] = min(1.0, node.busy / simulation.end) if simulation.end else 0.0
        totals["broadcaster", f"frames.{number}"] = float(node.sent)
    return rows + [(end, process, metric, value) for (process, metric), value in totals.items()]


def bytes_sent(simulation: Simulation) -> int:
    """Bytes of all frames that the broadcaster wrote."""
    broadcast = simulation.scenario.broadcast
    padding = broadcast.payload_bytes if broadcast.payload == "full" else 0
    names = list(simulation.ledger.channels)
    updates = simulation.database.updates
    resource, resource_id = updates.resource.tolist(), updates.resource_id.tolist()
    total = 0
    for delivery in simulation.ledger.deliveries:
        frame = frame_bytes(RESOURCES[resource[delivery.update]], resource_id[delivery.update], names[delivery.channel])
        total += len(delivery.subscribers) * (frame + padding)
    return total


def frame_bytes(resource: str, resource_id: int, channel: str) -> int:
    """Length of one notification on the wire: the JSON inside JSON that the broadcaster sends, and the WebSocket header."""
    event = "App\\Events\\ServerUpdated" if resource == "server" else "App\\Events\\ServerSiteUpdated"
    data = json.dumps({f"{resource}_id": resource_id, "timestamp": "2026-01-01T00:00:00+00:00"}, separators=(",", ":"))
    text = json.dumps({"event": event, "data": data, "channel": channel}, separators=(",", ":"))
    return len(text) + (2 if len(text) < 126 else 4)


def load(work: Array, end: int, workers: int) -> list[Sample]:
    """Busy share of the workers and longest queue, for each second that has ended. *work*: arrival, begin, end (ns)."""
    edges = np.arange(0, end + 1, SECOND)
    if len(edges) < 2 or not len(work):
        return []
    done = _work_until(edges, work[:, 1], work[:, 2])
    busy = np.diff(done) / (SECOND * workers)
    arrivals, begins = np.sort(work[:, 0]), np.sort(work[:, 1])
    queue = np.arange(1, len(arrivals) + 1) - np.searchsorted(begins, arrivals, side="right")
    longest = np.zeros(len(edges) - 1)
    inside = arrivals < edges[-1]
    np.maximum.at(longest, arrivals[inside] // SECOND, queue[inside])
    at = (edges[1:] / SECOND).tolist()
    return [(t, "application", "busy_ratio", v) for t, v in zip(at, busy.tolist(), strict=True)] + [
        (t, "application", "queue_peak", v) for t, v in zip(at, longest.tolist(), strict=True)
    ]


def _work_until(instants: Array, begins: Array, ends: Array) -> Array:
    """Worker nanoseconds done up to each instant."""
    return _elapsed(instants, np.sort(begins)) - _elapsed(instants, np.sort(ends))


def _elapsed(instants: Array, sorted_starts: Array) -> Array:
    """Sum over the starts of the time since, for each instant."""
    count = np.searchsorted(sorted_starts, instants, side="right")
    total = np.concatenate([[0], np.cumsum(sorted_starts)])
    return count * instants - total[count]


def peak(begins: Array, ends: Array) -> int:
    """Most intervals that overlap at one instant."""
    if not len(begins):
        return 0
    begins = np.sort(begins)
    return int((np.arange(1, len(begins) + 1) - np.searchsorted(np.sort(ends), begins, side="right")).max())


def regressions(refetches: pd.DataFrame) -> int:
    """Answers that were applied over a newer one of the same page."""
    applied = refetches[(refetches["outcome"] == "applied").to_numpy()]
    who, version = applied["subscriber"].to_numpy(), applied["version"].to_numpy()
    order = np.argsort(who, kind="stable")
    who, version = who[order], version[order]
    return int(((who[1:] == who[:-1]) & (version[1:] < version[:-1])).sum())


def stale_pages(world: World, scenario: Scenario, end: int) -> tuple[int, int]:
    """(pages that show an old state at instant *end*, pages open then); pages of full payloads are left out.

    A dashboard shows its user's resources only, so it owes nothing for others'. A page that has not loaded yet shows nothing.
    """
    pages = [page for page in world.open_pages.values() if not isinstance(page.group.policy, FullPayload)]
    newest = newest_by_user(world, scenario, end)
    stale = 0
    for page in pages:
        mine = page.view.resource != "dashboard" or scenario.api.dashboard_of == "everyone"
        wanted = bisect_right(page.view.commits, end) if mine else newest.get(page.view.user, 0)
        stale += 0 <= page.refetcher.version < wanted
    return stale, len(pages)


def newest_by_user(world: World, scenario: Scenario, end: int) -> dict[int, int]:
    """User -> sequence of the last change of one of their resources, up to instant *end*."""
    database, fleet = world.database, scenario.fleet
    each = np.array([fleet.servers_per_user, fleet.sites_per_user])[database.updates.resource]
    user = (database.updates.resource_id - 1) // np.maximum(each, 1) + 1
    done = database.committed_at <= end
    return dict(zip(user[done].tolist(), database.sequence[done].tolist(), strict=True))
