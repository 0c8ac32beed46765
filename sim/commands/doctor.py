"""Check every step of the pattern against a target, and say what to do about each problem.

From the settings to the refetch: .env, DNS, TCP or TLS, /up, WebSocket upgrade with the pages' Origin, first frame, clock, login,
channel authorisation as owner, stranger and guest, subscription, signed publish and receipt, where a notification's time goes,
the event's name, double notification, dispatch now or queued, the race with the commit, refetch (status, size, ETag, rate limit),
and the limits of this machine. It changes the provisioning of one server of the target's first user, or what --change says;
--no-changes leaves that out. Without --target it examines the embedded target. docs/doctor.md shows its findings for many
set-ups.

    workbench doctor
    workbench doctor --target target.json
    workbench doctor --target ../shop/.env --accounts users.csv
    workbench doctor --target ../shop/.env --accounts users.csv --channel 'private-orders.{id}' --refetch '/api/orders/{id}'
    workbench doctor --target ../shop/.env --accounts users.csv --change 'PUT /servers/{id} {"note": "{n}"}'
    workbench doctor --target ../shop/.env --refetch '/api/servers/{id}' --version data.updated_at --listen 30
    workbench doctor --target target.json --json

Exit codes: 0 no problem, 2 bad input, 3 a problem, 5 the target does not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator

from sim.commands import options
from sim.errors import BadInput, ThresholdFailed, Unreachable
from sim.live.capacity import consent
from sim.live.capacity.consent import Volume
from sim.live.doctor import account, authorisation, changes, network, publication, refetching, timing
from sim.live.doctor.checks import CheckStep, Finding, Patient, examine
from sim.live.serve import Options, embedded_target
from sim.target import Target, list_of

STEPS = (
    CheckStep("settings", network.settings),
    CheckStep("browser settings", network.browser_settings),
    CheckStep("dns", network.names),
    CheckStep("connection", network.connects),
    CheckStep("health", network.health),
    CheckStep("clock", network.clock),
    CheckStep("websocket", network.websocket, places=("broadcaster for pages",)),
    CheckStep("account", account.login, places=("application",)),
    CheckStep("private auth", authorisation.authorisation, ("websocket",)),
    CheckStep("subscribe", authorisation.subscription, ("websocket",)),
    CheckStep("publish", publication.publication, ("websocket",), ("broadcaster",)),
    CheckStep("broadcaster's time", timing.timing, ("websocket", "subscribe", "publish"), ("broadcaster",)),
    CheckStep("change", changes.change, ("websocket", "subscribe")),
    CheckStep("after commit", refetching.race, ("websocket", "subscribe", "change"), ("application",)),
    CheckStep("refetch", refetching.refetch, places=("application",)),
    CheckStep("descriptors here", network.limits_here),
)
"""The checks, in the order of the pattern."""


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_target(parser, otherwise="the embedded target, started for the examination")
    parser.add_argument("--refetch", default="/servers/{id}", metavar="PATH", help="path of the resource (default: %(default)s)")
    parser.add_argument("--version", default="version", metavar="PATH", help="its version in the JSON (default: %(default)s)")
    options.add_channels(parser, f"{' and '.join(Patient.templates)}; the first one is the resource's own")
    parser.add_argument(
        "--change",
        default="",
        metavar="REQUEST",
        help="""a change, as 'PUT /api/orders/{id} {"note": "{n}"}'; {n} is always new""",
    )
    parser.add_argument("--no-changes", action="store_true", help="change nothing at the target")
    parser.add_argument("--listen", type=float, default=0.0, metavar="SECONDS", help="wait for a change that you make")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="for any one answer (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    if not 0 < args.timeout < float("inf"):
        raise BadInput(f"--timeout must be > 0 s, got {args.timeout:g}")
    if not 0 <= args.listen < float("inf"):
        raise BadInput(f"--listen must be >= 0 s, got {args.listen:g}")
    changing = _change(args.change) if args.change else None
    with _target(args.target) as found:
        target = options.with_accounts(found, args.accounts)
        ids = args.ids or list_of((args.channel or [Patient.templates[0]])[0])
        if target.users and (args.channel or args.ids) and not target.keys(ids).count:
            raise BadInput(f"no user of the target owns any {ids} (--ids LIST, or a column of --accounts)")
        consent.require(Volume(connections=1, publishes=40, deliveries=80, requests=60), target, args.i_own_this_target)
        patient = Patient(
            target,
            changes=not args.no_changes,
            refetch=args.refetch,
            version=args.version,
            templates=tuple(args.channel) or Patient.templates,
            ids=ids,
            changing=changing,
            patience=args.timeout,
            listen=args.listen,
        )
        report = (lambda finding: None) if args.json else (lambda finding: print(finding.line(), flush=True))
        findings = asyncio.run(examine(patient, STEPS, report))
    if args.json:
        options.print_json("doctor", {"findings": [dataclasses.asdict(finding) for finding in findings]})
    _require_health(findings)
    return 0


@contextlib.contextmanager
def _target(path: str | None) -> Iterator[Target]:
    if path is not None:
        yield options.read_target(path)
        return
    with embedded_target(None, Options(api_port=0, reverb_port=0)) as serving:
        yield serving.target


def _change(text: str) -> tuple[str, str, str]:
    """Method, path and body of `PUT /api/orders/{id} {"note": "{n}"}`. Raises `BadInput`."""
    found = re.fullmatch(r"(POST|PUT|PATCH|DELETE)\s+(/\S*)(?:\s+(.*))?", text.strip(), re.DOTALL)
    try:
        if found and found[3]:
            json.loads(found[3].replace("{n}", "1"))
    except ValueError:
        found = None
    if found is None:
        raise BadInput(
            f"""--change must look like 'PUT /api/orders/{{id}} {{"note": "{{n}}"}}', the body in JSON, got {text!r}"""
        )
    return found[1], found[2], found[3] or ""


def _require_health(findings: list[Finding]) -> None:
    problems = [finding for finding in findings if finding.status == "problem"]
    if any(finding.step in ("dns", "tcp", "tls") for finding in problems):
        raise Unreachable(f"{problems[0].step}: {problems[0].detail}")
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ThresholdFailed(f"problem: {problems[0].step}: {problems[0].detail}{more}")
