"""The doctor's check of publishing: the broadcaster takes a signed event, and a subscriber receives it."""

from __future__ import annotations

import time
from dataclasses import replace

from sim.live.client import HttpAnswer
from sim.live.doctor.answers import in_words, json_object, on_the_way
from sim.live.doctor.checks import Finding, Patient, in_ms
from sim.live.drive.requests import refusal, signed_event
from sim.live.remedies import PROTOCOL
from sim.target.descriptor import Sign


async def publication(patient: Patient) -> list[Finding]:
    """A signed event to the HTTP API, and its receipt."""
    listener, channel, target = patient.listener, patient.channels[0], patient.target
    if not target.secret:
        return [Finding("publish", "skipped", "no secret in the target")]
    before = time.time_ns()
    answer = await _publish(patient, channel, before)
    findings: list[Finding] = []
    if _refused(answer) == 401 and target.path:
        other: Sign = "bare" if target.sign == "full" else "full"
        before = time.time_ns()
        again = await _publish(patient, channel, before, sign=other)
        if _accepted(again):
            what = "with the path prefix in what is signed" if other == "full" else "without the path prefix in what is signed"
            advice = f'set "sign": "{other}" in ws of target.json; an SDK that signs the other way is refused (401)'
            findings.append(Finding("publish", "ok", f"accepted only {what}", advice))
            answer = again
    if not _accepted(answer):
        detail = in_words(answer) if not answer.ok else f"{in_words(answer)}: {refusal(answer)[1]}"
        return [Finding("publish", "problem", detail, _publish_advice(patient, answer))]
    findings.append(Finding("publish", "ok", f"accepted in {in_ms(answer.finished_at - answer.started_at)}"))
    if channel not in patient.subscribed:
        return [*findings, Finding("receipt", "skipped", f"not subscribed to {channel}")]
    heard = await listener.wait(lambda message: message.event == "workbench-doctor", patient.patience, before)
    if heard is None:
        advice = "several broadcaster nodes without scaling (Redis), or HTTP and WebSocket on different servers"
        advice = PROTOCOL.get(listener.code, advice)
        return [*findings, Finding("receipt", "problem", f"accepted, but nobody heard it{patient.ending}", advice)]
    return [*findings, Finding("receipt", "ok", f"{in_ms(heard.at - before)} after publishing")]


async def _publish(patient: Patient, channel: str, now: int, sign: Sign | None = None) -> HttpAnswer:
    target = replace(patient.target, sign=sign) if sign else patient.target
    return await patient.ask("broadcaster", *signed_event(target, "workbench-doctor", [channel], {"at": now}, now))


def _refused(answer: HttpAnswer) -> int:
    """The status with which it was refused, wherever that stands."""
    return refusal(answer)[0] if answer.ok else answer.status


def _accepted(answer: HttpAnswer) -> bool:
    """A web page with status 200 is no accepted event, nor is soketi's `{"error": ...}`."""
    return answer.ok and not refusal(answer)[1]


def _publish_advice(patient: Patient, answer: HttpAnswer) -> str:
    elsewhere = on_the_way(answer, "broadcaster")
    text, status = answer.body[:300].decode("utf-8", "replace").lower(), _refused(answer)
    if elsewhere:
        return elsewhere
    if status == 401 and "timestamp" in text:
        return "the clocks differ by more than 600 s: synchronise them (chrony, systemd-timesyncd)"
    if status == 401 and patient.same_secret:
        return (
            "the secret is right (the subscription was accepted with it): something on the way changes path, query or body; "
            "or the path has a prefix that one side signs and the other does not (REVERB_SERVER_PATH, ws.sign)"
        )
    if status == 404 and json_object(answer) is None and "no matching application" not in text:
        return "no HTTP API on this path: check the port and the path prefix, and that the proxy passes /apps on as well as /app"
    return {
        0: "look at the broadcaster's log; is it the port of its HTTP API?",
        200: "a page in place of an answer: a web server answers there, or the proxy passes only /app on, not /apps",
        401: "wrong REVERB_APP_SECRET, or a proxy changes path or body",
        403: "the broadcaster does not let this app publish: REVERB_APP_KEY, or its quota",
        404: "wrong REVERB_APP_ID",
        405: "what answers there takes no POST: is it the broadcaster's port, and does the proxy pass /apps on?",
        413: "the event is larger than max_request_size",
        422: "the broadcaster finds the event malformed",
    }.get(status, "look at the broadcaster's log")
