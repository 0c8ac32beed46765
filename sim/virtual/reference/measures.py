"""What the reference engine's parts amounted to, as rows of the `metrics` table."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import pandas as pd

from sim.clock import SECOND
from sim.policy import FullPayload
from sim.scenario import Scenario
from sim.virtual.measures import Sample, frame_bytes, load, peak, regressions
from sim.virtual.reference.page import World
from sim.workload import RESOURCES


def samples(world: World, scenario: Scenario, end: int, refetches: pd.DataFrame, stale: tuple[int, int]) -> list[Sample]:
    """Per second what the application had to do; at the end of the run what the others came to."""
    api, client, nodes = world.api, world.client, world.broadcaster.nodes
    work = api.work()
    rows = load(work, end, scenario.api.workers)
    frames = sum(node.sent for node in nodes)
    totals = {
        ("application", "requests"): float(len(work)),
        ("application", "refused"): float(api.refused),
        ("application", "from_cache"): float(api.from_cache),
        ("application", "in_flight_peak"): float(peak(work[:, 0], work[:, 2])),
        ("pages", "retries"): float(client.second_attempts),
        ("pages", "timeouts"): float(client.timeouts),
        ("pages", "regressions"): float(regressions(refetches)),
        ("pages", "stale_at_end"): float(stale[0]),
        ("pages", "stale_at_end_ratio"): stale[0] / max(1, stale[1]),
        ("pages", "open_at_end"): float(stale[1]),
        ("broadcaster", "frames"): float(frames),
        ("broadcaster", "bytes"): float(bytes_sent(world, scenario)),
    }
    for number, node in enumerate(nodes):
        totals["broadcaster", f"busy_ratio.{number}"] = min(1.0, node.busy / end) if end else 0.0
        totals["broadcaster", f"frames.{number}"] = float(node.sent)
    return rows + [(end / SECOND, process, metric, value) for (process, metric), value in totals.items()]


def bytes_sent(world: World, scenario: Scenario) -> int:
    """Bytes of all frames that the broadcaster wrote."""
    names = list(world.ledger.channels)
    updates = world.database.updates
    resource, resource_id = updates.resource.tolist(), updates.resource_id.tolist()
    total = 0
    for delivery in world.ledger.deliveries:
        frame = frame_bytes(RESOURCES[resource[delivery.update]], resource_id[delivery.update], names[delivery.channel])
        total += len(delivery.subscribers) * (frame + scenario.extra_payload)
    return total


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
        shown = page.refetcher.version
        stale += shown is not None and shown < wanted
    return stale, len(pages)


def newest_by_user(world: World, scenario: Scenario, end: int) -> dict[int, int]:
    """User -> sequence of the last change of one of their resources, up to instant *end*."""
    database, fleet = world.database, scenario.fleet
    each = np.array([fleet.servers_per_user, fleet.sites_per_user])[database.updates.resource]
    user = (database.updates.resource_id - 1) // np.maximum(each, 1) + 1
    done = database.committed_at <= end
    return dict(zip(user[done].tolist(), database.sequence[done].tolist(), strict=True))
