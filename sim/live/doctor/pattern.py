"""The doctor's checks of the pattern itself: who may listen, what is broadcast, when, and what the refetch then brings."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import urlencode

from sim.clock import SECOND
from sim.live.client import Answer
from sim.live.doctor.checks import Finding, Patient
from sim.live.doctor.listener import Heard
from sim.live.drive.requests import signed_event
from sim.pusher.auth import channel_auth

ECHO_NAMESPACE = "App\\Events\\"
QUEUED = 0.05
"""Seconds after the answer from which on an event must have come through a queue."""

RACES = 3
"""Changes after which the refetch is raced against the commit."""


async def authorisation(patient: Patient) -> list[Finding]:
    """Private channels: the owner may, a stranger and a guest may not; and the signature fits the broadcaster's secret."""
    listener = patient.listener
    assert listener is not None
    if not patient.target.api or patient.owner is None:
        for channel in patient.channels.values():
            patient.auths[channel] = channel_auth(patient.target.key, patient.target.secret, listener.socket_id, channel)
        why = "no application in the target" if not patient.target.api else "no user with a server in the target"
        return [Finding("private auth", "ok", f"signed here: {why}", "give api and users in target.json to check the endpoint")]
    findings = []
    for channel in patient.channels.values():
        answer = await _authorise(patient, channel, patient.owner)
        findings.append(_owner_finding(patient, channel, answer))
    specific = patient.channels["specific"]
    for who, user in (("stranger", patient.stranger), ("guest", None)):
        if who == "stranger" and user is None:
            findings.append(Finding("private auth", "skipped", "no second user with other servers in the target"))
            continue
        answer = await _authorise(patient, specific, user)
        findings.append(_refusal_finding(who, specific, answer))
    return findings


async def _authorise(patient: Patient, channel: str, user: Any) -> Answer:
    assert patient.listener is not None
    body = urlencode({"socket_id": patient.listener.socket_id, "channel_name": channel}).encode()
    form = "application/x-www-form-urlencoded"
    return await patient.ask_api("POST", "/broadcasting/auth", user, body, Content_Type=form)


def _owner_finding(patient: Patient, channel: str, answer: Answer) -> Finding:
    target = patient.target
    assert patient.listener is not None
    auth = _json(answer).get("auth")
    if not answer.ok or not isinstance(auth, str):
        said = _status(answer) if not answer.ok else f"HTTP {answer.status} without an auth member"
        advice = {
            401: "the token is not accepted: check the users in target.json",
            403: "the channel's callback refuses its owner, or routes/channels.php does not name this channel",
            404: "no /broadcasting/auth: is broadcasting installed (php artisan install:broadcasting)?",
            419: "the CSRF check is on for this route",
        }.get(answer.status, "look at the application's log")
        return Finding("private auth", "problem", f"owner of {channel}: {said}", advice)
    patient.auths[channel] = auth
    if target.secret and auth != channel_auth(target.key, target.secret, patient.listener.socket_id, channel):
        advice = (
            "application and broadcaster must have the same REVERB_APP_KEY and REVERB_APP_SECRET (config cached? config:clear)"
        )
        return Finding("private auth", "problem", f"owner of {channel}: the signature is not that of our key and secret", advice)
    return Finding("private auth", "ok", f"owner may listen to {channel}")


def _refusal_finding(who: str, channel: str, answer: Answer) -> Finding:
    if answer.status in (401, 403):
        return Finding("private auth", "ok", f"a {who} may not ({answer.status})")
    if answer.ok and _json(answer).get("auth"):
        return Finding(
            "private auth", "problem", f"a {who} may listen to {channel}", "the channel's callback must check the owner"
        )
    advice = "a browser sees that as an error without a reason: answer 401 or 403 in JSON"
    return Finding("private auth", "problem", f"a {who} gets {_status(answer)}", advice)


async def subscription(patient: Patient) -> list[Finding]:
    """The broadcaster accepts what the application signed."""
    assert patient.listener is not None
    if not patient.auths:
        return [Finding("subscribe", "skipped", "nobody may")]
    findings = []
    for channel, auth in patient.auths.items():
        refused = await patient.listener.subscribe(channel, auth, patient.patience)
        if refused:
            advice = (
                "the broadcaster's secret differs from the signer's" if "4009" in refused else "look at the broadcaster's log"
            )
            findings.append(Finding("subscribe", "problem", f"{channel}: {refused}", advice))
        else:
            patient.subscribed.add(channel)
            findings.append(Finding("subscribe", "ok", channel))
    return findings


