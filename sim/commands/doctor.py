"""Every step of the pattern checked against a target, each with what to do about it.

From the host's name to the refetch: DNS, TCP or TLS, /up, WebSocket upgrade, first frame, clock, channel authorisation as owner,
stranger and guest, subscription, signed publish and receipt, the event's name, double notification, dispatch now or queued,
the race with the commit, refetch (status, size, ETag, rate limit), and the limits of this machine. It changes the provisioning
of one server of the target's first user; --no-changes leaves that out. Without --target it looks at the embedded target.

    workbench doctor
    workbench doctor --target target.json
    workbench doctor --target ../shop/.env --refetch /api/servers/{id} --version data.updated_at --listen 30
    workbench doctor --target target.json --json

Exit codes: 0 no problem, 2 bad input, 3 a problem, 5 the target does not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from sim.commands import options
from sim.errors import BadInput, ThresholdFailed, Unreachable
from sim.live.capacity import consent
from sim.live.capacity.consent import Volume
from sim.live.doctor import network as doctor_network
from sim.live.doctor import pattern as doctor_pattern
from sim.live.doctor.checks import Finding, Patient, Step, examine
from sim.live.serve import Options, embedded_target
from sim.target import Target, laravel_settings

STEPS = (
    Step("dns", doctor_network.names),
    Step("browser settings", doctor_network.browser_settings),
    Step("connection", doctor_network.connects, ("dns",)),
    Step("health", doctor_network.health, ("connection",)),
    Step("clock", doctor_network.clock, ("connection",)),
    Step("websocket", doctor_network.websocket, ("connection",)),
    Step("private auth", doctor_pattern.authorisation, ("websocket",)),
    Step("subscribe", doctor_pattern.subscription, ("websocket",)),
    Step("publish", doctor_pattern.publication, ("websocket", "subscribe")),
    Step("change", doctor_pattern.change, ("websocket", "subscribe")),
    Step("after commit", doctor_pattern.race, ("websocket", "subscribe", "change")),
    Step("refetch", doctor_pattern.refetch, ("connection",)),
    Step("descriptors here", doctor_network.limits_here),
)
"""In the order of the pattern."""


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_target(parser, otherwise="the embedded target, started for the examination")
    parser.add_argument("--refetch", default="/servers/{id}", metavar="PATH", help="path of the resource (default: %(default)s)")
    parser.add_argument("--version", default="version", metavar="PATH", help="its version in the JSON (default: %(default)s)")
    parser.add_argument("--no-changes", action="store_true", help="change nothing at the target")
    parser.add_argument("--listen", type=float, default=0.0, metavar="SECONDS", help="wait for a change that you make")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="for any one answer (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    if not 0 < args.timeout < float("inf"):
        raise BadInput(f"--timeout must be > 0 s, got {args.timeout:g}")
    if not 0 <= args.listen < float("inf"):
        raise BadInput(f"--listen must be >= 0 s, got {args.listen:g}")
    with _target(args.target) as target:
        consent.require(Volume(connections=1, publishes=10, deliveries=20, requests=30), target, args.i_own_this_target)
        patient = Patient(
            target,
            browser=_browser(args.target),
            changes=not args.no_changes,
            refetch=args.refetch,
            version=args.version,
            patience=args.timeout,
            listen=args.listen,
        )
        report = (lambda finding: None) if args.json else (lambda finding: print(finding.line(), flush=True))
        findings = asyncio.run(examine(patient, STEPS, report))
    if args.json:
        print(json.dumps([finding.to_dict() for finding in findings], indent=1))
    _require_health(findings)
    return 0


@contextlib.contextmanager
def _target(path: str | None) -> Iterator[Target]:
    if path is not None:
        yield options.read_target(path)
        return
    with embedded_target(None, Options(api_port=0, reverb_port=0)) as serving:
        yield serving.target


def _browser(path: str | None) -> dict[str, str]:
    """What a page is built with, where the target is a `.env` file."""
    if path is None or path.endswith(".json"):
        return {}
    return {name: value for name, value in laravel_settings({}, Path(path)).items() if name.startswith("VITE_")}


def _require_health(findings: list[Finding]) -> None:
    problems = [finding for finding in findings if finding.status == "problem"]
    if any(finding.step in ("dns", "tcp", "tls") for finding in problems):
        raise Unreachable(f"{problems[0].step}: {problems[0].detail}")
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ThresholdFailed(f"problem: {problems[0].step}: {problems[0].detail}{more}")
