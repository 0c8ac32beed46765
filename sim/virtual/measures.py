"""What the parts of a run amounted to, by the definitions that both engines share (rows of the `metrics` table)."""

from __future__ import annotations

import json
import math
from functools import cache

import numpy as np

from sim.arrays import Array
from sim.clock import SECOND

Sample = tuple[float, str, str, float]


def frame_bytes(resource: str, resource_id: int, channel: str) -> int:
    """Length of one notification on the wire: the JSON inside JSON that the broadcaster sends, and the WebSocket header."""
    length = _bare_frame(resource) + len(str(resource_id)) + len(channel)
    return length + (2 if length < 126 else 4)


@cache
def _bare_frame(resource: str) -> int:
    """Length of its text without the id and the name of the channel."""
    event = {"server": "ServerUpdated", "site": "ServerSiteUpdated", "task": "TaskCompleted"}[resource]
    at = "2026-01-01T00:00:00+00:00"
    task = {"id": 0, "name": "backup", "completed": True, "completed_at": at}
    payload = {"task": task} if resource == "task" else {f"{resource}_id": 0, "timestamp": at}
    data = json.dumps(payload, separators=(",", ":"))
    return len(json.dumps({"event": f"App\\Events\\{event}", "data": data, "channel": ""}, separators=(",", ":"))) - 1


def load(work: Array, end: int, workers: int, cuts: tuple[int, ...] = ()) -> list[Sample]:
    """Busy share of the workers and longest queue, for each second of the run to its *end*, and apart for the parts of a second
    that *cuts* make. *work*: arrival, begin, end (ns)."""
    edges = np.unique([*range(0, end, SECOND), *(cut for cut in cuts if cut < end), end])
    if len(edges) < 2:
        return []
    arrivals, begins, ends = np.sort(work, axis=0).T.copy()
    done = _elapsed(edges, begins) - _elapsed(edges, ends)  # worker nanoseconds up to each
    busy = np.diff(done) / (np.diff(edges) * workers)
    queue = np.arange(1, len(arrivals) + 1) - np.searchsorted(begins, arrivals, side="right")
    longest = np.zeros(len(edges) - 1)
    low, high = np.searchsorted(arrivals, edges[:-1]), np.searchsorted(arrivals, edges[1:])
    some = low < high
    longest[some] = np.maximum.reduceat(queue[: high[-1]], low[some]) if some.any() else 0
    at = (edges[1:] / SECOND).tolist()
    return [(t, "application", "busy_ratio", v) for t, v in zip(at, busy.tolist(), strict=True)] + [
        (t, "application", "queue_peak", v) for t, v in zip(at, longest.tolist(), strict=True)
    ]


def station(work: Array, start: int, stop: int, workers: int) -> dict[str, float]:
    """What the window [*start*, *stop*) saw of a station: share of the workers' time that was work, and how long those that
    arrived in it waited for a worker, mean and most, s (NaN: none arrived). *work*: arrival, begin, end (ns)."""
    inside = work[(work[:, 0] >= start) & (work[:, 0] < stop)]
    waits = (inside[:, 1] - inside[:, 0]) / SECOND
    return {
        "utilisation": busy(work[:, 1:], start, stop) / workers if stop > start else math.nan,
        "queue_wait.mean": float(waits.mean()) if waits.size else math.nan,
        "queue_wait.max": float(waits.max()) if waits.size else math.nan,
    }


def busy(intervals: Array, start: int, stop: int) -> float:
    """Sum of the parts of *intervals* (int64 ns, begin and end) that lie in [*start*, *stop*), as a share of its length; NaN
    where it has none."""
    inside = np.minimum(intervals[:, 1], stop) - np.maximum(intervals[:, 0], start)
    return float(np.maximum(inside, 0).sum()) / (stop - start) if stop > start else math.nan


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