async def publication(patient: Patient) -> list[Finding]:
    """A signed event to the HTTP API, and its receipt."""
    listener, channel = patient.listener, patient.channels["specific"]
    assert listener is not None
    if not patient.target.secret:
        return [Finding("publish", "skipped", "no secret in the target")]
    before = time.time_ns()
    request = signed_event(patient.target, "workbench-doctor", [channel], {"at": before}, before)
    answer = await patient.ask_broadcaster(*request)
    if not answer.ok:
        text = answer.body[:80].decode("utf-8", "replace").strip()
        advice = {
            401: "wrong REVERB_APP_SECRET, or a proxy changes path or body",
            403: "wrong REVERB_APP_KEY, or the clock is off",
            404: "wrong REVERB_APP_ID, or a path prefix is missing",
            413: "the event is larger than max_request_size",
        }.get(answer.status, "look at the broadcaster's log")
        return [Finding("publish", "problem", f"{_status(answer)} {text}", advice)]
    findings = [Finding("publish", "ok", f"accepted in {_ms(answer.finished_at - answer.started_at)}")]
    heard = await listener.wait(lambda message: message.event == "workbench-doctor", patient.patience, before)
    if heard is None and channel not in patient.subscribed:
        return [*findings, Finding("receipt", "skipped", f"not subscribed to {channel}")]
    if heard is None:
        advice = "several broadcaster nodes without scaling (Redis), or HTTP and WebSocket on different servers"
        return [*findings, Finding("receipt", "problem", "accepted, but nobody heard it", advice)]
    return [*findings, Finding("receipt", "ok", f"{_ms(heard.at - before)} after publishing")]


async def change(patient: Patient) -> list[Finding]:
    """A change through the application: is it broadcast, under which name, how often, how late?

    Where the change routes are not known (a foreign application), somebody else makes the change while the doctor listens.
    """
    assert patient.listener is not None
    since, answer, patience = time.time_ns(), None, patient.listen
    if patient.changes and patient.owner is not None and patient.target.api:
        answer = await _make_change(patient)
        if answer.ok:
            since, patience = answer.started_at, patient.patience
    if patience == 0:
        said = "no changes allowed" if not patient.changes else _status(answer) if answer else "no application, or nobody who may"
        return [Finding("change", "skipped", said, "give --listen SECONDS, and change something in the application meanwhile")]
    channels = set(patient.channels.values())
    first = await patient.listener.wait(lambda message: message.channel in channels, patience, since)
    if first is None:
        advice = (
            "is it dispatched (broadcastWhen, wasChanged)? does a queue worker run? does REVERB_HOST lead to the broadcaster?"
        )
        said = f"saved ({answer.status}), but" if answer is not None and answer.ok else f"within {patience:g} s"
        return [Finding("change", "problem", f"{said} nothing was broadcast on {', '.join(sorted(channels))}", advice)]
    await asyncio.sleep(0.3)
    heard = patient.listener.of(channels, since)
    findings = [
        Finding("change", "ok", f"broadcast on {', '.join(sorted({str(h.message.channel) for h in heard}))}"),
        _name_finding(first),
        _double_finding(heard),
    ]
    return [*findings, _dispatch_finding(first, answer)] if answer is not None and answer.ok else findings


def _name_finding(heard: Heard) -> Finding:
    """What a page must write in `listen` to hear it."""
    name = heard.message.event
    if name.startswith(ECHO_NAMESPACE):
        short = name.removeprefix(ECHO_NAMESPACE).replace("\\", ".")
        advice = f"Echo: listen('{short}'), without a dot in front ('.{short}' never fires, and nothing says so)"
        return Finding("event name", "ok", f"class name {name}", advice)
    return Finding(
        "event name", "ok", f"custom name {name}", f"Echo: listen('.{name}'), with a dot in front ('{name}' never fires)"
    )


def _double_finding(heard: list[Heard]) -> Finding:
    channels = [str(h.message.channel) for h in heard]
    if len(channels) != len(set(channels)):
        advice = "two listeners or a retried job broadcast the same change: refetches double"
        return Finding("double notification", "problem", f"{len(channels)} events on {len(set(channels))} channels", advice)
    if len(set(channels)) > 1:
        advice = "a page that listens to both refetches twice without a debounce: listen to one, or share one debounce"
        return Finding("double notification", "ok", "specific and generic channel, one event each", advice)
    return Finding("double notification", "ok", f"one event, on {channels[0]}")


def _dispatch_finding(first: Heard, answer: Answer) -> Finding:
    late = first.at - answer.finished_at
    if late <= QUEUED * SECOND:
        return Finding("dispatch", "ok", f"now: heard {_ms(first.at - answer.started_at)} after the request began")
    advice = "an idle worker sleeps up to 3 s (--sleep) before it looks again; ShouldBroadcastNow sends within the request"
    return Finding("dispatch", "ok", f"queued: heard {_ms(late)} after the answer", advice)


