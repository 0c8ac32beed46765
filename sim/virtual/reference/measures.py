"""What the reference engine's parts amounted to, as rows of the `metrics` table."""

from __future__ import annotations

from collections import Counter

from sim.clock import SECOND, ns
from sim.scenario import Scenario
from sim.virtual.measures import Sample, busy, frame_bytes, load, peak, station
from sim.virtual.reference.page import World
from sim.workload import RESOURCES


def samples(world: World, scenario: Scenario, end: int) -> list[Sample]:
    """Per second what the application had to do; at the end of the run what the others came to."""
    api, client, nodes = world.api, world.client, world.broadcaster.nodes
    work = api.work()
    start, stop = ns(scenario.warmup), ns(scenario.warmup + scenario.duration)
    rows = load(work, end, scenario.api.workers, (start, stop))
    frames = sum(node.frames for node in nodes)
    totals = {
        ("application", "requests"): float(len(work)),
        ("application", "refused"): float(api.refused),
        ("application", "from_cache"): float(api.from_cache),
        ("application", "in_flight_peak"): float(peak(work[:, 0], work[:, 2])),
        ("pages", "retries"): float(client.second_attempts),
        ("pages", "timeouts"): float(client.timeouts),
        ("broadcaster", "frames"): float(frames),
        ("broadcaster", "bytes"): float(bytes_sent(world, scenario)),
    }
    totals |= {("application", name): value for name, value in station(work, start, stop, scenario.api.workers).items()}
    for number, node in enumerate(nodes):
        totals["broadcaster", f"busy_ratio.{number}"] = busy(node.intervals(), start, stop)
        totals["broadcaster", f"frames.{number}"] = float(node.frames)
    return rows + [(end / SECOND, process, metric, value) for (process, metric), value in totals.items()]


def bytes_sent(world: World, scenario: Scenario) -> int:
    """Bytes of all frames that the broadcaster wrote."""
    names = list(world.ledger.channels)
    updates = world.database.updates
    resource, resource_id = updates.resource.tolist(), updates.resource_id.tolist()
    frames: Counter[tuple[int, int, int]] = Counter()
    for delivery in world.ledger.deliveries:
        frames[resource[delivery.update], resource_id[delivery.update], delivery.channel] += delivery.frames
    return sum(
        count * (frame_bytes(RESOURCES[kind], number, names[channel]) + scenario.extra_payload_of(RESOURCES[kind]))
        for (kind, number, channel), count in frames.items()
    )
