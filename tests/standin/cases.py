"""Set-ups as they are met, each with what the doctor must say: the rows of docs/doctor.md, and the tests of the doctor.

python -m tests.standin.cases > docs/doctor.md        # after a change of what it says
"""

from __future__ import annotations

import asyncio
import re
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.commands.doctor import STEPS
from sim.live.doctor.checks import Finding, Patient, examine
from sim.target import Account
from tests.live.servers import self_signed
from tests.standin import proxy
from tests.standin.application import Switches
from tests.standin.setup import Setup, standing

BESIDE = 6
"""Cases at a time."""
TRIES = 2
"""More, for a case that does not fit."""

DOC = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"
ROWS = ("<!-- rows: python -m tests.standin.cases -->", "<!-- end of rows -->")
VARYING = (
    (r"(127\.0\.0\.1):\d{4,5}", r"\1:PORT"),
    (r"\b\d{4,5}( in the page| on the server)", r"PORT\1"),
    (r"(localhost|\])?:\d{4,5}\b", r"\1:PORT"),
    (r"-?[\d,.]+ ms", "... ms"),
    (r"\b\d of \d refetches", "N of N refetches"),
    (r"(\.invalid): [^<]*", r"\1: no such name"),
)
"""What is different in every run or on every machine, and what stands for it in the table."""
WRONG = {"users": (Account(1, servers=(1,), login=(("email", "user-1@shop.example"), ("password", "wrong"))),)}
ALL = frozenset({"*"})


@dataclass(frozen=True)
class Case:
    """One set-up. *step*, *status* and *said*: the finding that matters; `said` is searched in its text and advice."""

    name: str
    step: str
    status: str
    said: str
    setup: Setup = field(default_factory=Setup)
    refetch: str = "/api/servers/{id}"
    version: str = "data.updated_at"
    channels: tuple[str, ...] = ()
    """As `--channel`, with `--ids orders`."""
    change: tuple[str, str, str] | None = None
    patience: float = 20.0
    alone: bool = False
    """What it finds is a matter of time: nothing else may run beside it."""
    problems: frozenset[str] | None = None
    """Steps that may be problems; None: the one that matters, alone."""

    def unforeseen(self, findings: list[Finding]) -> set[str]:
        """Steps that are problems and may not be."""
        if self.problems == ALL:
            return set()
        expected = self.problems if self.problems is not None else {self.step} if self.status == "problem" else set()
        return {finding.step for finding in findings if finding.status == "problem"} - expected


APP = Switches


def behind(**switches: object) -> Setup:
    """A proxy before the broadcaster."""
    return Setup(before_broadcaster=proxy.Switches(**switches))  # type: ignore[arg-type]


def before_api(**switches: object) -> Setup:
    return Setup(before_application=proxy.Switches(**switches))  # type: ignore[arg-type]


def app(**switches: object) -> Setup:
    return Setup(application=APP(**switches))  # type: ignore[arg-type]


ORDERS = app(kind="orders", keys="uuid")
OWN: dict[str, Any] = {
    "channels": ("private-orders.{id}", "private-orders"),
    "change": ("PUT", "/api/orders/{id}", '{"status": "{n}"}'),
}


