"""Scenario: the one frozen configuration of a run, read by the simulator and the load test alike.

A scenario is a TOML file; each table below is one frozen dataclass, each key one field with its meaning and unit. A key that
does not exist is an error that names the nearest one. `Scenario.replace({"policy.wait": 0.1})` is how sweeps vary it.

Variants (`policy`, `workload`, durations) are tables with a `kind`; a bare number stands for a constant duration.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sim.distributions import Constant, Distribution, Lognormal
from sim.errors import BadInput, did_you_mean
from sim.incidents import Incident
from sim.policy import Debounce, InFlight, Policy
from sim.workload import Poisson, Workload

PageKind = Literal["detail", "firewall", "provision", "site", "dashboard"]
Behaviour = Literal["good", "stop_reading", "reconnect_loop", "never_subscribe"]


def _positive(value: float, name: str, unit: str = "") -> None:
    if not value > 0:
        raise ValueError(f"{name} must be > 0{unit}, got {value!r}")


def _not_negative(value: float, name: str, unit: str = "") -> None:
    if not value >= 0:
        raise ValueError(f"{name} must be >= 0{unit}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Fleet:
    """The application's population: who owns what."""

    users: int = 10
    servers_per_user: int = 2
    sites_per_user: int = 1

    def __post_init__(self) -> None:
        _positive(self.users, "users")
        _not_negative(self.servers_per_user, "servers_per_user")
        _not_negative(self.sites_per_user, "sites_per_user")

    @property
    def servers(self) -> int:
        return self.users * self.servers_per_user

    @property
    def sites(self) -> int:
        return self.users * self.sites_per_user


@dataclass(frozen=True, slots=True)
class Pages:
    """One kind of page, open in many browsers. Detail, firewall and provision pages spread evenly over the servers."""

    page: PageKind = "detail"
    subscribers: int = 100
    policy: Policy | None = None
    """None: the scenario's `policy`."""
    in_flight: InFlight | None = None
    """None: the scenario's `in_flight`."""
    behaviour: Behaviour = "good"
    session: Distribution | None = None
    """How long a page stays open, seconds; None: for the whole run. Who leaves is replaced at once."""
    hidden: float = 0.0
    """Share of the pages in hidden tabs, whose timers ring on whole seconds only."""
    refetch_on_reconnect: bool = False
    """Refetch once the channels are subscribed again. Stock Echo does not; what came meanwhile then stays unseen."""

    def __post_init__(self) -> None:
        _not_negative(self.subscribers, "subscribers")
        if not 0 <= self.hidden <= 1:
            raise ValueError(f"hidden must be a share between 0 and 1, got {self.hidden!r}")


@dataclass(frozen=True, slots=True)
class Broadcast:
    """The design decisions of the pattern, with its recommendation as default."""

    dispatch: Literal["now", "queued"] = "now"
    queue_workers: int = 1
    queue_latency: float = 0.0
    """Seconds a queued job waits before a worker may take it (the worker's poll)."""
    moment: Literal["after_commit", "on_save"] = "after_commit"
    commit_delay: float = 0.0
    """Seconds between the save and the commit: the window of the `on_save` race."""
    channels: Literal["both", "specific", "generic", "per_user"] = "both"
    payload: Literal["notify", "full"] = "notify"
    payload_bytes: int = 0
    """Padding of a full payload, bytes."""
    to_others: bool = False
    broadcast_as: bool = False
    """Name events by `broadcast_as` (`ServerUpdated`) in place of the class (`App\\Events\\ServerUpdated`)."""
    all_fields: bool = False
    """Broadcast on any change, not only on that of the meaningful fields."""
    listeners: Literal["all", "documented"] = "all"
    """`documented`: only the model events that the pattern's document registers (no new server, no deleted firewall)."""
    provision_event: bool = True
    """A changed provision step is told by `ServerProvisionUpdated` on `servers.{id}.provision` as well."""
    debounce: float = 0.0
    """Server-side debounced dispatch: seconds; the last of a window wins. 0: off."""
    debounce_max_wait: float | None = None
    unique: bool = False
    """While an event of the same resource waits in the queue, more of them are dropped."""
    unique_for: float = 60.0
    """Seconds after which such a lock is void (its job was lost)."""
    tries: int = 3
    """Attempts to reach the broadcaster before an event is given up."""
    backoff: float = 1.0
    """Seconds between attempts."""
    connect_timeout: float = 10.0
    timeout: float = 30.0
    """Seconds that one request to the broadcaster may take."""

    def __post_init__(self) -> None:
        _positive(self.queue_workers, "queue_workers")
        for name in ("unique_for", "tries", "connect_timeout", "timeout"):
            _positive(getattr(self, name), name)
        if self.debounce_max_wait is not None:
            _not_negative(self.debounce_max_wait, "debounce_max_wait", " s")
        for name in ("queue_latency", "commit_delay", "payload_bytes", "debounce", "backoff"):
            _not_negative(getattr(self, name), name)


