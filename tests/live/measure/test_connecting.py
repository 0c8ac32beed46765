"""A load test's processes as its parent sees them, in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sim.clock import SECOND
from sim.errors import InvalidRun
from sim.live.measure import connecting, loadtest
from sim.live.measure.connecting import wait_until_subscribed
from sim.live.measure.loadtest import EndedEarly, Observer, _Run
from sim.live.measure.measured import RunRecord
from sim.live.measure.swarm import Progress
from sim.scenario import Scenario


class Clock:
    """In place of the module `time`: who sleeps moves it, once for longer than asked."""

    def __init__(self, oversleep: float = 0.0) -> None:
        self.now, self.oversleep = 0.0, oversleep

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * SECOND)

    def sleep(self, seconds: float) -> None:
        self.now += seconds + (self.oversleep if 4 < self.now < 4.1 else 0)


def watched(monkeypatch: pytest.MonkeyPatch, opened: Callable[[float], int], oversleep: float = 0.0) -> RunRecord:
    """The record of a run in memory of ten pages, of which *opened*(now) are open; it connects, then runs for twelve seconds."""
    clock = Clock(oversleep)
    monkeypatch.setattr(loadtest, "time", clock)
    monkeypatch.setattr(connecting, "time", clock)
    quiet = SimpleNamespace(play=lambda elapsed: [], ended=list, sample=lambda: None)
    settings = SimpleNamespace(shape="", subscribers=10, workers=1, connect_rate=10.0)
    job: Any = SimpleNamespace(
        scenario=Scenario(duration=10), seconds=12.0, incidents=quiet, sampler=quiet, watch=lambda: None, settings=settings
    )
    swarm: Any = SimpleNamespace(
        ended=list,
        children=[None],
        last_words=lambda: "master: the last worker went missing",
        settings=settings,
        headers=list,
        progress=lambda: Progress(1, opened(clock.now), min(opened(clock.now), 8), opened(clock.now)),
    )
    result = RunRecord(job.scenario, {}, 1, 1)
    run = _Run(job, result, Observer(), swarm)
    with contextlib.suppress(EndedEarly):
        wait_until_subscribed(swarm, result, list, lambda progress: None, run._note)
        clock.now, result.epoch = 0.0, 0
        run.drain()
        result.complete = True
    return result


def test_a_load_test_that_stood_still_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its processes stopped (a suspended machine, SIGSTOP): nobody was late, and nothing is missing in any table."""
    assert watched(monkeypatch, lambda now: 10, 0.9).invalid == []
    (reason,) = watched(monkeypatch, lambda now: 10, 3.0).invalid
    assert reason.startswith("the load test stood still for 3.0 s at 4.")


def test_pages_that_the_load_processes_do_not_open_or_stop_are_their_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = watched(monkeypatch, lambda now: 10)
    assert (whole.complete, whole.invalid) == (True, [])
    assert [line.partition(" of connecting ")[2] for line in whole.trouble] == [
        "only 8 of 10 pages were subscribed: no answer (workbench doctor says more)"
    ]
    some = watched(monkeypatch, lambda now: 7)
    assert some.complete
    assert "7 of 10 pages were opened: master: the last worker went missing" in some.invalid[0]
    stopped = watched(monkeypatch, lambda now: 10 if now < 5 or now > 12 else 0)
    assert not stopped.complete
    assert stopped.invalid[0].startswith("10 of 10 pages were stopped by the load processes before 5.")
    with pytest.raises(InvalidRun, match="no page open: master: the last worker went missing"):
        watched(monkeypatch, lambda now: 0)