GROUPS: dict[str, tuple[Case, ...]] = {
    "In order": (
        Case("Bearer tokens, `data.updated_at`, both channels", "after commit", "ok", "3 of 3"),
        Case("Session login with XSRF, for each user", "account", "ok", "logged in at /login", Setup(sessions=True)),
        Case(
            "The same without Sanctum",
            "account",
            "ok",
            "logged in at /login",
            Setup(app(sanctum=False).application, sessions=True),
        ),
        Case(
            "The same, the token only in pages (`_token`, `csrf-token`)",
            "dispatch",
            "ok",
            "now: heard",
            Setup(app(sanctum=False, csrf_cookie=False).application, sessions=True),
        ),
        Case("UUID keys", "private auth", "ok", "private-servers.0193ab4e", app(keys="uuid")),
        Case("Integers beyond 2^63", "private auth", "ok", "private-servers.9223372036854775809", app(keys="big")),
        Case("A counter as version", "after commit", "ok", "3 of 3", app(stamps="counter"), version="data.version"),
        Case(
            "A proxy before everything",
            "publish",
            "ok",
            "accepted",
            Setup(before_broadcaster=proxy.Switches(), before_application=proxy.Switches()),
        ),
        Case("A path prefix", "websocket", "ok", "/reverb/app", Setup(broadcaster={"path": "reverb"})),
        Case(
            "TLS at the proxy for pages, plain inside",
            "browser settings",
            "ok",
            "fine behind a proxy",
            Setup(before_broadcaster=proxy.Switches(), pages_elsewhere=True),
        ),
        Case("Only a broadcaster", "private auth", "ok", "signed here: no application", Setup(application=None)),
        Case("Events through a queue", "dispatch", "ok", "queue and its worker", app(broadcast="queued")),
        Case("`broadcastAs`", "event name", "ok", "with a dot in front", app(broadcast_as=True)),
        Case("Channels of its own, a change of its own", "dispatch", "ok", "now: heard", ORDERS, "/api/orders/{id}", **OWN),
        Case("A rate limit", "rate limit", "ok", "60 a minute", app(rate_limit=60)),
        Case("An event of 9,000 bytes", "event size", "ok", "refuse more than 10,000", app(payload=9_000)),
        Case("A broadcaster without TCP_NODELAY", "delayed acknowledgement", "ok", "TCP_NODELAY", behind(nagle=True), alone=True),
    ),
    "Settings": (
        Case(
            "A `.env` as Laravel makes it",
            "settings",
            "ok",
            "nothing to say",
            Setup(dotenv='VITE_REVERB_APP_KEY="${REVERB_APP_KEY}"'),
        ),
        Case("`REVERB_HOST=http://127.0.0.1`", "settings", "ok", "is taken as", Setup(dotenv="REVERB_HOST=http://127.0.0.1")),
        Case("`REVERB_HOST=127.0.0.1:8080/`", "settings", "ok", "is taken as", Setup(dotenv="REVERB_HOST=127.0.0.1:{port}/")),
        Case("`REVERB_HOST=0.0.0.0`", "settings", "ok", "an address to listen on", Setup(dotenv="REVERB_HOST=0.0.0.0")),
        Case("`REVERB_SCHEME=ws`", "settings", "ok", "is taken as http", Setup(dotenv="REVERB_SCHEME=ws")),
        Case("No `REVERB_HOST`", "settings", "ok", "is not set: taken as this machine", Setup(dotenv="REVERB_HOST=")),
        Case(
            "No `BROADCAST_CONNECTION`",
            "settings",
            "ok",
            "BROADCAST_CONNECTION is not set",
            Setup(dotenv="BROADCAST_CONNECTION=\nAPP_KEY=x"),
        ),
        Case("`BROADCAST_CONNECTION=log`", "settings", "problem", "broadcasts nothing", Setup(dotenv="BROADCAST_CONNECTION=log")),
        Case(
            "`BROADCAST_CONNECTION=null`", "settings", "problem", "broadcasts nothing", Setup(dotenv="BROADCAST_CONNECTION=null")
        ),
        Case(
            "`VITE_REVERB_APP_KEY` is an old one",
            "settings",
            "problem",
            "build the assets again",
            Setup(dotenv="VITE_REVERB_APP_KEY=old"),
        ),
        Case(
            "No `VITE_REVERB_SCHEME`: https",
            "tls",
            "problem",
            "VITE_REVERB_SCHEME",
            Setup(dotenv="VITE_REVERB_HOST=127.0.0.1\nVITE_REVERB_PORT={port}"),
        ),
        Case(
            "`VITE_REVERB_SCHEME=http` and `APP_URL=https://...`",
            "browser settings",
            "problem",
            "mixed content",
            Setup(
                dotenv="VITE_REVERB_HOST=127.0.0.1\nVITE_REVERB_PORT={port}\nVITE_REVERB_SCHEME=http\nAPP_URL=https://127.0.0.1:9"
            ),
            problems=ALL,
        ),
        Case(
            "A host that does not exist",
            "dns",
            "problem",
            "check the host's spelling",
            Setup(target={"host": "no.such.host.invalid"}),
        ),
        Case("Nothing listens on the port", "tcp", "problem", "start it", Setup(target={"port": 9})),
        Case("`https` for a plain port", "tls", "problem", "set the scheme to http", Setup(target={"scheme": "https"})),
        Case(
            "`http` for a port with TLS",
            "tcp",
            "problem",
            "set the scheme to https",
            Setup(before_broadcaster=proxy.Switches(), tls=True, target={"scheme": "http"}),
        ),
        Case(
            "A certificate that nobody trusts",
            "tls",
            "problem",
            "SSL_CERT_FILE",
            Setup(before_broadcaster=proxy.Switches(), tls=True),
        ),
        Case(
            "Wrong `REVERB_APP_KEY`",
            "websocket",
            "problem",
            "does not know this key",
            Setup(target={"key": "wrong"}),
            problems=ALL,
        ),
        Case(
            "Wrong `REVERB_APP_SECRET` in the application",
            "private auth",
            "problem",
            "the signature is not that of our key and secret",
            app(secret="other"),
            problems=frozenset({"private auth", "subscribe"}),
        ),
        Case("Wrong `REVERB_APP_ID`", "publish", "problem", "wrong REVERB_APP_ID", Setup(target={"app_id": "7"})),
        Case(
            "The Origin is not allowed",
            "websocket",
            "problem",
            "allowed_origins",
            Setup(app={"allowed_origins": ("shop.example",)}),
        ),
        Case(
            "The Origin is allowed",
            "websocket",
            "ok",
            "from http://shop.example",
            Setup(app={"allowed_origins": ("shop.example",)}, target={"origin": "http://shop.example"}),
        ),
    ),
    "Between pages, application and broadcaster": (
        Case("The proxy drops `Upgrade`", "websocket", "problem", "proxy_set_header Upgrade", behind(upgrade=False)),
        Case(
            "... before a real Reverb, which answers 500 then",
            "websocket",
            "problem",
            "proxy_set_header Upgrade",
            Setup(broadcaster={"faithful": True}, before_broadcaster=proxy.Switches(upgrade=False)),
        ),
        Case(
            "The proxy redirects to https",
            "websocket",
            "problem",
            "it redirects",
            behind(status=301, location="https://ws.example/"),
            problems=ALL,
        ),
        Case(
            "Nobody behind the proxy", "websocket", "problem", "does not reach the broadcaster", behind(dead=True), problems=ALL
        ),
        Case(
            "An old server's `HTTP/1.0 404`",
            "websocket",
            "problem",
            "HTTP 404",
            behind(status=404, version="HTTP/1.0", server=None),
            problems=ALL,
        ),
        Case(
            "A start page for `/app`",
            "websocket",
            "problem",
            "a web server answers there",
            behind(paths="/app/", status=200, title="Shop", server=None),
        ),
        Case(
            "Another protocol, or silence",
            "websocket",
            "problem",
            "silent",
            behind(silent=True, paths="/app/"),
            patience=0.5,
            problems=ALL,
        ),
        Case(
            "The proxy refuses `/apps` by itself",
            "publish",
            "problem",
            "nginx/1.24.0 refuses by itself",
            behind(paths="/apps", status=403),
        ),
        Case(
            "The proxy passes `/app` alone: a start page for `/apps`",
            "publish",
            "problem",
            "the proxy passes only /app on",
            behind(paths="/apps", status=200, title="Shop", server=None),
        ),
        Case(
            "soketi, which refuses with status 200: wrong `PUSHER_APP_ID`",
            "publish",
            "problem",
            "wrong REVERB_APP_ID",
            behind(paths="/apps", status=200, server=None, json='{"error":"The app 7 could not be found.","code":404}'),
        ),
        Case("The proxy takes no POST on `/apps`", "publish", "problem", "405", behind(paths="/apps", status=405)),
        Case(
            "The proxy rewrites the path",
            "publish",
            "problem",
            "the secret is right",
            behind(paths="/apps", rewrite=(r"timestamp=(\d+)", r"timestamp=1\1")),
        ),
        Case(
            "Prefix signed as other SDKs do",
            "publish",
            "ok",
            'set "sign": "bare"',
            Setup(broadcaster={"path": "reverb"}, target={"sign": "full"}),
        ),
        Case(
            "A prefix that is not in the settings",
            "websocket",
            "problem",
            "path prefix",
            Setup(broadcaster={"path": "reverb"}, target={"path": ""}),
            problems=ALL,
        ),
        Case(
            "An event that is too large for a client's connection",
            "change",
            "problem",
            "too large",
            behind(close=1009),
            problems=frozenset({"change"}),
        ),
    ),
    "The application": (
        Case(
            "A password before the application",
            "private auth",
            "problem",
            "https://user:password@host",
            Setup(sessions=True, before_application=proxy.Switches(authenticate=True)),
            problems=ALL,
        ),
        Case(
            "The application's proxy redirects",
            "health",
            "problem",
            "it redirects",
            before_api(status=301, location="https://shop.example/"),
            problems=ALL,
        ),
        Case(
            "The application is down behind its proxy",
            "private auth",
            "problem",
            "does not reach the application",
            before_api(dead=True),
            problems=ALL,
        ),
        Case(
            "Wrong password",
            "account",
            "problem",
            "wrong credentials",
            Setup(sessions=True, target=WRONG),
            problems=ALL,
        ),
        Case(
            "SANCTUM_STATEFUL_DOMAINS without this host",
            "account",
            "problem",
            "SANCTUM_STATEFUL_DOMAINS",
            Setup(application=APP(stateful=False), sessions=True),
            problems=ALL,
        ),
        Case("No account is known", "account", "skipped", "--accounts users.csv", Setup(accounts=False)),
        Case("No `/broadcasting/auth`", "private auth", "problem", "install:broadcasting", app(auth_route=False)),
        Case("`/broadcasting/auth` does not take tokens", "private auth", "problem", "auth:sanctum", app(tokens=False)),
        Case("`/broadcasting/auth` with 419", "private auth", "problem", "X-XSRF-TOKEN", app(auth=419)),
        Case("`/broadcasting/auth` with 500", "private auth", "problem", "laravel.log", app(auth=500)),
        Case(
            "Everybody may listen", "private auth", "problem", "the channel's callback must check the owner", app(everybody=True)
        ),
        Case("The application fails on a change", "change", "problem", "the application failed: HTTP 500", app(change=500)),
        Case("A change is refused with 419", "change", "problem", "X-XSRF-TOKEN", app(change=419)),
        Case("The change routes are not known", "change", "skipped", "--listen SECONDS", app(change_route=False)),
        Case(
            "A wrong route in `--change`",
            "change",
            "problem",
            "look at --change",
            ORDERS,
            "/api/orders/{id}",
            **OWN | {"change": ("PATCH", "/api/orders/{id}/ship", "")},
        ),
        Case(
            "Users own `orders`, and no `--channel` is given",
            "private auth",
            "problem",
            "give --channel 'private-orders.{id}'",
            ORDERS,
            problems=frozenset({"private auth", "refetch"}),
        ),
        Case("Nothing is broadcast", "change", "problem", "does a queue worker run", app(broadcast="never"), patience=1.0),
        Case(
            "Every event comes twice",
            "double notification",
            "problem",
            "refetches double",
            app(broadcast="twice"),
            problems=frozenset({"change", "double notification"}),
        ),
        Case(
            "Events leave before the commit",
            "after commit",
            "problem",
            "$afterCommit",
            app(moment="on_save", commit=0.3),
            alone=True,
        ),
        Case("`updated_at` of whole seconds", "after commit", "ok", "brought the new state", app(stamps="seconds")),
        Case(
            "`--version updated_at` where it is in `data`",
            "version",
            "problem",
            "no 'updated_at' in the JSON",
            version="updated_at",
        ),
        Case(
            "The start page in place of the resource",
            "refetch",
            "problem",
            "a page in place of JSON",
            app(spa=True),
            refetch="/wrong/{id}",
        ),
        Case(
            "The refetch's token is not accepted",
            "refetch",
            "problem",
            "--accounts",
            app(refetch=401),
            problems=frozenset({"refetch"}),
        ),
        Case("The refetch is throttled", "refetch", "problem", "debounce longer", app(refetch=429)),
    ),
}
CASES = tuple(case for cases in GROUPS.values() for case in cases)


