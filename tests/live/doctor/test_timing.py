"""Where a notification's time goes, from instants made by hand."""

from __future__ import annotations

import pytest

from sim.clock import ns
from sim.live.client import HttpAnswer
from sim.live.doctor.checks import Patient
from sim.live.doctor.listener import ReceivedFrame
from sim.live.doctor.timing import _second_frame, dispatch
from sim.pusher.messages import Message
from sim.target import Target

TARGET = Target("h", 1, "http", "a", "k", "s")


def told(heard: float, direct: float = 0.0) -> str:
    """A change whose request began at 10 s and was answered after 20 ms; *heard*: seconds after the answer."""
    answer = HttpAnswer(200, started_at=ns(10.0), finished_at=ns(10.02))
    (found,) = dispatch(Patient(TARGET, direct=ns(direct)), ReceivedFrame(Message("e"), ns(10.02 + heard)), answer)
    assert (found.step, found.status) == ("dispatch", "ok")
    return found.detail


@pytest.mark.parametrize(
    ("heard", "direct", "detail"),
    [
        (-0.005, 0.0, "now: heard 15.0 ms after the request began, which took 20.0 ms"),
        (0.05, 0.0, "now: heard 70.0 ms after the request began, which took 20.0 ms"),
        (
            0.2,
            0.002,
            "queued: heard 200.0 ms after the answer; 220.0 ms = application 20.0 ms, queue and its worker 198.0 ms, broadcaster "
            "and network 2.0 ms",
        ),
        (
            0.2,
            0.0,
            "queued: heard 200.0 ms after the answer; 220.0 ms = application 20.0 ms, queue and its worker 200.0 ms, broadcaster "
            "and network not known",
        ),
        (
            0.06,
            0.07,
            "queued: heard 60.0 ms after the answer; 80.0 ms = application 20.0 ms, queue and its worker 0.0 ms, broadcaster "
            "and network 60.0 ms",
        ),
    ],
)
def test_now_or_queued_and_what_each_station_took(heard: float, direct: float, detail: str) -> None:
    assert told(heard, direct) == detail


@pytest.mark.parametrize(
    ("quick", "late", "step"),
    [
        (0.001, 0.029, None),
        (0.001, 0.03, "delayed acknowledgement"),
        (0.0075, 0.03, "delayed acknowledgement"),
        (0.008, 0.03, "second frame"),
        (0.04, 0.04, "second frame"),
    ],
)
def test_what_vanishes_when_the_client_acknowledges_at_once_was_the_delayed_acknowledgement(
    quick: float, late: float, step: str | None
) -> None:
    assert [finding.step for finding in _second_frame(ns(quick), ns(late))] == ([step] if step else [])
