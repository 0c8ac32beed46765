"""Whether a run is valid. The rules are about the harness, never about the target: bad behaviour of the target is a result.

The harness limits a figure when it adds more than a tenth to it, and more than the delay that any scheduler may cause (`FLOOR`).
Nothing is subtracted from a figure; a run that breaks a rule is declared invalid, with the reason. The limits are judgement;
each is a constant here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SHARE = 0.1
"""Of a reported p99 that the harness may add."""

FLOOR = 0.005
"""Seconds that the harness may always add: a time slice of the operating system."""

CPU_SHARE = 0.85
"""Of one core, over the run, above which a load process is its own bottleneck."""

COALESCED_SHARE = 0.05
"""Of the messages whose arrival is only known as an upper bound (read together with a later one)."""

MIN_DELIVERIES = 100
"""Received; fewer say nothing about a p99."""

MIN_REFETCHES = 100
"""Finished, where no page subscribes: then they are all that there is to see."""

CLOCK_STEP = 0.001
"""Seconds by which wall and monotonic clock may part during a run."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the harness of one run. Durations in seconds."""

    summary: Mapping[str, Mapping[str, Any]]
    expected_workers: int
    finished_workers: int
    heard: int = 0
    """Notifications that arrived, at all pages."""
    incidents: Sequence[str] = ()
    """What went wrong while it ran, as one-line reasons: a process that died, an exception in the client."""
    kernel_stamps: bool = True
    """Arrival by the kernel's clock; otherwise the reader's queue is inside `time_to_notified`."""
    cpu_share: float = 0.0
    """Of one core, of the busiest load process."""
    publisher_added: float = 0.0
    """Seconds by which the publisher's lateness lifts the p99 of the time to notified."""
    coalesced: float = 0.0
    """Share of messages."""
    clock_step: float = 0.0
    clock_error: float = 0.0
    """Bound of the error of the offset between machines; 0 on one machine."""
    negative: int = 0
    """Arrivals before the event was sent."""
    share: float = 1.0
    """Of the subscribers that are recorded row by row."""
    passive: bool = False
    lost_by_harness: int = 0
    """Deliveries to load processes that died: whether they arrived is unknown."""
    floor: float | None = None
    """The harness's own p99 on this machine (`workbench calibrate`); None: not known."""
    unchanged: int = 0
    """Changes that changed nothing, because the target already was in that state."""
    waiting: float = 0.0
    """Share of the pages that waited, at a time within the window, for the load client to open them."""
    queued: int = 0
    """The most requests at a time that waited for a connection of the load client's pools."""
    refetches: int = 0
    """Refetches that were sent."""
    unsent: int = 0
    """Refetches that still waited for a connection when their page left or the run ended."""
    finished_refetches: int | None = None
    """Of a run in which no page subscribes (polling alone), which is judged by them; None: judged by its deliveries."""


class Verdict(NamedTuple):
    """`reasons` make a run invalid; `remarks` only limit what it says."""

    reasons: tuple[str, ...]
    remarks: tuple[str, ...]


def judge(evidence: Evidence) -> Verdict:
    return Verdict(tuple(_reasons(evidence)), tuple(_remarks(evidence)))


def _reasons(e: Evidence) -> Iterator[str]:
    yield from e.incidents
    if e.finished_workers < e.expected_workers:
        yield f"{e.expected_workers - e.finished_workers} of {e.expected_workers} load processes did not hand in all their rows"
    if e.finished_refetches is None and e.heard < MIN_DELIVERIES:
        yield f"only {e.heard} deliveries were received, {MIN_DELIVERIES} are needed to say anything ({_why_few(e)})"
    if e.finished_refetches is not None and e.finished_refetches < MIN_REFETCHES:
        found = f"only {e.finished_refetches} refetches were finished"
        yield f"{found}, {MIN_REFETCHES} are needed to say anything where no page subscribes"
    yield from _bottlenecks(e)
    notified = _value(e, "time_to_notified.p50")
    if e.floor and notified is not None and notified < e.floor / SHARE:
        half, floor = notified * 1000, e.floor * 1000
        yield (
            f"the median time to notified ({half:.3f} ms) is near the harness floor (p99 {floor:.3f} ms); "
            "where the floor was taken on a busy machine, calibrate again: workbench calibrate"
        )
    if e.cpu_share > CPU_SHARE:
        yield f"a load process used {e.cpu_share:.0%} of a core (limit {CPU_SHARE:.0%}): use more --processes"
    if e.lost_by_harness:
        yield f"whether {e.lost_by_harness} deliveries arrived is unknown: their load process was lost"
    if e.waiting > SHARE:
        yield (
            f"{e.waiting:.0%} of the pages at a time waited for the load client to open them (limit {SHARE:.0%}), so fewer were "
            "there than the scenario says: use more --processes, or pages that stay longer"
        )
    if e.negative:
        yield f"{e.negative} notifications arrived before they were sent: the clocks cannot be trusted"
    if e.clock_step > CLOCK_STEP:
        yield f"a clock was set during the run, by {e.clock_step * 1000:.1f} ms"
    if e.clock_error == float("inf"):
        yield "a worker on another machine could not compare its clock with the master's"
    elif e.clock_error and notified is not None and e.clock_error > max(SHARE * notified, CLOCK_STEP):
        error, half = e.clock_error * 1000, notified * 1000
        yield f"clocks of the machines are known to {error:.2f} ms only, for a median time to notified of {half:.2f} ms"