async def examined(case: Case, tls: ssl.SSLContext) -> list[Finding]:
    async with standing(case.setup, tls) as target:
        patient = Patient(target, refetch=case.refetch, version=case.version, patience=case.patience, settle=0.05)
        if case.channels:
            patient.templates, patient.ids, patient.changing = case.channels, "orders", case.change
        return await examine(patient, STEPS)


async def examine_all(tls: ssl.SSLContext) -> dict[str, list[Finding]]:
    """Findings of every case by its name. Most of a case is waiting, so several run at a time; what does not fit then is tried
    again by itself, for a machine that is busy with other things lets a patient look ill."""
    room = asyncio.Semaphore(BESIDE)

    async def one(case: Case) -> list[Finding]:
        async with room:
            return await examined(case, tls)

    beside = [case for case in CASES if not case.alone]
    found = dict(zip([case.name for case in beside], await asyncio.gather(*map(one, beside)), strict=True))
    for case in CASES:
        if case.alone:
            found[case.name] = await examined(case, tls)
        for _ in range(TRIES):
            if matching(case, found[case.name]) is not None and not case.unforeseen(found[case.name]):
                break
            found[case.name] = await examined(case, tls)
    return found


def matching(case: Case, findings: list[Finding]) -> Finding | None:
    """The finding that matters."""
    return next(
        (f for f in findings if (f.step, f.status) == (case.step, case.status) and case.said in f"{f.detail} {f.advice}"), None
    )


def row(case: Case, finding: Finding) -> str:
    """A row of the table, without what is different in every run: ports and times."""
    advice = f"<br>→ {finding.advice}" if finding.advice else ""
    text = f"{finding.step}: {finding.detail}{advice}"
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text)
    return f"| {case.name} | {finding.status} | {text.replace('|', chr(92) + '|')} |"


def table(tls: ssl.SSLContext) -> str:
    """Every case, run."""
    lines, all_findings = [], asyncio.run(examine_all(tls))
    for title, cases in GROUPS.items():
        lines += [f"\n### {title}\n", "| set-up | status | what it says, and what to do |", "|---|---|---|"]
        for case in cases:
            findings = all_findings[case.name]
            found = matching(case, findings)
            lines.append(row(case, found) if found else f"| {case.name} | ? | {[f.line() for f in findings]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        rows = table(self_signed(Path(scratch)))
    head, tail = DOC.read_text(encoding="utf-8").split(ROWS[0])[0], DOC.read_text(encoding="utf-8").split(ROWS[1])[1]
    DOC.write_text(f"{head}{ROWS[0]}\n{rows}\n\n{ROWS[1]}{tail}", encoding="utf-8")
