"""The doctor's checks of the refetch: whether it brings the change that was notified, and what it costs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sim.live.client import HttpAnswer
from sim.live.doctor.answers import CSRF, in_words, is_html, json_of, on_the_way
from sim.live.doctor.changes import make_change
from sim.live.doctor.checks import HOW_TO_GIVE_AN_ACCOUNT, Finding, Patient, in_ms

RACES = 3
"""Changes after which the refetch is raced against the commit."""

WHOLE_SECOND = 1.1
"""Seconds after which a time stamp of whole seconds has moved on."""


async def race(patient: Patient) -> list[Finding]:
    """Whether a refetch that starts with the notification already sees the change, compared with a later refetch."""
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
        return [Finding("refetch", "skipped", "no user of the application is known", HOW_TO_GIVE_AN_ACCOUNT)]
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
    took, size = in_ms(answer.finished_at - answer.started_at), len(answer.body)
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


def version_of(answer: HttpAnswer | None, path: str) -> Any:
    """The value at a dotted path of the answer's JSON; None when there is none."""
    found: Any = json_of(answer) if answer is not None and answer.ok else None
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int | float | str) else None