def _why_few(e: Evidence) -> str:
    """How far the window's updates came."""
    total, failed, unknown, unheard = (
        round(_value(e, name) or 0) for name in ("updates", "updates.failed", "updates.unknown", "updates.not_broadcast")
    )
    lost = f", {failed} failed, {unknown} of unknown fate, {unheard} not broadcast" if failed or unknown or unheard else ""
    expected = round(_value(e, "deliveries.expected") or 0)
    return f"{total} updates in the window{lost}; {expected} deliveries were expected of those accepted"


def _bottlenecks(e: Evidence) -> Iterator[str]:
    """What the harness adds, against the figure that it goes into. A page that is read late notes its arrivals in time where the
    kernel stamps them, and is late with its refetches only: where it sends none, the lag goes into no figure."""
    into = "time_to_fresh" if e.kernel_stamps and _p99(e, "time_to_fresh") is not None else "time_to_notified"
    queue = ""
    if e.queued:
        queue = (
            f" (up to {e.queued} requests waited for a connection of the load client's pools: raise load.pool_size, or set "
            'load.http = "per_subscriber")'
        )
    if e.unsent > SHARE * (e.refetches + e.unsent):
        yield f"{e.unsent} of {e.refetches + e.unsent} refetches were never sent by the load client{queue}"
    reads = [] if _lag_is_harmless(e) else [("reader_lag", into, "the load client read late")]
    rules = [
        *reads,
        ("refetch_delay", "time_to_fresh", f"the load client sent refetches late{queue}"),
    ]
    added_by = [(_value(e, f"{cause}.p99"), figure, what) for cause, figure, what in rules]
    added_by.append((e.publisher_added, "time_to_notified", "the publisher was late"))
    for added, figure, what in added_by:
        reported = _p99(e, figure)
        if reported is None and e.passive and e.kernel_stamps:
            continue  # It is not known when it was wanted, so it enters no figure.
        limit = max(FLOOR, SHARE * reported) if reported is not None else FLOOR
        if added is not None and added > limit:
            whence = f"{SHARE:.0%} of {figure}.p99" if limit > FLOOR else "less is a time slice of the operating system"
            yield f"{what}: {added * 1000:.1f} ms in the p99, limit {limit * 1000:.1f} ms ({whence})"


def _lag_is_harmless(e: Evidence) -> bool:
    return e.kernel_stamps and _p99(e, "time_to_fresh") is None and _value(e, "refetch_delay.p99") is None


def _remarks(e: Evidence) -> Iterator[str]:
    if e.floor is None:
        yield "the harness floor of this machine is not known (workbench calibrate)"
    if not e.kernel_stamps:
        yield "arrival is the time of reading: the kernel gave no receive times"
    lag = _value(e, "reader_lag.p99")
    if lag is not None and lag > FLOOR and _lag_is_harmless(e):
        yield f"the load client read late ({lag * 1000:.1f} ms in the p99), which no figure of this run contains"
    if e.coalesced > COALESCED_SHARE:
        yield f"{e.coalesced:.1%} of the arrivals are upper bounds: read together with a later message"
    if e.share < 1:
        yield f"{e.share:.1%} of the subscribers are recorded row by row, the others counted"
    if e.unchanged:
        yield f"{e.unchanged} changes changed nothing: the target already was in that state, from an earlier run"
    if e.passive:
        yield "listening only: times count from what the payload says"


def _p99(e: Evidence, name: str) -> float | None:
    """inf where it falls on what was never shown; None where there is none."""
    return float("inf") if e.summary.get(f"{name}.p99", {}).get("never") else _value(e, f"{name}.p99")


def _value(e: Evidence, name: str) -> float | None:
    value = e.summary.get(name, {}).get("value")
    return None if value is None else float(value)
