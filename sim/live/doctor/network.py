"""The doctor's checks from the name of the host to the first frame of the broadcaster."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from email.utils import parsedate_to_datetime

from sim.live.capacity import limits
from sim.live.client import Connection, Origin
from sim.live.doctor.checks import Finding, Patient
from sim.live.doctor.listener import Listener, Refused

SELECT_LIMIT = 1_024
"""Sockets that PHP's `stream_select` can watch: Reverb without ext-uv stops there."""


def _origins(patient: Patient) -> dict[str, Origin]:
    origins = {"broadcaster": Origin.parse(patient.target.http_url)}
    if patient.target.api:
        origins["application"] = Origin.parse(patient.target.api)
    return origins


async def names(patient: Patient) -> list[Finding]:
    """Does every host have an address, and do both settings mean the same one?"""
    findings = []
    loop = asyncio.get_running_loop()
    for name, origin in _origins(patient).items():
        try:
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            addresses = ", ".join(sorted({str(info[4][0]) for info in found}))
            findings.append(Finding("dns", "ok", f"{name} {origin.host} is {addresses}"))
        except (OSError, UnicodeError) as error:
            advice = "check the host's spelling, /etc/hosts, and REVERB_HOST or APP_URL"
            findings.append(
                Finding("dns", "problem", f"{name} {origin.host}: {getattr(error, 'strerror', None) or error}", advice)
            )
    return findings


async def browser_settings(patient: Patient) -> list[Finding]:
    """A page is built with VITE_REVERB_*, the application publishes to REVERB_*: the classic mismatch."""
    target, browser = patient.target, patient.browser
    if not browser:
        return [Finding("browser settings", "skipped", "no .env given: VITE_REVERB_* are not known")]
    ours = {"HOST": target.host, "PORT": str(target.port), "SCHEME": target.scheme, "APP_KEY": target.key}
    differ = {
        name: (browser[f"VITE_REVERB_{name}"], value)
        for name, value in ours.items()
        if browser.get(f"VITE_REVERB_{name}", value) != value
    }
    if "APP_KEY" in differ:
        return [
            Finding(
                "browser settings",
                "problem",
                "VITE_REVERB_APP_KEY is not REVERB_APP_KEY",
                "set both alike, build the assets again",
            )
        ]
    if differ:
        said = ", ".join(
            f"{name.lower()} {theirs!r} in the page, {mine!r} on the server" for name, (theirs, mine) in differ.items()
        )
        advice = "fine behind a proxy that joins them; otherwise set VITE_REVERB_* to what browsers can reach, and build again"
        return [Finding("browser settings", "ok", said, advice)]
    return [Finding("browser settings", "ok", "page and server use the same host, port, scheme and key")]


async def connects(patient: Patient) -> list[Finding]:
    """TCP, and TLS with a certificate that holds."""
    findings = []
    for name, origin in _origins(patient).items():
        connection, began = Connection(origin, patient.patience), time.monotonic()
        reason = await connection.connect()
        connection.close()
        step = "tls" if origin.tls else "tcp"
        if not reason:
            findings.append(Finding(step, "ok", f"{name} {origin.authority} in {(time.monotonic() - began) * 1000:.1f} ms"))
            continue
        advice = f"start it, or correct its address: nothing accepts connections on port {origin.port}"
        if reason.startswith("certificate"):
            advice = "use the name in the certificate; for an authority of your own set SSL_CERT_FILE to its certificate"
        elif reason.startswith("tls"):
            advice = "the port speaks no TLS: set the scheme to http, or the port to the one with TLS"
        elif reason == "timeout":
            advice = "a firewall drops the packets, or the host is down"
        findings.append(Finding(step, "problem", f"{name} {origin.authority}: {reason}", advice))
    return findings


async def health(patient: Patient) -> list[Finding]:
    """`GET /up` of application and broadcaster."""
    findings = []
    for name, origin in _origins(patient).items():
        connection = Connection(origin, patient.patience)
        answer = await connection.request("GET", "/up")
        connection.close()
        if answer.ok:
            findings.append(Finding("health", "ok", f"{name} /up: {answer.status}"))
        elif answer.status == 404:
            findings.append(Finding("health", "ok", f"{name} has no /up"))
        else:
            said = f"HTTP {answer.status}" if answer.status else answer.reason
            findings.append(Finding("health", "problem", f"{name} /up: {said}", f"look at the {name}'s own log"))
    return findings