@dataclass(frozen=True, slots=True)
class Network:
    """One-way delays of the simulator, seconds."""

    to_broadcaster: Distribution = field(default_factory=lambda: Constant(0.0005))
    to_subscriber: Distribution = field(default_factory=lambda: Constant(0.0002))
    to_api: Distribution = field(default_factory=lambda: Constant(0.0002))


@dataclass(frozen=True, slots=True)
class Broadcaster:
    """Cost of a fan-out in the simulator: `fixed + position * per_subscriber` on each node."""

    fixed: float = 0.0001
    """Seconds of work per event before the first subscriber."""
    per_subscriber: float = 0.0000045
    """Seconds per subscriber and event."""
    nodes: int = 1

    def __post_init__(self) -> None:
        _not_negative(self.fixed, "fixed", " s")
        _not_negative(self.per_subscriber, "per_subscriber", " s")
        _positive(self.nodes, "nodes")


@dataclass(frozen=True, slots=True)
class Api:
    """The application that answers refetches."""

    workers: int = 1
    service: Distribution = field(default_factory=lambda: Lognormal(0.001, 0.5))
    """Time a worker needs for one refetch, seconds."""
    service_per_row: float = 0.0
    """Additional seconds per server shown (dashboards grow with their rows)."""
    answer_bytes: int = 1500
    """Simulator: bytes of an answer, head and body."""
    answer_bytes_per_row: int = 300
    """Simulator: additional bytes per server shown on a dashboard."""
    queue_limit: int | None = None
    """Refetches that may wait; more are refused with 503. None: unbounded."""
    timeout: float | None = None
    """Seconds after which a page gives up; the server still does the work."""
    rate_limit: int | None = None
    """Requests per user and minute; more get 429. None: off."""
    cache: float = 0.0
    """Seconds for which identical refetches share one answer. 0: off."""
    retries: int = 0
    retry_backoff: float = 0.0
    """First pause before a retry, seconds, doubled each time. 0: at once."""
    retry_budget: float | None = None
    """Retries allowed per first attempt, over all pages. None: unbounded."""
    database_latency: float = 0.0
    """Additional seconds of each database round trip of the embedded application."""
    dashboard_of: Literal["user", "everyone"] = "user"
    """`everyone`: the dashboard query of the pattern's document, which forgets to ask whose servers they are."""

    def __post_init__(self) -> None:
        _positive(self.workers, "workers")
        for name in ("service_per_row", "cache", "retries", "retry_backoff", "database_latency"):
            _not_negative(getattr(self, name), name)
        for name in ("answer_bytes", "answer_bytes_per_row"):
            _not_negative(getattr(self, name), name)
        for name in ("queue_limit", "rate_limit", "retry_budget"):
            if getattr(self, name) is not None:
                _not_negative(getattr(self, name), name)
        if self.timeout is not None:
            _positive(self.timeout, "timeout", " s")


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who makes the updates happen in a load test."""

    via: Literal["routes", "broadcaster", "none"] = "routes"
    """`routes`: the application's change routes. `broadcaster`: its HTTP API directly. `none`: listen to a live application."""
    members: bool = True
    """Add members for measuring (update, sent_at) to the payload, where the target is the embedded one."""
    connections: int = 8


