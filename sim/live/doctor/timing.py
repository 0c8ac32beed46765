"""Where a notification's time goes: application, queue, publish, fan-out, network, delayed acknowledgement."""

from __future__ import annotations

import asyncio
import statistics
import time

from sim.clock import SECOND
from sim.live.client import HttpAnswer
from sim.live.doctor.checks import Finding, Patient, in_ms
from sim.live.doctor.listener import ReceivedFrame
from sim.live.drive.requests import signed_event

QUEUED = 0.05
"""Seconds after the answer from which on an event must have come through a queue."""

ROUNDS = 5
"""Events of a measurement."""

DELAYED = (0.030, 0.25)
"""Seconds between two frames of one publish that a delayed acknowledgement explains: Linux waits 40 ms, others up to 200."""


async def timing(patient: Patient) -> list[Finding]:
    """Events published here: what broadcaster and network need; and the second frame of an event on two channels."""
    listener, channels = patient.listener, sorted(patient.subscribed)
    if not channels or not patient.target.secret:
        return [Finding("broadcaster's time", "skipped", "not subscribed, or no secret to publish with")]
    round_trip = (await listener.round_trip(patient.patience) or 0.0) * SECOND
    answered, first, quick = await _measure(patient, channels, at_once=True)
    if not first:
        return [Finding("broadcaster's time", "skipped", "no event came back")]
    patient.direct = round(statistics.median(first))
    parts = f"published in {in_ms(statistics.median(answered))}, heard after {in_ms(patient.direct)}"
    findings = [Finding("broadcaster's time", "ok", f"{parts}, of which {in_ms(round_trip / 2)} on the network (ping)")]
    if quick:
        _, _, late = await _measure(patient, channels, at_once=False)
        findings += _second_frame(statistics.median(quick), statistics.median(late or quick))
    return findings


async def _measure(patient: Patient, channels: list[str], at_once: bool) -> tuple[list[int], list[int], list[int]]:
    """Nanoseconds to the answer, to the first frame, and from the first to the second, of each round."""
    listener = patient.listener
    answered: list[int] = []
    first: list[int] = []
    gaps: list[int] = []
    for number in range(ROUNDS):
        name, since = f"workbench-doctor-{at_once}-{number}", time.time_ns()
        listener.acknowledge(at_once)
        answer = await patient.ask("broadcaster", *signed_event(patient.target, name, channels, {"at": since}, since))
        if not answer.ok:
            break
        await listener.wait(lambda message, name=name: message.event == name, patient.patience, since)  # type: ignore[misc]
        await _until(patient, name, since, len(channels))
        at = [h.at for h in listener.heard if h.at >= since and h.message.event == name]
        if not at:
            break
        answered.append(answer.finished_at - answer.started_at)
        first.append(at[0] - since)
        if len(at) > 1:
            gaps.append(at[1] - at[0])
    return answered, first, gaps


async def _until(patient: Patient, name: str, since: int, count: int) -> None:
    """Wait until all frames of an event are there, for as long as a delayed acknowledgement may last."""
    listener = patient.listener
    deadline = time.monotonic() + DELAYED[1]
    while time.monotonic() < deadline and not listener.ended:
        if sum(h.at >= since and h.message.event == name for h in listener.heard) >= count:
            return
        await asyncio.sleep(0.001)


def _second_frame(quick: float, late: float) -> list[Finding]:
    """Nanoseconds from the first frame of an event to the second, where the client acknowledges at once (*quick*) and where it
    does not (*late*): the difference is the delayed acknowledgement."""
    if late < DELAYED[0] * SECOND:
        return []
    detail = f"the second frame of an event comes {in_ms(late)} after the first"
    if quick > late / 4:
        return [Finding("second frame", "ok", detail, "not the client's acknowledgement: the broadcaster itself takes that long")]
    advice = (
        "the broadcaster sends without TCP_NODELAY (as Reverb does), so the second frame waits for the client's acknowledgement; "
        "pages on one channel do not feel it, nor pages behind a proxy that sets TCP_NODELAY (nginx: tcp_nodelay on)"
    )
    return [Finding("delayed acknowledgement", "ok", f"{detail}, {in_ms(quick)} where the client acknowledges at once", advice)]


def dispatch(patient: Patient, first: ReceivedFrame, answer: HttpAnswer) -> list[Finding]:
    """Whether the event was sent now or through a queue, and how the time until it was heard divides over the stations."""
    total, late, took = first.at - answer.started_at, first.at - answer.finished_at, answer.finished_at - answer.started_at
    if late <= QUEUED * SECOND:
        return [Finding("dispatch", "ok", f"now: heard {in_ms(total)} after the request began, which took {in_ms(took)}")]
    broadcaster = min(patient.direct, late)
    parts = [
        f"application {in_ms(took)}",
        f"queue and its worker {in_ms(late - broadcaster)}",
        f"broadcaster and network {in_ms(broadcaster)}" if broadcaster else "broadcaster and network not known",
    ]
    detail = f"queued: heard {in_ms(late)} after the answer; {in_ms(total)} = {', '.join(parts)}"
    advice = "an idle worker sleeps up to 3 s (--sleep) before it looks again; ShouldBroadcastNow sends within the request"
    return [Finding("dispatch", "ok", detail, advice)]
