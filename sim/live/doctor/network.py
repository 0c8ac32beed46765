"""The doctor's checks from the settings and the name of the host to the first frame of the broadcaster."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import time
from email.utils import parsedate_to_datetime

from sim.live.capacity import limits
from sim.live.client import HttpAnswer, HttpConnection, HttpOrigin
from sim.live.doctor.answers import in_words, is_html, on_the_way
from sim.live.doctor.checks import Finding, Patient, ask
from sim.live.doctor.listener import Refused, Subscriber
from sim.live.probe import places
from sim.live.remedies import PROTOCOL
from sim.target import Target

SELECT_LIMIT = 1_024
"""Sockets that PHP's `stream_select` can watch: Reverb without ext-uv stops there."""

SELECT_SHARE = 0.9
"""Share of the limit above which a finding mentions it: other clients are connected as well."""


async def settings(patient: Patient) -> list[Finding]:
    """Report what was noted while the target's settings were read."""
    if not patient.target.notes:
        return [Finding("settings", "ok", "nothing to say")]
    return [Finding("settings", "problem" if note.problem else "ok", note.text, note.advice) for note in patient.target.notes]


async def browser_settings(patient: Patient) -> list[Finding]:
    """A page is built with VITE_REVERB_*, the application publishes to REVERB_*: the classic mismatch."""
    target = patient.target
    page, server = target.subscribing, target.publishing
    if target.page_origin.startswith("https:") and page.scheme == "http":
        detail = f"pages of {target.page_origin} would connect without TLS to {page.url}: browsers block mixed content"
        advice = "VITE_REVERB_SCHEME=https and the port on which TLS ends (a proxy's, most likely 443), build the assets again"
        return [Finding("browser settings", "problem", detail, advice)]
    differ = [
        f"{name} {getattr(page, name)!r} in the page, {getattr(server, name)!r} on the server"
        for name in ("host", "port", "scheme", "path")
        if getattr(page, name) != getattr(server, name)
    ]
    if differ:
        advice = "fine behind a proxy that joins them: both are examined; otherwise set VITE_REVERB_* and build again"
        return [Finding("browser settings", "ok", ", ".join(differ), advice)]
    return [Finding("browser settings", "ok", "page and server use the same host, port and scheme")]


async def names(patient: Patient) -> list[Finding]:
    """Whether every host has an address."""
    findings = []
    loop = asyncio.get_running_loop()
    for place, origin in places(patient.target).items():
        try:
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            addresses = ", ".join(sorted({str(info[4][0]) for info in found}))
            findings.append(Finding("dns", "ok", f"{place} {origin.host} is {addresses}"))
        except (OSError, UnicodeError) as error:
            patient.lose(place)
            why = getattr(error, "strerror", None) or error
            advice = f"check the host's spelling, /etc/hosts, and {_variable(place)}"
            findings.append(Finding("dns", "problem", f"{place} {origin.host}: {why}", advice))
    return findings


def _variable(place: str) -> str:
    return {"application": "APP_URL", "broadcaster": "REVERB_HOST", "broadcaster for pages": "VITE_REVERB_HOST"}[place]


async def connects(patient: Patient) -> list[Finding]:
    """TCP, TLS with a certificate that holds, and HTTP of the kind that the scheme says."""
    findings = []
    for place, origin in places(patient.target).items():
        if place in patient.down:
            continue
        connection, began = HttpConnection(origin, patient.patience), time.monotonic()
        reason = await connection.connect()
        took = time.monotonic() - began
        if not reason:
            patient.up[place] = await connection.request("GET", "/up")
            reason = "" if origin.tls else await _speaks_tls(origin, patient.up[place], patient.patience)
        elif origin.tls and not reason.startswith("certificate"):
            reason = await _speaks_plain(origin, patient, reason)
        connection.close()
        step = "tls" if origin.tls else "tcp"
        if reason:
            patient.lose(place)
            findings.append(Finding(step, "problem", f"{place} {origin.authority}: {reason}", _remedy(reason, origin, place)))
        else:
            findings.append(Finding(step, "ok", f"{place} {origin.authority} in {took * 1000:.1f} ms"))
    return findings


