"""The doctor's check of a change through the application: what is broadcast for it, on which channels, how large and when."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from sim.live.client import HttpAnswer
from sim.live.doctor.answers import CSRF, in_words, is_html, json_of, on_the_way
from sim.live.doctor.checks import Finding, Patient
from sim.live.doctor.listener import ReceivedFrame
from sim.live.doctor.timing import dispatch
from sim.live.remedies import PROTOCOL
from sim.pusher.messages import Message

JSON = "application/json"

ECHO_NAMESPACE = "App\\Events\\"

LARGE = 8_000
"""Bytes of an event that are near the 10,000 of Reverb's and Pusher's limit."""


async def change(patient: Patient) -> list[Finding]:
    """A change through the application: whether it is broadcast, under which name, how often, how late.

    Where the change routes are not known (a foreign application), the user makes the change while the doctor listens.
    """
    listener = patient.listener
    since, answer, patience = time.time_ns(), None, patient.listen
    may = patient.changes and patient.owner is not None and bool(patient.target.api) and "application" not in patient.down
    if may:
        answer = await make_change(patient)
        if answer.ok and not is_html(answer):
            since, patience = answer.started_at, patient.patience
        elif refusal := _change_refusal(patient, answer):
            return [refusal]
    if patience == 0:
        return [_no_change(patient, answer)]
    channels = set(patient.channels)
    await listener.wait(lambda message: message.channel in channels and _is_of(patient, message), patience, since)
    first = next(iter(_of_resource(patient, listener.of(channels, since))), None)
    made = answer is not None and answer.ok
    if first is None:
        return [_unheard(patient, f"saved ({answer.status if answer else 0}), but" if made else f"within {patience:g} s")]
    await asyncio.sleep(patient.settle)
    heard = _of_resource(patient, listener.of(channels, since))
    findings = [
        Finding("change", "ok", f"broadcast on {', '.join(sorted({str(h.message.channel) for h in heard}))}"),
        _name_finding(first),
        _double_finding(heard),
        *_size_finding(heard),
    ]
    return [*findings, *dispatch(patient, first, answer)] if made and answer is not None else findings


def _of_resource(patient: Patient, heard: list[ReceivedFrame]) -> list[ReceivedFrame]:
    """What is about the resource, where anything is: on a channel that others share, a live application's other changes come
    as well."""
    return [frame for frame in heard if _is_of(patient, frame.message)] or heard


def _is_of(patient: Patient, message: Message) -> bool:
    """Whether *message* comes on the resource's own channel, or has its id somewhere in its data."""
    own = {name for name, template in zip(patient.channels, patient.templates, strict=True) if "{id}" in template}
    return message.channel in own or str(patient.resource) in _texts(message.data)


def _texts(data: Any) -> set[str]:
    """Every value in *data*, as text."""
    if isinstance(data, Mapping | list):
        return set().union(*map(_texts, data.values() if isinstance(data, Mapping) else data))
    return {str(data)}


def _no_change(patient: Patient, answer: HttpAnswer | None) -> Finding:
    """Nothing was changed, and no change is awaited; *answer*: to a change whose route is not known."""
    if not patient.changes:
        detail = "no changes allowed"
    else:
        detail = in_words(answer) if answer else "no application, or no user"
    request = f"""--change 'PUT /api/{patient.ids}/{{id}} {{"note": "{{n}}"}}'"""
    return Finding("change", "skipped", detail, f"give {request}, or --listen SECONDS and change something meanwhile")


def _unheard(patient: Patient, what: str) -> Finding:
    """No event came, though *what*."""
    advice = (
        "is it dispatched (broadcastWhen, wasChanged)? does a queue worker run? is BROADCAST_CONNECTION=reverb, and does "
        "REVERB_HOST lead to the broadcaster?"
    )
    detail = f"{what} nothing was broadcast on {', '.join(sorted(set(patient.channels)))}{patient.ending}"
    return Finding("change", "problem", detail, PROTOCOL.get(patient.listener.code, advice))


def _change_refusal(patient: Patient, answer: HttpAnswer) -> Finding | None:
    """A problem of the application's own; None where the route is only not known."""
    if answer.status >= 500 and not on_the_way(answer, "application"):
        advice = (
            "the application fails on its own change: look at storage/logs/laravel.log (a broadcaster that refuses is one cause)"
        )
        return Finding("change", "problem", f"the application failed: {in_words(answer)}", advice)
    if answer.status == 419:
        return Finding("change", "problem", f"the application refused: {in_words(answer)}", CSRF)
    if patient.changing is not None:
        advice = on_the_way(answer, "application") or "look at --change: method, path, body; and may this user do it?"
        return Finding("change", "problem", f"{' '.join(patient.changing[:2])}: {in_words(answer)}", advice)
    return None


def _name_finding(heard: ReceivedFrame) -> Finding:
    """What a page must write in `listen` to hear it."""
    name = heard.message.event
    if name.startswith(ECHO_NAMESPACE):
        short = name.removeprefix(ECHO_NAMESPACE).replace("\\", ".")
        advice = f"Echo: listen('{short}'), without a dot in front ('.{short}' never fires, and nothing says so)"
        return Finding("event name", "ok", f"class name {name}", advice)
    return Finding(
        "event name", "ok", f"custom name {name}", f"Echo: listen('.{name}'), with a dot in front ('{name}' never fires)"
    )


def _double_finding(heard: list[ReceivedFrame]) -> Finding:
    channels = [str(h.message.channel) for h in heard]
    if len(channels) != len(set(channels)):
        advice = "two listeners or a retried job broadcast the same change: refetches double"
        return Finding("double notification", "problem", f"{len(channels)} events on {len(set(channels))} channels", advice)
    if len(set(channels)) > 1:
        advice = "a page that listens to both refetches twice without a debounce: listen to one, or share one debounce"
        return Finding("double notification", "ok", "specific and generic channel, one event each", advice)
    return Finding("double notification", "ok", f"one event, on {channels[0]}")


def _size_finding(heard: list[ReceivedFrame]) -> list[Finding]:
    largest = max(h.size for h in heard)
    if largest < LARGE:
        return []
    advice = "Reverb and Pusher refuse more than 10,000 bytes a request: send the id, and let the page fetch the rest"
    return [Finding("event size", "ok", f"{largest:,} bytes", advice)]


async def make_change(patient: Patient) -> HttpAnswer:
    """The change that was given; otherwise the first step of the owner's server by one: installing, completed, ..."""
    if patient.changing is not None:
        method, path, body = patient.changing
        body = body.replace("{n}", str(time.time_ns()))
        return await patient.ask_api(method, patient.path(path), patient.owner, body.encode(), Content_Type=JSON)
    path = patient.path("/servers/{id}/provision/1")
    statuses = ("completed", "installing") if patient.moved_to == "installing" else ("installing", "completed")
    for status in statuses:
        answer = await patient.ask_api("PUT", path, patient.owner, json.dumps({"status": status}).encode(), Content_Type=JSON)
        if answer.ok and json_of(answer).get("changed", True):
            patient.moved_to = status
            break
    return answer
