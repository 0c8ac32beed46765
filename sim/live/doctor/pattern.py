"""The doctor's checks of the pattern itself: who may listen, what is broadcast, when, and what the refetch then brings."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from sim.live.client import HttpAnswer
from sim.live.doctor.account import FORM
from sim.live.doctor.answers import in_words, is_html, json_object, json_of, on_the_way
from sim.live.doctor.checks import HOW_TO_GIVE_AN_ACCOUNT, Finding, Patient
from sim.live.doctor.listener import ReceivedFrame
from sim.live.doctor.timing import dispatch
from sim.live.drive.requests import refusal, signed_event
from sim.live.remedies import PROTOCOL
from sim.pusher.auth import channel_auth
from sim.target import Account
from sim.target.descriptor import Sign

JSON = "application/json"

ECHO_NAMESPACE = "App\\Events\\"

RACES = 3
"""Changes after which the refetch is raced against the commit."""

WHOLE_SECOND = 1.1
"""Seconds after which a time stamp of whole seconds has moved on."""

LARGE = 8_000
"""Bytes of an event that are near the 10,000 of Reverb's and Pusher's limit."""

CSRF = "a CSRF check stands before it, and no token of this session came: the page must send X-CSRF-TOKEN or X-XSRF-TOKEN"

NO_ROUTE = (
    "no channel authorisation there: php artisan install:broadcasting, or Broadcast::routes() in a service provider; "
    'an API has it under /api: "auth": "/api/broadcasting/auth" in target.json'
)

GUARD = "for tokens Broadcast::routes(['middleware' => ['auth:sanctum']])"


# ---- who may listen


async def authorisation(patient: Patient) -> list[Finding]:
    """Private channels: the owner may, a stranger and a guest may not; and the signature fits the broadcaster's secret."""
    target = patient.target
    if not target.api or patient.owner is None or "application" in patient.down:
        why = "no application in the target" if not target.api else "no user of the application is known"
        why = "the application does not answer" if "application" in patient.down else why
        advice = HOW_TO_GIVE_AN_ACCOUNT if target.api else "give api and users in target.json to check the endpoint"
        return [_signed_here(patient, why, advice)]
    findings = [Finding("private auth", "ok", f"{name} is public: anybody may listen") for name in _public(patient)]
    for channel in _guarded(patient):
        answer = await _authorise(patient, channel, patient.owner)
        if answer.status in (404, 405) or on_the_way(answer, "application"):
            # The same for every channel and for everybody: said once.
            advice = on_the_way(answer, "application") or NO_ROUTE
            findings.append(Finding("private auth", "problem", f"POST {target.auth}: {in_words(answer)}", advice))
            return [*findings, _signed_here(patient, f"{target.auth} does not answer", "")]
        findings.append(_owner_finding(patient, channel, answer))
    specific = patient.channels[0]
    for who, user in (("stranger", patient.stranger), ("guest", None)) if specific in _guarded(patient) else ():
        if who == "stranger" and user is None:
            findings.append(Finding("private auth", "skipped", f"no second user with other {patient.ids} in the target"))
            continue
        answer = await _authorise(patient, specific, user)
        findings.append(_refusal_finding(who, specific, answer))
    return findings


def _guarded(patient: Patient) -> list[str]:
    return [channel for channel in patient.channels if channel.startswith(("private-", "presence-"))]


def _public(patient: Patient) -> list[str]:
    """Channels that need no signature; they can be subscribed to at once."""
    public = [channel for channel in patient.channels if channel not in _guarded(patient)]
    patient.auths |= dict.fromkeys(public, ("", None))
    return public


def _signed_here(patient: Patient, why: str, advice: str) -> Finding:
    target = patient.target
    if not target.secret:
        return Finding("private auth", "skipped", f"{why}, and no secret to sign with", advice)
    _public(patient)
    for channel in _guarded(patient):
        member = json.dumps({"user_id": "workbench-doctor"}) if channel.startswith("presence-") else None
        patient.auths[channel] = (_signature(patient, channel, member), member)
    return Finding("private auth", "ok", f"signed here: {why}", advice)