PLAIN = "no TLS but plain HTTP there, and the scheme says https"
TLS = "TLS there, and the scheme says http"


async def _speaks_plain(origin: HttpOrigin, patient: Patient, reason: str) -> str:
    """A plain port refuses a TLS greeting, or waits silently for more of it."""
    if reason == "refused" or reason == "no such host":
        return reason
    plain = HttpOrigin(origin.host, origin.port)
    return PLAIN if (await ask(plain, patient.patience, "GET", "/up")).status else reason


async def _speaks_tls(origin: HttpOrigin, answer: HttpAnswer, patience: float) -> str:
    """A port with TLS answers plain HTTP with a reset, with an alert (which is no HTTP), or with a page that says so."""
    if answer.status and not (answer.status == 400 and b"HTTPS" in answer.body):
        return ""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    secure = HttpConnection(HttpOrigin(origin.host, origin.port, tls=True), patience, trusting)
    reason = await secure.connect()
    secure.close()
    return "" if reason else TLS


def _remedy(reason: str, origin: HttpOrigin, place: str) -> str:
    variable = _variable(place)
    scheme = variable.replace("HOST", "SCHEME")
    if reason == PLAIN:
        return f"set the scheme to http ({scheme}), or the port to the one where TLS ends"
    if reason == TLS:
        return f"set the scheme to https ({scheme}), or the port to the plain one"
    if reason.startswith("certificate"):
        return "use the name in the certificate; for an authority of your own set SSL_CERT_FILE to its certificate"
    if reason.startswith("tls"):
        return f"what listens there speaks no TLS: set the scheme to http ({scheme}), or the port to the one with TLS"
    if reason == "timeout":
        return "a firewall drops the packets, or the host is down"
    return f"start it, or correct {variable} and its port: nothing accepts connections on port {origin.port}"


async def health(patient: Patient) -> list[Finding]:
    """`GET /up` of application and broadcaster."""
    findings = []
    for place, answer in patient.up.items():
        if place in patient.down:
            continue
        advice = on_the_way(answer, place)
        if answer.ok:
            findings.append(Finding("health", "ok", f"{place} /up: {answer.status}"))
        elif answer.status == 404:
            findings.append(Finding("health", "ok", f"{place} has no /up"))
        elif 300 <= answer.status < 400 or answer.status >= 500 or answer.status == 0:
            findings.append(
                Finding("health", "problem", f"{place} /up: {in_words(answer)}", advice or f"look at the {place}'s own log")
            )
        else:
            findings.append(Finding("health", "ok", f"{place} /up: {in_words(answer)}"))
    return findings


async def clock(patient: Patient) -> list[Finding]:
    """The `Date` header has whole seconds: enough for signatures (600 s) and tokens, not for latencies."""
    place = next((place for place in reversed(patient.up) if place not in patient.down), None)
    if place is None:
        return [Finding("clock", "skipped", "nobody answers")]
    answer, authority = patient.up[place], places(patient.target)[place].authority
    date = answer.headers.get("date")
    try:
        theirs = parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        theirs = None
    if theirs is None:
        return [Finding("clock", "skipped", f"{authority} sends no Date header")]
    half = (answer.started_at + answer.finished_at) / 2e9
    # The header is cut to whole seconds, so it is half a second early on the average.
    apart = theirs + 0.5 - half
    if abs(apart) > 2.0:
        advice = "synchronise both clocks (chrony, systemd-timesyncd); Pusher refuses signatures that are 600 s off"
        return [Finding("clock", "problem", f"{authority} is {apart:+.0f} s off", advice)]
    return [Finding("clock", "ok", f"within {abs(apart) + 0.5:.1f} s of ours (Date header)")]