async def clock(patient: Patient) -> list[Finding]:
    """The `Date` header has whole seconds: enough for signatures (600 s) and tokens, not for latencies."""
    origin = next(reversed(_origins(patient).values()))
    connection = Connection(origin, patient.patience)
    answer = await connection.request("GET", "/up")
    connection.close()
    date = answer.headers.get("date")
    try:
        theirs = parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        theirs = None
    if theirs is None:
        return [Finding("clock", "skipped", f"{origin.authority} sends no Date header")]
    half = (answer.started_at + answer.finished_at) / 2e9
    # The header is cut to whole seconds, so it is half a second early on the average.
    apart = theirs + 0.5 - half
    if abs(apart) > 2.0:
        advice = "synchronise both clocks (chrony, systemd-timesyncd); Pusher refuses signatures that are 600 s off"
        return [Finding("clock", "problem", f"{origin.authority} is {apart:+.0f} s off", advice)]
    return [Finding("clock", "ok", f"within {abs(apart) + 0.5:.1f} s of ours (Date header)")]


async def websocket(patient: Patient) -> list[Finding]:
    """Upgrade and `connection_established`."""
    target = patient.target
    began = time.monotonic()
    try:
        patient.listener = await Listener.open(target, patient.patience)
    except Refused as error:
        return [Finding("websocket", "problem", f"{target.websocket_url.rpartition('/')[0]}: {error}", _advice(str(error)))]
    took = (time.monotonic() - began) * 1000
    timeout = patient.listener.activity_timeout
    findings = [Finding("websocket", "ok", f"upgraded and established in {took:.1f} ms, activity timeout {timeout} s")]
    if "reverb" in patient.listener.headers.get("x-powered-by", "").lower() and not await _is_ours(patient):
        findings.append(
            Finding(
                "sockets there",
                "ok",
                "Laravel Reverb",
                f"without ext-uv it stops at {SELECT_LIMIT:,} sockets (stream_select): `php -m | grep uv` on its machine",
            )
        )
    return findings


async def _is_ours(patient: Patient) -> bool:
    """This project's broadcaster names itself as Reverb does, for fidelity; but it has `/metrics`, which Reverb has not."""
    answer = await patient.ask_broadcaster("GET", "/metrics")
    return answer.ok and b"# TYPE broadcaster_connections " in answer.body


def _advice(reason: str) -> str:
    hints = {
        "4001": "the broadcaster does not know this key: compare REVERB_APP_KEY with the broadcaster's settings",
        "4004": "the app's connection limit is reached: close connections or raise max_connections",
        "4009": "the broadcaster refuses our Origin: add it to allowed_origins",
        "4000": "the broadcaster wants TLS: set the scheme to https",
        "HTTP 404": "no WebSocket server on this path: check host, port and path prefix (is it the application's port?)",
        "HTTP 200": "a web server answers there, not a broadcaster: check the port",
        "HTTP 4": "is it the broadcaster's port? behind a proxy: pass Upgrade and Connection headers on to the broadcaster",
        "HTTP 5": "the broadcaster (or the proxy before it) fails: look at its log",
        "timed out": "the port is open and silent: is it the broadcaster's?",
        "timeout": "the port is open and silent: is it the broadcaster's?",
    }
    return next((advice for sign, advice in hints.items() if sign in reason), "is this the broadcaster's port?")


async def limits_here(patient: Patient) -> list[Finding]:
    """How many subscribers this machine could open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else 1 << 20
    subscribers = max(0, most - limits.SPARE)
    detail = f"{soft:,} descriptors (hard limit {most:,}), {limits.local_ports():,} local ports to one address"
    if subscribers < 1_000:
        advice = f"for 1,000 subscribers run `ulimit -n {limits.descriptors_needed(1_000, 64)}` first"
        return [Finding("descriptors here", "problem", detail, advice)]
    return [
        Finding("descriptors here", "ok", f"{detail}: up to {min(subscribers, limits.local_ports()):,} subscribers a process")
    ]
