"""The doctor's checks of permissions: the application signs for the owner alone, and the broadcaster accepts its signature."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from sim.live.client import HttpAnswer
from sim.live.doctor.account import FORM
from sim.live.doctor.answers import CSRF, in_words, json_of, on_the_way
from sim.live.doctor.checks import HOW_TO_GIVE_AN_ACCOUNT, Finding, Patient
from sim.live.remedies import PROTOCOL
from sim.pusher.auth import channel_auth
from sim.target import Account

NO_ROUTE = (
    "no channel authorisation there: php artisan install:broadcasting, or Broadcast::routes() in a service provider; "
    'an API has it under /api: "auth": "/api/broadcasting/auth" in target.json'
)

GUARD = "for tokens Broadcast::routes(['middleware' => ['auth:sanctum']])"


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
            # The same for every channel and user: one finding is enough.
            advice = on_the_way(answer, "application") or NO_ROUTE
            findings.append(Finding("private auth", "problem", f"POST {target.auth}: {in_words(answer)}", advice))
            return [*findings, _signed_here(patient, f"{target.auth} does not answer", "")]
        findings.append(_owner_finding(patient, channel, answer))
    specific = patient.channels[0]
    for role, user in (("stranger", patient.stranger), ("guest", None)) if specific in _guarded(patient) else ():
        if role == "stranger" and user is None:
            findings.append(Finding("private auth", "skipped", f"no second user with other {patient.ids} in the target"))
            continue
        answer = await _authorise(patient, specific, user)
        findings.append(_refusal_finding(role, specific, answer))
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


def _refusal_finding(role: str, channel: str, answer: HttpAnswer) -> Finding:
    if answer.status in (401, 403):
        return Finding("private auth", "ok", f"a {role} may not ({answer.status})")
    if answer.ok and json_of(answer).get("auth"):
        return Finding(
            "private auth", "problem", f"a {role} may listen to {channel}", "the channel's callback must check the owner"
        )
    if role == "guest" and 300 <= answer.status < 400:
        advice = "a browser follows it and sees a page with status 200: have the route answer 401 or 403 in JSON"
        return Finding("private auth", "ok", f"a guest is sent away: {in_words(answer)}", advice)
    advice = CSRF if answer.status == 419 else "a browser sees that as an error without a reason: answer 401 or 403 in JSON"
    return Finding("private auth", "ok" if answer.status == 419 else "problem", f"a {role} gets {in_words(answer)}", advice)


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