async def race(patient: Patient) -> list[Finding]:
    """Does a refetch that starts with the notification already see the change?"""
    if not patient.changes or patient.owner is None:
        return [Finding("after commit", "skipped", "no changes allowed")]
    assert patient.listener is not None
    specific, stale, seen = patient.channels["specific"], 0, 0
    for _ in range(RACES):
        since = time.time_ns()
        # Not awaited yet: what matters is the time between the notification and the answer to the change.
        making = asyncio.create_task(_make_change(patient))
        heard = await patient.listener.wait(lambda message: message.channel == specific, patient.patience, since)
        refetched = await _refetch(patient) if heard else None
        answer = await making
        wanted = _version(answer, "version") if answer else None
        got = _version(refetched, patient.version) if refetched else None
        if wanted is not None and got is not None:
            seen += 1
            stale += got < wanted
        await asyncio.sleep(0.05)
    if not seen:
        return [Finding("after commit", "skipped", "no version to compare in change and refetch")]
    if stale:
        advice = "the event leaves before the commit: set $afterCommit = true (or after_commit in config/queue.php)"
        return [Finding("after commit", "problem", f"{stale} of {seen} refetches on notification brought the old state", advice)]
    return [Finding("after commit", "ok", f"{seen} of {seen} refetches on notification brought the new state")]


async def refetch(patient: Patient) -> list[Finding]:
    """The GET that every page sends: status, size, ETag, limits."""
    if not patient.target.api or patient.owner is None:
        return [Finding("refetch", "skipped", "no application, or no user who may read, in the target")]
    answer = await _refetch(patient)
    path = patient.refetch.format(id=patient.server)
    if not answer.ok:
        advice = {
            401: "the token is not accepted",
            403: "this user may not read it",
            404: "set load.refetch to the path of your resource, as /api/servers/{id}",
            429: "pages of one user share this limit: raise it, or debounce longer",
        }.get(answer.status, "look at the application's log")
        return [Finding("refetch", "problem", f"GET {path}: {_status(answer)}", advice)]
    took, size = _ms(answer.finished_at - answer.started_at), len(answer.body)
    findings = [Finding("refetch", "ok", f"GET {path}: {answer.status}, {size:,} bytes in {took}")]
    if _version(answer, patient.version) is None:
        advice = "set load.version to the path of a number or time that grows with every change, as data.updated_at"
        findings.append(
            Finding("version", "problem", f"no {patient.version!r} in the JSON: time to fresh cannot be measured", advice)
        )
    etag = answer.headers.get("etag")
    if etag:
        again = await patient.ask_api("GET", path, patient.owner, If_None_Match=etag)
        said = "unchanged answers are 304" if again.status == 304 else f"but If-None-Match still gets {again.status}"
        findings.append(Finding("etag", "ok", said))
    else:
        findings.append(Finding("etag", "ok", "none", "an ETag saves the body where nothing changed (not the query)"))
    return [*findings, *_limits(answer)]


def _limits(answer: Answer) -> list[Finding]:
    limit, left = (answer.headers.get(name) for name in ("x-ratelimit-limit", "x-ratelimit-remaining"))
    if limit is None:
        return [Finding("rate limit", "ok", "no rate limit in the headers")]
    advice = "every page of a user counts: pages x updates a minute must stay below it, or refetches fail with 429"
    return [Finding("rate limit", "ok", f"{limit} a minute, {left} left", advice)]


async def _refetch(patient: Patient) -> Answer:
    return await patient.ask_api("GET", patient.refetch.format(id=patient.server), patient.owner)


async def _make_change(patient: Patient) -> Answer:
    """Move the first step of the owner's server on by one: installing, completed, installing, ..."""
    path, headers = f"/servers/{patient.server}/provision/1", {"Content_Type": "application/json"}
    statuses = ("completed", "installing") if patient.moved_to == "installing" else ("installing", "completed")
    for status in statuses:
        answer = await patient.ask_api("PUT", path, patient.owner, json.dumps({"status": status}).encode(), **headers)
        if answer.ok and _json(answer).get("changed", True):
            patient.moved_to = status
            break
    return answer


def _version(answer: Answer | None, path: str) -> Any:
    """The value at a dotted path of the answer's JSON; None when there is none."""
    found: Any = _json(answer) if answer is not None else None
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _json(answer: Answer) -> dict[str, Any]:
    try:
        tree = json.loads(answer.body)
    except ValueError:
        return {}
    return tree if isinstance(tree, dict) else {}


def _status(answer: Answer) -> str:
    return f"HTTP {answer.status}" if answer.status else answer.reason


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.1f} ms"