@dataclass(frozen=True, slots=True)
class Load:
    """How the load test drives its subscribers."""

    processes: int = 1
    connect_rate: float = 500.0
    """Subscribers started per second."""
    http: Literal["per_subscriber", "pool"] = "pool"
    pool_size: int = 64
    receive_stamp: Literal["kernel", "read"] = "kernel"
    auth: Literal["bearer", "cookie", "signed"] | None = None
    """Channels are authorised by the application (bearer token, or cookie and CSRF token), or signed by the load test with the
    app's secret. None: bearer, or signed where there is no application."""
    refetch: str = ""
    """Path of a foreign application's resource, as `/api/servers/{id}`; empty: the embedded one's."""
    version: str = ""
    """Path in its JSON of what serves as version, as `data.updated_at`; empty: `version`."""
    probes: int | None = None
    """Subscribers recorded row by row, in each process; the others are counted in histograms. None: all."""

    def __post_init__(self) -> None:
        _positive(self.processes, "processes")
        _positive(self.connect_rate, "connect_rate", " subscribers/s")
        _positive(self.pool_size, "pool_size")


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that decides a run. Immutable; a variant is made by `replace`."""

    name: str = "unnamed"
    description: str = ""
    seed: int = 1
    warmup: float = 0.0
    """Seconds of updates at the start that are not counted."""
    duration: float = 20.0
    """Seconds of updates."""
    drain: float = 3.0
    """Seconds after the last update in which late refetches may still arrive."""
    fleet: Fleet = field(default_factory=Fleet)
    workload: Workload = field(default_factory=Poisson)
    pages: tuple[Pages, ...] = (Pages(),)
    policy: Policy = field(default_factory=Debounce)
    in_flight: InFlight = "overlap"
    broadcast: Broadcast = field(default_factory=Broadcast)
    network: Network = field(default_factory=Network)
    broadcaster: Broadcaster = field(default_factory=Broadcaster)
    api: Api = field(default_factory=Api)
    incidents: tuple[Incident, ...] = ()
    """Simulator: what goes wrong, and when."""
    publisher: Publisher = field(default_factory=Publisher)
    load: Load = field(default_factory=Load)
    thresholds: Mapping[str, str] = field(default_factory=dict)
    """Metric to condition, for example `time_to_fresh_ms = "p(99) < 1500"`."""

    def __post_init__(self) -> None:
        _not_negative(self.seed, "seed")
        _not_negative(self.duration, "duration", " s")
        _not_negative(self.warmup, "warmup", " s")
        _not_negative(self.drain, "drain", " s")

    @property
    def subscribers(self) -> int:
        return sum(pages.subscribers for pages in self.pages)

    def policy_of(self, pages: Pages) -> Policy:
        return self.policy if pages.policy is None else pages.policy

    def in_flight_of(self, pages: Pages) -> InFlight:
        return self.in_flight if pages.in_flight is None else pages.in_flight

    def with_subscribers(self, total: int) -> Scenario:
        """The same mixture of pages, scaled to *total* subscribers (largest remainders get the odd ones)."""
        present = self.subscribers
        if present == 0:
            raise BadInput(f"scenario {self.name}: pages: no subscribers to scale to {total}")
        shares = [pages.subscribers * total / present for pages in self.pages]
        counts = [int(share) for share in shares]
        by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - shares[i], i))
        for i in by_remainder[: total - sum(counts)]:
            counts[i] += 1
        pages = tuple(dataclasses.replace(p, subscribers=n) for p, n in zip(self.pages, counts, strict=True))
        return dataclasses.replace(self, pages=pages)

    def replace(self, changes: Mapping[str, Any]) -> Scenario:
        """A variant with dotted keys set: `{"policy.wait": 0.1, "pages.0.subscribers": 500}`.

        Another `kind` keeps the members that it has as well. Raises `BadInput` for a key that no scenario has. A value is what
        TOML would hold.
        """
        tree = to_dict(self)
        for dotted, value in changes.items():
            *parents, last = dotted.split(".")
            node: Any = tree
            try:
                for part in parents:
                    node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
                    if not isinstance(node, dict | list):
                        raise KeyError(part)
                if last == "kind" and parents and isinstance(node, dict) and node.get("kind") != value:
                    kept = _members(self, parents, value)
                    for name in [name for name in node if kept and name not in kept]:
                        del node[name]
                node[int(last) if isinstance(node, list) else last] = value
            except (KeyError, IndexError, ValueError, AttributeError) as error:
                raise BadInput(f"scenario {self.name}: no key {dotted!r}") from error
        return build(Scenario, tree, where=f"scenario {self.name}")


def _members(scenario: Scenario, path: list[str], kind: str) -> set[str]:
    """Names of the members of the variant *kind* of what stands at *path*; empty: there is no such variant."""
    owner: Any = scenario
    for part in path[:-1]:
        owner = owner[int(part)] if isinstance(owner, tuple) else getattr(owner, part, None)
    variants = typing.get_args(_hints(typing.cast(type, type(owner))).get(path[-1])) if dataclasses.is_dataclass(owner) else ()
    return {f.name for variant in variants if getattr(variant, "kind", None) == kind for f in dataclasses.fields(variant)}


# --- reading -----------------------------------------------------------------------------------------------------------

SCENARIO_DIR = Path(__file__).resolve().parent.parent / "data" / "scenarios"


def load_scenario(source: str | Path, changes: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario by path, or by name from data/scenarios. Raises `BadInput` naming file, key and remedy."""
    path = Path(source)
    if not path.suffix and not path.exists():
        named = SCENARIO_DIR / f"{source}.toml"
        if not named.exists():
            known = [p.stem for p in SCENARIO_DIR.glob("*.toml")]
            raise BadInput(f"scenario {str(source)!r} not found{did_you_mean(str(source), known)}")
        path = named
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"scenario {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"scenario {path}: not valid TOML: {error}") from error
    tree.setdefault("name", path.stem)
    scenario: Scenario = build(Scenario, tree, where=str(path))
    return scenario.replace(changes) if changes else scenario