async def websocket(patient: Patient) -> list[Finding]:
    """Upgrade and `connection_established`, with the Origin of a page."""
    target = patient.target
    where = f"{target.websocket_url.rpartition('/')[0]}" + (f" from {target.page_origin}" if target.page_origin else "")
    began = time.monotonic()
    try:
        patient.connection = await Subscriber.open(target, patient.patience)
    except Refused as error:
        detail = in_words(error.answer) if error.answer is not None else str(error)
        return [Finding("websocket", "problem", f"{where}: {detail}", _advice(patient, error))]
    took = (time.monotonic() - began) * 1000
    timeout = patient.listener.activity_timeout
    findings = [Finding("websocket", "ok", f"{where}: established in {took:.1f} ms, activity timeout {timeout} s")]
    if await _is_reverb(patient):
        findings.append(
            Finding(
                "sockets there",
                "ok",
                "Laravel Reverb",
                f"without ext-uv it stops at {SELECT_LIMIT:,} sockets (stream_select): `php -m | grep uv` on its machine",
            )
        )
    return findings


async def _is_reverb(patient: Patient) -> bool:
    """This project's broadcaster names itself as Reverb does, for fidelity; but it has `/metrics`, which Reverb has not."""
    if "reverb" not in patient.listener.headers.get("x-powered-by", "").lower():
        return False
    place = "broadcaster for pages" if "broadcaster for pages" in places(patient.target) else "broadcaster"
    answer = await patient.ask(place, "GET", "/metrics")
    return not (answer.ok and b"# TYPE broadcaster_connections " in answer.body)


async def warn_of_sockets(target: Target, connections: int) -> str:
    """A warning before this many connections are opened; empty: none. Asks the broadcaster what it is."""
    if connections < SELECT_LIMIT * SELECT_SHARE:
        return ""
    patient = Patient(target)
    try:
        patient.connection = await Subscriber.open(target, patient.patience)
    except Refused:
        return ""  # The load test will report it.
    try:
        if not await _is_reverb(patient):
            return ""
    finally:
        await patient.connection.close()
    return (
        f"{connections} connections to a Laravel Reverb: without ext-uv or ext-ev its process ends, silently, at about "
        f"{SELECT_LIMIT:,} (stream_select); look with `php -m | grep -E 'uv|ev'` on its machine"
    )


UPGRADE_LOST = (
    "the request arrived without its Upgrade: the proxy must pass it on (nginx: proxy_http_version 1.1; "
    'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "Upgrade")'
)


def _advice(patient: Patient, refused: Refused) -> str:
    answer = refused.answer
    if answer is None and refused.code == 4009:
        allowed = patient.target.page_origin or "none, since no application is known: set origin in target.json"
        return (
            f"the broadcaster refuses the Origin that we sent ({allowed}): add its host to allowed_origins in config/reverb.php"
        )
    if answer is None:
        if refused.code in PROTOCOL:
            return PROTOCOL[refused.code]
        silent = "timed out" in str(refused) or "timeout" in str(refused)
        return "the port is open and silent: is it the broadcaster's?" if silent else "is this the broadcaster's port?"
    elsewhere = on_the_way(answer, "broadcaster")
    if elsewhere:
        return elsewhere
    return {
        200: "a web server answers there, not a broadcaster: check the port, and the proxy's location /app",
        400: f"is it the broadcaster's port? if so, {UPGRADE_LOST}",
        403: "what answers there refuses the upgrade: is it the broadcaster's port, and is the Origin allowed?",
        404: "no WebSocket server on this path: check the path prefix; is it the broadcaster's port, or the application's?",
        405: "what answers there knows no upgrade: is it the broadcaster's port?",
        426: UPGRADE_LOST,
        # Reverb answers a plain GET of /app/KEY so.
        500: f"look at its log; or {UPGRADE_LOST}" if not is_html(answer) else "look at its log",
    }.get(answer.status, "look at the log of what answers there")


async def limits_here(patient: Patient) -> list[Finding]:
    """How many subscribers this machine could open."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)[0], limits.descriptors()
    subscribers = max(0, most - limits.SPARE)
    detail = f"{soft:,} descriptors (hard limit {most:,}), {limits.local_ports():,} local ports to one address"
    if subscribers < 1_000:
        advice = f"for 1,000 subscribers run `ulimit -n {limits.descriptors_needed(1_000, 64)}` first"
        return [Finding("descriptors here", "problem", detail, advice)]
    return [
        Finding("descriptors here", "ok", f"{detail}: up to {min(subscribers, limits.local_ports()):,} subscribers a process")
    ]