def _signature(patient: Patient, channel: str, member: str | None) -> str:
    """What the target's own key and secret make of it."""
    return channel_auth(patient.target.key, patient.target.secret, patient.listener.socket_id, channel, member or "")


async def _authorise(patient: Patient, channel: str, user: Account | None) -> HttpAnswer:
    """As Echo does: a form, and no Accept."""
    body = urlencode({"socket_id": patient.listener.socket_id, "channel_name": channel}).encode()
    return await patient.ask_api("POST", patient.target.auth, user, body, Content_Type=FORM, Accept="")


def _owner_finding(patient: Patient, channel: str, answer: HttpAnswer) -> Finding:
    auth, member = (json_of(answer).get(name) for name in ("auth", "channel_data"))
    if not answer.ok or not isinstance(auth, str):
        detail = in_words(answer) if not answer.ok else f"{in_words(answer)}, without an auth member"
        advice = {
            200: "a page in place of JSON: a login form, or a proxy that answers everything with the start page",
            302: f"sent to a page: the route does not take this proof; {GUARD}",
            401: f"the token is not accepted, or the session: check the users; {GUARD}",
            403: f"the channel's callback refuses its owner, or routes/channels.php does not name this channel{_others(patient)}",
            419: CSRF,
            429: "the route is throttled: pages that reconnect together authorise together",
        }.get(answer.status, "look at the application's log (storage/logs/laravel.log)")
        return Finding("private auth", "problem", f"owner of {channel}: {detail}", advice)
    patient.auths[channel] = (auth, member if isinstance(member, str) else None)
    if patient.target.secret and auth != _signature(patient, channel, patient.auths[channel][1]):
        advice = (
            "application and broadcaster must have the same REVERB_APP_KEY and REVERB_APP_SECRET (config cached? config:clear)"
        )
        return Finding("private auth", "problem", f"owner of {channel}: the signature is not that of our key and secret", advice)
    return Finding("private auth", "ok", f"owner may listen to {channel}")


def _others(patient: Patient) -> str:
    """A word on channels of an application's own, where its users own something else."""
    lists = [name for user in patient.target.users for name, _ in user.owned if not patient.target.keys(patient.ids).count]
    return f"; for channels of your own give --channel 'private-{lists[0]}.{{id}}'" if lists else ""


def _refusal_finding(who: str, channel: str, answer: HttpAnswer) -> Finding:
    if answer.status in (401, 403):
        return Finding("private auth", "ok", f"a {who} may not ({answer.status})")
    if answer.ok and json_of(answer).get("auth"):
        return Finding(
            "private auth", "problem", f"a {who} may listen to {channel}", "the channel's callback must check the owner"
        )
    if who == "guest" and 300 <= answer.status < 400:
        advice = "a browser follows it and sees a page with status 200: have the route answer 401 or 403 in JSON"
        return Finding("private auth", "ok", f"a guest is sent away: {in_words(answer)}", advice)
    advice = CSRF if answer.status == 419 else "a browser sees that as an error without a reason: answer 401 or 403 in JSON"
    return Finding("private auth", "ok" if answer.status == 419 else "problem", f"a {who} gets {in_words(answer)}", advice)


async def subscription(patient: Patient) -> list[Finding]:
    """The broadcaster accepts what the application signed."""
    listener = patient.listener
    if not patient.auths:
        return [Finding("subscribe", "skipped", "nobody may")]
    findings = []
    for channel, (auth, member) in patient.auths.items():
        refused = await listener.subscribe(channel, auth, member, patient.patience)
        if refused:
            advice = "look at the broadcaster's log"
            if "4009" in refused or "subscription_error 401" in refused:
                advice = "the broadcaster's secret differs from the signer's: compare REVERB_APP_SECRET, restart the broadcaster"
            findings.append(Finding("subscribe", "problem", f"{channel}: {refused}", PROTOCOL.get(listener.code, advice)))
        else:
            patient.subscribed.add(channel)
            patient.same_secret |= bool(patient.target.secret and auth) and auth == _signature(patient, channel, member)
            findings.append(Finding("subscribe", "ok", channel))
    return findings


