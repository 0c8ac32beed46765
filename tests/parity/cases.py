"""The scenarios that are run in virtual time and on sockets. Small: a hundred pages, some ten seconds; together they turn nearly
every key that both programs honour away from its default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any

from sim.experiments.parity import compared_keys, label
from sim.scenario import Scenario, build

BASE: dict[str, Any] = {
    "duration": 10,
    "drain": 3,
    "fleet": {"users": 5, "servers_per_user": 2, "sites_per_user": 1},
    "workload": {"kind": "poisson", "rate": 8},
    "policy": {"kind": "debounce", "wait": 0.2},
    # As browsers have it: with a shared pool the herd would queue inside the load client, not at the application.
    "load": {"http": "per_subscriber"},
}
DETAIL, DASHBOARD = 60, 40


def pages(*more: Mapping[str, Any], **both: Any) -> list[dict[str, Any]]:
    """Pages of one server and dashboards, *both* with these keys; or *more* groups of servers' pages in their place."""
    if more:
        return [{"page": "detail", "subscribers": 100 // len(more)} | dict(group) for group in more]
    return [{"page": "detail", "subscribers": DETAIL} | both, {"page": "dashboard", "subscribers": DASHBOARD} | both]


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario of the comparison: what of it is not as in `BASE`, and what it is there for."""

    name: str
    why: str
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Whole tables and top keys, as TOML holds them."""

    @property
    def scenario(self) -> Scenario:
        scenario: Scenario = build(Scenario, {"name": self.name, "pages": pages()} | BASE | dict(self.tables), where=self.name)
        return scenario

    @property
    def keys(self) -> list[str]:
        """Those of `compared_keys` that are not at their default here, as `label` names them."""
        found = set(_departures(self.scenario, ""))
        return [label(key) for key in compared_keys() if (key.table, key.kind, key.name) in found]


_TABLES = {"fleet", "workload", "pages", "policy", "broadcast", "broadcaster", "api", "incidents", "network", "publisher", "load"}


def _departures(value: Any, table: str) -> Iterator[tuple[str, str, str]]:
    """(table, kind, name) of every key within *value* that is not at its default."""
    for f in fields(value):
        present = getattr(value, f.name)
        for part in present if isinstance(present, tuple) else (present,):
            if is_dataclass(part):
                inner = f.name if f.name in _TABLES else table if f.name == "parts" else "distribution"
                if inner != "distribution" or present != _default(f):
                    yield from _departures(part, inner)
        if present != _default(f):
            yield table, getattr(value, "kind", ""), f.name


def _default(f: Field[Any]) -> Any:
    return f.default if f.default is not MISSING else f.default_factory() if callable(f.default_factory) else None


IMMEDIATE = {"kind": "immediate"}
SLOW = {"kind": "lognormal", "scale": 0.02, "sigma": 0.5}

CASES: tuple[Case, ...] = (
    Case("steady", "independent changes, a debounce: the baseline", {"warmup": 1}),
    Case("immediate", "every notification is a refetch, running ones go on", {"policy": IMMEDIATE}),
    Case(
        "cancel",
        "answers that take longer than the next notification, and are given up (Inertia 1)",
        {"policy": IMMEDIATE, "in_flight": "cancel", "api": {"workers": 8, "service": SLOW}},
    ),
    Case(
        "single-flight",
        "the next refetch waits for the one that runs",
        {
            "policy": {"kind": "debounce", "wait": 0.05, "leading": True, "max_wait": 0.2},
            "pages": pages(in_flight="single_flight"),
            "api": {"workers": 8, "service": {"kind": "gamma", "shape": 4, "scale": 0.008}},
        },
    ),
    Case(
        "throttle",
        "at most one refetch per wait, by the rules of two libraries",
        {
            "workload": {"kind": "poisson", "rate": 30},
            "pages": pages(
                {"policy": {"kind": "throttle", "wait": 0.7, "timing": "lodash"}},
                {"policy": {"kind": "throttle", "wait": 0.7, "leading": False}},
                {"policy": {"kind": "throttle", "wait": 0.7, "trailing": False}},
                {"policy": {"kind": "debounce", "wait": 0.3, "trailing": False, "leading": True, "timing": "lodash"}},
            ),
        },
    ),
    Case(
        "windows",
        "a window that opens with the first notification, a limit on the rate; jitter",
        {
            "workload": {"kind": "poisson", "rate": 30},
            "pages": pages(
                {"policy": {"kind": "window", "wait": 0.4, "jitter": 0.2}},
                {"policy": {"kind": "rate_limit", "wait": 0.4}},
                {"policy": {"kind": "throttle", "wait": 0.4, "jitter": 0.1}},
                {"policy": {"kind": "immediate", "jitter": 0.5}},
                {"policy": {"kind": "rate_limit", "wait": 0.7, "jitter": 0.1}},
            ),
        },
    ),
    Case(
        "polling",
        "pages that ask on their own, by three rules",
        {
            "pages": pages(
                {"policy": {"kind": "polling", "interval": 1}},
                {"policy": {"kind": "polling", "interval": 0.7, "mode": "rest", "jitter": 0.2}},
                {"policy": {"kind": "polling", "interval": 0.5, "mode": "cancel"}},
            )
        },
    ),
    Case(
        "starvation",
        "changes that come faster than a debounce waits, on one server",
        {
            "fleet": {"users": 1, "servers_per_user": 1, "sites_per_user": 0},
            "workload": {"kind": "constant", "rate": 2.5},
            "policy": {"kind": "debounce", "wait": 0.5},
            "cooldown": 3,
            "drain": 0,
        },
    ),
    Case(
        "max-wait",
        "a debounce with an upper bound, under a log, with jitter",
        {
            "workload": {"kind": "logs", "rate": 20, "servers": 2, "batch": 2},
            "policy": {"kind": "debounce", "wait": 0.5, "max_wait": 1, "jitter": 0.1},
        },
    ),
    Case(
        "queued",
        "events by a queue whose workers look for jobs each half second",
        {"broadcast": {"dispatch": "queued", "queue_workers": 2, "queue_latency": 0.5}},
    ),
    Case(
        "unique",
        "of one resource's events one waits in the queue, until its lock is void",
        {
            "workload": {"kind": "poisson", "rate": 20},
            "broadcast": {"dispatch": "queued", "queue_latency": 0.4, "unique": True, "unique_for": 0.25},
            "policy": IMMEDIATE,
        },
    ),
    Case(
        "server-debounce",
        "the server waits for silence, up to a second",
        {
            "workload": {"kind": "poisson", "rate": 30},
            "broadcast": {"debounce": 0.4, "debounce_max_wait": 1},
            "policy": IMMEDIATE,
        },
    ),
    Case(
        "on-save",
        "the event leaves before the commit, so that a refetch may come too early",
        {"broadcast": {"moment": "on_save", "commit_delay": 0.05}, "policy": IMMEDIATE},
    ),
    Case("per-user", "dashboards hear of their own user's servers", {"broadcast": {"channels": "per_user"}}),
    Case(
        "generic",
        "one channel for all: everybody hears of everything, and shows everyone's",
        {
            "broadcast": {"channels": "generic"},
            "api": {"service_per_row": 0.0005, "dashboard_of": "everyone", "workers": 2},
            "pages": [{"page": "dashboard", "subscribers": 100}],
        },
    ),
    Case(
        "full-payload",
        "the event carries what is shown",
        {
            "broadcast": {"channels": "specific", "payload": "full", "payload_bytes": 4096},
            "policy": {"kind": "full_payload"},
            "pages": pages({}, {"page": "site", "policy": {"kind": "debounce"}}),
            "workload": {"kind": "poisson", "rate": 8, "site_share": 0.5},
        },
    ),
    Case(
        "saves",
        "changes and refetches share four workers; none is near the end of the window, to be committed before or after it",
        {
            "seed": 11,
            "policy": IMMEDIATE,
            "api": {"workers": 4, "save": {"kind": "uniform", "low": 0.02, "high": 0.06}, "service": 0.005},
        },
    ),
    Case(
        "saves-elsewhere",
        "changes wait for their lock only",
        {
            "workload": {"kind": "poisson", "rate": 20, "per": "total"},
            "api": {"workers": 2, "save": {"kind": "exponential", "scale": 0.03}, "save_workers": "own"},
        },
    ),
    Case(
        "full-queue",
        "what finds the queue full is refused, and tried again within a budget",
        {
            "policy": IMMEDIATE,
            "api": {
                "workers": 2,
                "service": {"kind": "exponential", "scale": 0.01},
                "queue_limit": 20,
                "retries": 2,
                "retry_backoff": 0.1,
                "retry_budget": 0.5,
            },
        },
    ),
    Case(
        "time-outs",
        "answers that come too late, asked for again at once: the load that this makes keeps them late",
        {
            "workload": {"kind": "flash_crowd", "rate": 2, "factor": 6, "start": 3, "ramp": 0.5, "hold": 2, "decay": 0.5},
            "policy": IMMEDIATE,
            "api": {"workers": 4, "service": {"kind": "exponential", "scale": 0.03}, "timeout": 0.5, "retries": 2},
        },
    ),
    Case(
        "rate-limit",
        "a limiter that counts each user's requests",
        {"policy": IMMEDIATE, "api": {"rate_limit": 300}},
    ),
    Case(
        "cache",
        "identical refetches share an answer",
        {"policy": IMMEDIATE, "api": {"cache": 0.3, "service": {"kind": "weibull", "scale": 0.02, "shape": 2}}},
    ),
    Case(
        "sessions",
        "pages come and go, a third of the tabs is hidden",
        {"pages": pages(session={"kind": "exponential", "scale": 5}, hidden=0.3)},
    ),
    Case(
        "restart",
        "the broadcaster is away for less than the second after which pages try again; half of them fetch once they are back",
        {
            "duration": 12,
            "broadcast": {"tries": 2, "backoff": 0.4},
            "incidents": [{"kind": "restart", "at": 4, "down": 0.3}],
            "pages": pages({"refetch_on_reconnect": True}, {}),
        },
    ),
    Case(
        "disconnect",
        "half of the connections drop, and the broadcaster stays up",
        {"incidents": [{"kind": "disconnect", "at": 4, "share": 0.5}], "pages": pages(refetch_on_reconnect=True)},
    ),
    Case("outage", "no worker begins anything for a while", {"incidents": [{"kind": "outage", "at": 4, "duration": 1.5}]}),
    Case(
        "slowdown",
        "a database that is slow for a while: refetches queue up",
        {
            "policy": IMMEDIATE,
            "in_flight": "cancel",
            "api": {"workers": 4, "service": {"kind": "lognormal", "scale": 0.006, "sigma": 0.5}},
            "incidents": [{"kind": "slowdown", "at": 3, "duration": 3, "factor": 5}],
        },
    ),
    Case(
        "deploy",
        "a release: all is away for a moment, pages of the old assets load anew",
        {
            "duration": 12,
            # Lines of a log: of other changes one that was refused makes the next one impossible.
            "workload": {"kind": "logs", "rate": 8, "servers": 10},
            "incidents": [{"kind": "deploy", "at": 4, "down": 1.5}],
            "pages": pages({"refetch_on_reconnect": True}, {"inertia": True, "policy": {"kind": "polling", "interval": 0.5}}),
        },
    ),
    Case(
        "opened-while-away",
        "pages are opened while there is no application: they load again after five seconds",
        {
            "duration": 12,
            "workload": {"kind": "logs", "rate": 8, "servers": 10},
            "pages": pages(session={"kind": "exponential", "scale": 4}),
            "incidents": [{"kind": "deploy", "at": 3, "down": 1}],
        },
    ),
    Case(
        "reverb",
        "a broadcaster in the shape of Laravel Reverb",
        {"broadcaster": {"model": "reverb", "cost": 2}},
    ),
    Case(
        "slow-broadcaster",
        "every cost of the broadcaster by its own key",
        {
            "broadcaster": {
                "fixed": 0.002,
                "compose_per_subscriber": 0.0001,
                "per_subscriber": 0.0004,
                "per_byte": 1e-8,
                "answer": "after",
                "nagle": True,
                "keep_alive": False,
            }
        },
    ),
    Case(
        "nodes",
        "two broadcaster processes, and answers that take as long as was measured somewhere, or much longer",
        {
            "broadcaster": {"nodes": 2},
            "api": {
                "service": {
                    "kind": "mixture",
                    "parts": [
                        {"kind": "empirical", "values": [0.002, 0.003, 0.005]},
                        {"kind": "pareto", "scale": 0.002, "shape": 3},
                    ],
                    "weights": [3, 1],
                }
            },
        },
    ),
    Case(
        "arrivals",
        "every kind of arrivals at once",
        {
            "workload": {
                "kind": "mixture",
                "parts": [
                    {"kind": "bursty", "per": "server", "rate": 0.4, "off_rate": 0.1, "on": 1, "off": 3, "site_share": 0.2},
                    {"kind": "mmpp", "rates": [0.5, 10], "dwell": [3, 1], "site_share": 0.3},
                    {"kind": "diurnal", "rate": 1.2, "swing": 0.5, "period": 10, "peak": 5, "site_share": 0.5},
                    {"kind": "statuses", "rate": 0.1, "per": "server", "of": ["connection", "scheduler"]},
                    {"kind": "instants", "at": [1, 2, 2, 2], "server": 3},
                    {"kind": "constant", "rate": 0.7, "site_share": 0.4},
                ],
            }
        },
    ),
    Case(
        "work",
        "every kind of work on the servers at once",
        {
            "workload": {
                "kind": "mixture",
                "parts": [
                    {"kind": "provisioning", "parallel": 2, "runs": 2, "stagger": 1, "speed": 10, "failure": 0.05, "pause": 0.1},
                    {"kind": "deployments", "per_minute": 30, "stages": 3, "burst": 5, "failure": 0.2, "speed": 5},
                    {"kind": "firewall", "per_minute": 20, "takes": 2, "failure": 0.2, "speed": 2},
                    {"kind": "packages", "per_minute": 20, "takes": 2, "failure": 0.2, "speed": 2},
                    {"kind": "database", "per_minute": 12, "takes": 2, "parts": 3, "failure": 0.2},
                    {"kind": "tasks", "per_minute": 20, "takes": 1, "failure": 0.2, "parts": 1},
                ],
            },
            "pages": [
                {"page": page, "subscribers": count}
                for page, count in (("detail", 30), ("firewall", 20), ("provision", 20), ("site", 10), ("dashboard", 20))
            ],
        },
    ),
    Case(
        "tasks",
        "tasks whose end is broadcast whole, beside their servers' progress; one page in three looks for itself",
        {
            "workload": {"kind": "tasks", "per_minute": 200, "takes": 1, "failure": 0.3, "parts": 2},
            "broadcast": {"payload_bytes": 2048},
            "pages": [
                {"page": "task", "subscribers": 40},
                {"page": "task", "subscribers": 20, "policy": {"kind": "polling", "interval": 0.7}},
                {"page": "detail", "subscribers": 40},
            ],
        },
    ),
    Case(
        "packages",
        "several hundred changes of one server, some at one instant",
        {
            "in_flight": "cancel",
            "workload": {"kind": "replay", "trace": "packages", "parallel": 2, "stagger": 5},
            "policy": {"kind": "debounce", "wait": 0.5, "max_wait": 2},
            "pages": [{"page": "provision", "subscribers": 60}, {"page": "dashboard", "subscribers": 40}],
        },
    ),
)
