"""The first phase of a load test: wait until the pages are subscribed, or until no more of them subscribe."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sim.errors import BadInput, InvalidRun, Unreachable, WorkbenchError
from sim.live.measure.health import refusals_in
from sim.live.measure.measured import RunRecord
from sim.live.measure.swarm import Progress, Swarm, SwarmSettings
from sim.live.processes import Child
from sim.live.remedies import remedy
from sim.signals import require_no_signal

TICK = 0.1
"""Seconds between two looks at the processes."""

PATIENCE = 20.0
"""Seconds without one more page or subscription after which the run goes on with those that are there: longer than the 15 s after
which pusher-js tries again where it could not even open a socket."""

PATIENCE_WITH_WORKERS = 120.0
"""The same, while load processes or their pages have yet to come: of other machines, or of this one when it is busy."""

PATIENCE_WITH_REFUSALS = 4.0
"""The same, where the target itself has refused all pages that are missing: none of them will come."""

LONGEST = 600.0
"""Seconds that connecting may take beyond what `connect_rate` asks for, whatever progress there is."""


def wait_until_subscribed(
    swarm: Swarm,
    result: RunRecord,
    ended: Callable[[], Sequence[Child]],
    show: Callable[[Progress], None],
    note: Callable[[str, list[str]], None],
) -> None:
    """Return when all pages are subscribed, or no more subscribe: *result* then says how many are missing, and why.

    *ended*: the embedded target's processes that have ended. *show*: called with the progress at each look. *note*(line, where):
    keep a line of *result*. Raises what ended a process that the load needs, `InvalidRun` where load processes or their pages did
    not come, `Unreachable` where no page could subscribe.
    """
    settings, began = swarm.settings, time.monotonic()
    family = result.target.get("family", "REVERB")
    # With a shape the load begins with the first subscribers: their number over time is what is tested.
    pages, workers = (1, 1) if settings.shape else (settings.subscribers, settings.workers)
    best, best_at = (0, 0, 0), began
    while True:
        require_no_signal()
        _require_running(swarm, ended())
        progress, now = swarm.progress(), time.monotonic()
        show(progress)
        if progress.workers >= workers and progress.opened >= pages and progress.subscribed >= progress.wanted:
            return
        # A page that leaves is replaced by another one, which is no progress.
        reached = min(progress.opened, pages), progress.subscribed, min(progress.loaded, pages)
        if reached > best:
            best, best_at = reached, now
        headers = swarm.headers()
        waited_in_vain = now - best_at > _patience(settings, progress, headers)
        if waited_in_vain or now - began > LONGEST + settings.subscribers / settings.connect_rate:
            why = _why(headers, family)
            _require_some(swarm, progress, why)
            waited = f"after {now - began:.0f} s of connecting only"
            if progress.opened < pages:
                note(f"{waited} {progress.opened} of {pages} pages were opened: {swarm.last_words()}", result.invalid)
            if progress.subscribed < progress.wanted:
                note(f"{waited} {progress.subscribed} of {progress.wanted} pages were subscribed: {why}", result.trouble)
            return
        time.sleep(TICK)


def _require_running(swarm: Swarm, ended: Sequence[Child]) -> None:
    """Raise where a process has ended that the load needs: as it has ended, or `Unreachable` for the target's."""
    for child in swarm.ended():
        kind = BadInput if child.exit_code == BadInput.exit_code else WorkbenchError
        raise kind(f"{child.name} ended before the load began ({child.end}): {child.last_words(1)}")
    for child in ended:
        raise Unreachable(f"{child.name} of the embedded target ended before the load began ({child.end}): {child.last_words(1)}")


def _patience(settings: SwarmSettings, progress: Progress, headers: list[dict[str, Any]]) -> float:
    """Seconds to wait for one more subscription."""
    if progress.opened >= settings.subscribers and _are_refused(headers, progress):
        return PATIENCE_WITH_REFUSALS
    to_come = progress.workers < settings.workers or (progress.opened < settings.subscribers and not settings.shape)
    return PATIENCE_WITH_WORKERS if to_come else PATIENCE


def _require_some(swarm: Swarm, progress: Progress, why: str) -> None:
    """Raise `InvalidRun` where load processes or their pages did not come, `Unreachable` where no page could subscribe."""
    absent = swarm.settings.workers - progress.workers
    if absent and not swarm.settings.shape:
        raise InvalidRun(f"{absent} of {swarm.settings.workers} load processes did not come: {swarm.last_words()}")
    if progress.opened == 0:
        raise InvalidRun(f"the load processes have no page open: {swarm.last_words()}")
    if progress.subscribed == 0 and progress.wanted > 0:
        raise Unreachable(f"none of {progress.wanted} subscribers could subscribe: {why}")


def _failures(headers: list[dict[str, Any]]) -> dict[str, int]:
    """What the workers counted of connections and subscriptions that did not come about."""
    total: Counter[str] = Counter()
    for header in headers:
        total.update({name: header["counters"][name] for name in ("connect_failures", "drops", "refused", "complaints")})
    return {name.replace("_", " "): count for name, count in total.items() if count}


def _are_refused(headers: list[dict[str, Any]], progress: Progress) -> bool:
    """Whether the target itself has refused all pages, or all that are missing. A connection that could not be made is no
    refusal: it is tried again."""
    failures = _failures(headers)
    refusals = failures.get("refused", 0) + failures.get("complaints", 0)
    return refusals > 0 and (progress.subscribed == 0 or progress.subscribed + refusals >= progress.wanted)


def _why(headers: list[dict[str, Any]], family: str) -> str:
    """Counts of failures, the target's most frequent message, and what to do about it."""
    counted = [f"{count} {name}" for name, count in _failures(headers).items()]
    texts = refusals_in(headers)
    counted += [repr(texts[0][0])] if texts else []
    if not counted:
        connected = sum(header["counters"]["connects"] for header in headers)
        counted = ["connected, and no answer to the subscription or its authorisation" if connected else "no answer"]
    advice = (remedy(texts[0][0], family) if texts else "") or "workbench doctor says more"
    return f"{', '.join(counted)} ({advice})"