# ---- what is published


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
    findings.append(Finding("publish", "ok", f"accepted in {_ms(answer.finished_at - answer.started_at)}"))
    if channel not in patient.subscribed:
        return [*findings, Finding("receipt", "skipped", f"not subscribed to {channel}")]
    heard = await listener.wait(lambda message: message.event == "workbench-doctor", patient.patience, before)
    if heard is None:
        advice = "several broadcaster nodes without scaling (Redis), or HTTP and WebSocket on different servers"
        advice = PROTOCOL.get(listener.code, advice)
        return [*findings, Finding("receipt", "problem", f"accepted, but nobody heard it{_lost(patient)}", advice)]
    return [*findings, Finding("receipt", "ok", f"{_ms(heard.at - before)} after publishing")]


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


def _lost(patient: Patient) -> str:
    ended = patient.connection.ended if patient.connection is not None else ""
    return f": {ended}" if ended else ""


async def change(patient: Patient) -> list[Finding]:
    """A change through the application: is it broadcast, under which name, how often, how late?

    Where the change routes are not known (a foreign application), somebody else makes the change while the doctor listens.
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
    await listener.wait(lambda message: bool(listener.of(channels, since)), patience, since)
    first = next(iter(listener.of(channels, since)), None)
    made = answer is not None and answer.ok
    if first is None:
        return [_unheard(patient, f"saved ({answer.status if answer else 0}), but" if made else f"within {patience:g} s")]
    await asyncio.sleep(patient.settle)
    heard = listener.of(channels, since)
    findings = [
        Finding("change", "ok", f"broadcast on {', '.join(sorted({str(h.message.channel) for h in heard}))}"),
        _name_finding(first),
        _double_finding(heard),
        *_size_finding(heard),
    ]
    return [*findings, *dispatch(patient, first, answer)] if made and answer is not None else findings


def _no_change(patient: Patient, answer: HttpAnswer | None) -> Finding:
    """Nothing was changed, and no change is awaited; *answer*: to a change whose route is not known."""
    if not patient.changes:
        detail = "no changes allowed"
    else:
        detail = in_words(answer) if answer else "no application, or nobody who may"
    request = f"""--change 'PUT /api/{patient.ids}/{{id}} {{"note": "{{n}}"}}'"""
    return Finding("change", "skipped", detail, f"give {request}, or --listen SECONDS and change something meanwhile")


def _unheard(patient: Patient, what: str) -> Finding:
    """No event came, though *what*."""
    advice = (
        "is it dispatched (broadcastWhen, wasChanged)? does a queue worker run? is BROADCAST_CONNECTION=reverb, and does "
        "REVERB_HOST lead to the broadcaster?"
    )
    detail = f"{what} nothing was broadcast on {', '.join(sorted(set(patient.channels)))}{_lost(patient)}"
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


# ---- what the refetch brings


async def race(patient: Patient) -> list[Finding]:
    """Does a refetch that starts with the notification already see the change? Compared with a later refetch, like with like."""
    if not patient.changes or patient.owner is None:
        return [Finding("after commit", "skipped", "no changes allowed")]
    listener, specific, stale, seen = patient.listener, patient.channels[0], 0, 0
    before = version_of(await ask_resource(patient), patient.version)
    for _ in range(RACES):
        since = time.time_ns()
        # Not awaited yet: what matters is the time between the notification and the answer to the change.
        making = asyncio.create_task(make_change(patient))
        heard = await listener.wait(lambda message: message.channel == specific, patient.patience, since)
        refetched = await ask_resource(patient) if heard else None
        await making
        got = version_of(refetched, patient.version)
        settled = version_of(await ask_resource(patient), patient.version)
        if got is not None and settled is not None and settled != before:
            seen += 1
            stale += got != settled
        pause = WHOLE_SECOND if settled is not None and settled == before else 0.05
        before = settled
        await asyncio.sleep(pause)
    if not seen:
        advice = "a counter, or a time stamp with fractions of a second, tells every change apart"
        return [Finding("after commit", "skipped", f"{patient.version!r} did not change with the resource", advice)]
    if stale:
        advice = "the event leaves before the commit: set $afterCommit = true (or after_commit in config/queue.php)"
        return [Finding("after commit", "problem", f"{stale} of {seen} refetches on notification brought the old state", advice)]
    return [Finding("after commit", "ok", f"{seen} of {seen} refetches on notification brought the new state")]


async def refetch(patient: Patient) -> list[Finding]:
    """The GET that every page sends: status, size, ETag, limits."""
    if not patient.target.api:
        return [Finding("refetch", "skipped", "no application in the target")]
    if patient.owner is None:
        return [Finding("refetch", "skipped", "nobody who may read in the target", HOW_TO_GIVE_AN_ACCOUNT)]
    answer = await ask_resource(patient)
    if not answer.ok or is_html(answer):
        advice = on_the_way(answer, "application") or {
            200: "a page in place of JSON: is it the API's path? some applications answer everything with their start page",
            302: "sent to the login form: the token or session is not accepted on this route",
            401: "the token or session is not accepted: check the users (--accounts), and the guard of this route",
            403: "this user may not read it",
            404: "give the path of your resource: --refetch '/api/servers/{id}' (load.refetch in a scenario)",
            409: "an Inertia page whose assets have changed: a page loads itself anew",
            419: CSRF,
            429: "pages of one user share this limit: raise it, or debounce longer",
        }.get(answer.status, "look at the application's log")
        return [Finding("refetch", "problem", f"GET {patient.path(patient.refetch)}: {in_words(answer)}", advice)]
    took, size = _ms(answer.finished_at - answer.started_at), len(answer.body)
    findings = [Finding("refetch", "ok", f"GET {patient.path(patient.refetch)}: {answer.status}, {size:,} bytes in {took}")]
    if version_of(answer, patient.version) is None:
        advice = "give the path of a number or time that grows with every change: --version data.updated_at (load.version)"
        findings.append(
            Finding("version", "problem", f"no {patient.version!r} in the JSON: time to fresh cannot be measured", advice)
        )
    etag = answer.headers.get("etag")
    if etag:
        again = await patient.ask_api("GET", patient.path(patient.refetch), patient.owner, If_None_Match=etag)
        detail = "unchanged answers are 304" if again.status == 304 else f"but If-None-Match still gets {again.status}"
        findings.append(Finding("etag", "ok", detail))
    else:
        findings.append(Finding("etag", "ok", "none", "an ETag saves the body where nothing changed (not the query)"))
    return [*findings, *_limits(answer)]


def _limits(answer: HttpAnswer) -> list[Finding]:
    limit, left = (answer.headers.get(name) for name in ("x-ratelimit-limit", "x-ratelimit-remaining"))
    if limit is None:
        return [Finding("rate limit", "ok", "no rate limit in the headers")]
    advice = "every page of a user counts: pages x updates a minute must stay below it, or refetches fail with 429"
    return [Finding("rate limit", "ok", f"{limit} a minute, {left} left", advice)]


async def ask_resource(patient: Patient) -> HttpAnswer:
    return await patient.ask_api("GET", patient.path(patient.refetch), patient.owner)


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


def version_of(answer: HttpAnswer | None, path: str) -> Any:
    """The value at a dotted path of the answer's JSON; None when there is none."""
    found: Any = json_of(answer) if answer is not None and answer.ok else None
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int | float | str) else None


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.1f} ms"