def parse_value(text: str) -> Any:
    """A value given on the command line, as TOML would read it; what TOML cannot read is a text (`detail`)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["policy.wait=0.1", ...]` of a `--set` flag as changes for `Scenario.replace`. Raises `BadInput`."""
    changes = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise BadInput(f"--set {assignment!r}: write KEY=VALUE, for example policy.wait=0.1")
        changes[key.strip()] = parse_value(text.strip())
    return changes


def to_dict(value: Any) -> Any:
    """The plain tree (dict, list, number, text) that `build` turns back into *value*; None members are left out."""
    if dataclasses.is_dataclass(value):
        tree = {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        kind = getattr(value, "kind", None)
        return ({"kind": kind} if kind else {}) | {name: leaf for name, leaf in tree.items() if leaf is not None}
    if isinstance(value, Mapping):
        return {key: to_dict(leaf) for key, leaf in value.items()}
    if isinstance(value, tuple | list):
        return [to_dict(leaf) for leaf in value]
    return value


def to_toml(scenario: Scenario) -> str:
    """The scenario as a TOML file that `load_scenario` reads back as an equal one: how a run hands it to its processes."""
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in to_dict(scenario).items())


def _toml_value(value: Any) -> str:
    """Everything nested is inline; a JSON text is a TOML text as well."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(leaf)}" for key, leaf in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(leaf) for leaf in value) + "]"
    return json.dumps(value)


def build(wanted: Any, value: Any, where: str, path: str = "") -> Any:
    """Turn a plain tree into *wanted* (a dataclass, a union of variants, a tuple of them, a number, a text).

    *where* names the file and *path* the key for error messages. Raises `BadInput`.
    """
    at = f"{where}: {path}" if path else where
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        return _build_union(typing.get_args(wanted), value, where, path)
    if origin is Literal:
        allowed = typing.get_args(wanted)
        if value not in allowed:
            raise BadInput(f"{at} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise BadInput(f"{at} must be a list, got {value!r}")
        element = typing.get_args(wanted)[0]
        return tuple(build(element, item, where, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise BadInput(f"{at} must be a table, got {value!r}")
        element = typing.get_args(wanted)[1]
        return {key: build(element, item, where, f"{path}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(wanted):
        return _build_dataclass(typing.cast(type, wanted), value, where, path)
    return _build_plain(wanted, value, at)


def _build_plain(wanted: Any, value: Any, at: str) -> Any:
    """A number, a text or a truth value; an int serves as float, a bool never as a number."""
    words = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
    accepted: Any = (int, float) if wanted is float else wanted
    if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
        raise BadInput(f"{at} must be {words.get(wanted, wanted.__name__)}, got {value!r}")
    if wanted is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise BadInput(f"{at} must be a finite number, got {value!r}")
        return float(value)
    return value


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build_dataclass(cls: type, value: Any, where: str, path: str) -> Any:
    at = f"{where}: {path}" if path else where
    if not isinstance(value, Mapping):
        raise BadInput(f"{at} must be a table, got {value!r}")
    hints = _hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    members: dict[str, Any] = {}
    for key, item in value.items():
        if key == "kind" and getattr(cls, "kind", None) == item:
            continue
        dotted = f"{path}.{key}" if path else key
        if key not in names:
            raise BadInput(f"{where}: unknown key {dotted!r}{did_you_mean(key, names)}")
        members[key] = build(hints[key], item, where, dotted)
    try:
        return cls(**members)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{at + '.' if path else where + ': '}{error}") from error


def _build_union(variants: tuple[Any, ...], value: Any, where: str, path: str) -> Any:
    at = f"{where}: {path}"
    if value is None and type(None) in variants:
        return None
    some = [v for v in variants if v is not type(None)]
    if len(some) == 1:
        return build(some[0], value, where, path)
    kinds = {v.kind: v for v in some if hasattr(v, "kind")}
    if not kinds:
        literal = [v for v in some if isinstance(value, str) == (v is str)]
        return build((literal or some)[0], value, where, path)
    if isinstance(value, int | float) and not isinstance(value, bool) and "constant" in kinds:
        return build(kinds["constant"], {"value": value}, where, path)
    if not isinstance(value, Mapping):
        raise BadInput(f"{at} must be a table with a kind ({', '.join(sorted(kinds))}), got {value!r}")
    kind = value.get("kind")
    if kind is None:
        raise BadInput(f"{at}: kind is missing (one of {', '.join(sorted(kinds))})")
    if kind not in kinds:
        raise BadInput(f"{at}.kind: no such kind {kind!r}{did_you_mean(str(kind), kinds)}")
    return build(kinds[kind], value, where, path)


__all__ = [
    "Api",
    "Broadcast",
    "Broadcaster",
    "Fleet",
    "Load",
    "Network",
    "Pages",
    "Publisher",
    "Scenario",
    "build",
    "load_scenario",
    "parse_assignments",
    "parse_value",
    "to_dict",
    "to_toml",
]
