"""Scenario: the one frozen configuration of a run, read by the simulator and the load test alike.

A scenario is a TOML file; each table below is one frozen dataclass, each key one field with its meaning and unit. A key that
does not exist is an error that names the nearest one. `Scenario.replace({"policy.wait": 0.1})` is how sweeps vary it.

Variants (`policy`, `workload`, durations) are tables with a `kind`; a bare number stands for a constant duration.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from sim.distributions import Constant, Distribution, Lognormal
from sim.errors import BadInput, header
from sim.incidents import Incident
from sim.marks import Bytes, Number, PerSecond, Share, above_zero, at_least, load_test_only, shares, simulator_only
from sim.policy import Debounce, FullPayload, InFlight, Policy
from sim.scenario.broadcaster import Broadcaster
from sim.scenario.tree import build, hints, to_dict
from sim.workload import Poisson, Streams, Updates, Workload
from sim.workload.updates import to_ns

OF_ONES_OWN = load_test_only("it says how an application of one's own names things", promise=False)
HARNESS = load_test_only("it says how the load is made and measured; virtual time needs neither", promise=False)
NAMES = load_test_only("it names events or adds ones that no page of a scenario listens to", promise=False)
ONLY_MEANINGFUL = load_test_only("every update of a workload changes a field that is broadcast anyway", promise=False)
MEASURED = simulator_only("a load test meets the delays and costs that its machines have")
ANSWERS = simulator_only("the application's answers have the size that they have")
NO_HANGING = load_test_only("the simulator's broadcaster answers or refuses, it never hangs", promise=False)
ITS_LOCKS = simulator_only(
    "until it is committed, a change locks all of SQLite's file, but its own row in PostgreSQL and MariaDB"
)

PageKind = Literal["detail", "firewall", "provision", "site", "task", "dashboard"]
Behaviour = Literal["good", "stop_reading", "reconnect_loop", "never_subscribe"]


def _template(text: str) -> None:
    try:
        text.format(id="", user="", n="")
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{text!r} may hold {{id}}, {{user}} and {{n}}, no other braces") from error


@dataclass(frozen=True, slots=True)
class Fleet:
    """The users of the application, and what each of them owns."""

    users: int = 10
    """Users of the application; pages spread evenly over them."""
    servers_per_user: int = 2
    """Servers that each user owns."""
    sites_per_user: int = 1
    """Sites that each user owns."""

    def __post_init__(self) -> None:
        above_zero(self, "users")
        at_least(0, self, "servers_per_user", "sites_per_user")

    @property
    def servers(self) -> int:
        return self.users * self.servers_per_user

    @property
    def sites(self) -> int:
        return self.users * self.sites_per_user

    def each(self, resource: str) -> int:
        """How many of it (server, site, task) a user has; each server has one task."""
        return self.sites_per_user if resource == "site" else self.servers_per_user

    def count(self, resource: str) -> int:
        """How many of it there are."""
        return self.users * self.each(resource)


@dataclass(frozen=True, slots=True)
class Pages:
    """One kind of page, open in many browsers. Detail, firewall and provision pages spread evenly over the servers."""

    page: PageKind = "detail"
    """What the page shows: one server (`detail`, `firewall`, `provision`), one site, the `task` of one
    server, or all that a user owns (`dashboard`)."""
    subscribers: int = 100
    """Pages of this kind that are open at any time."""
    policy: Policy | None = None
    """None: the scenario's `policy`; of a task's page `full_payload`, because its event carries all of it."""
    in_flight: InFlight | None = None
    """None: the scenario's `in_flight`."""
    behaviour: Annotated[
        Behaviour, load_test_only("pages that reconnect without end are not simulated", values=("reconnect_loop",))
    ] = "good"
    """`stop_reading`, `reconnect_loop`, `never_subscribe`: what pages do that are broken."""
    session: Distribution | None = None
    """How long a page stays open, seconds; None: for the whole run. A page that closes is replaced at once."""
    hidden: Share = 0.0
    """Share of the pages in hidden tabs, whose timers ring on whole seconds only."""
    refetch_on_reconnect: bool = False
    """Refetch once the channels are subscribed again. Stock Echo does not; what came meanwhile then stays unseen."""
    channels: Annotated[tuple[str, ...], OF_ONES_OWN] = ()
    """Channels of an application of one's own, as `["private-orders.{id}"]`; `{id}` is the resource, `{user}` its owner, `{n}`
    the page's number. Empty: the pattern's."""
    events: Annotated[tuple[str, ...], OF_ONES_OWN] = ()
    """Names on the wire of the events that count, as `["App\\Events\\OrderShipped"]`. Empty: the pattern's, or any on channels of
    one's own."""
    ids: Annotated[str, OF_ONES_OWN] = ""
    """List of the target's users that gives `{id}`, as `orders`: pages spread evenly over what they own. Empty: the page's own
    (`servers`, `sites`)."""
    refetch: Annotated[str, OF_ONES_OWN] = ""
    """Path of the resource, as `/api/orders/{id}`. Empty: `load.refetch`; without it the pattern's, or none where the channels
    are one's own."""
    version: Annotated[str, OF_ONES_OWN] = ""
    """Path in its JSON of what serves as version. Empty: `load.version`."""
    headers: Annotated[Mapping[str, str], OF_ONES_OWN] = field(default_factory=dict)
    """Further headers of the page's requests to the application."""
    inertia: bool = False
    """The resource is an Inertia page: loaded as HTML, refetched with `X-Inertia` and the assets' version that it names; after a
    release (`deploy`) the application has it load anew (409)."""
    only: Annotated[tuple[str, ...], OF_ONES_OWN] = ()
    """Props that an Inertia page reloads (`router.reload({only: [...]})`). Empty: all."""

    @property
    def resource(self) -> str:
        """What it shows: server, site, task or dashboard."""
        return self.page if self.page in ("site", "task", "dashboard") else "server"

    def __post_init__(self) -> None:
        at_least(0, self, "subscribers")
        shares(self, "hidden")
        for template in (*self.channels, self.refetch):
            _template(template)
        if self.only and not self.inertia:
            raise ValueError("only needs inertia = true: other applications have no partial reload")
        if self.channels and any(not channel for channel in self.channels):
            raise ValueError("channels must not hold an empty name")
        if self.refetch and not self.refetch.startswith("/"):
            raise ValueError(f"refetch must be a path that begins with /, got {self.refetch!r}")
        for name, value in self.headers.items():
            header(name, value)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """The design decisions of the pattern, with its recommendation as default."""

    dispatch: Literal["now", "queued"] = "now"
    """`ShouldBroadcastNow`: within the request that makes the change; or by a queue."""
    queue_workers: int = 1
    """Processes that work on the queue."""
    queue_latency: float = 0.0
    """Seconds a queued job waits before a worker may take it (the worker's poll)."""
    moment: Literal["after_commit", "on_save"] = "after_commit"
    """When the event leaves: once the change is in the database, or as the model is saved (a refetch may then come too early)."""
    commit_delay: float = 0.0
    """Seconds between the save and the commit: the window of the `on_save` race."""
    channels: Literal["both", "specific", "generic", "per_user"] = "both"
    """`servers.5` and `servers`, one of them, or one per user (`users.3.servers`). A task has its own only, `tasks.5`."""
    payload: Literal["notify", "full"] = "notify"
    """An id and a time stamp, or the resource itself. A task is always broadcast itself."""
    payload_bytes: Bytes = 0
    """Padding of a full payload (a task's always is), bytes."""
    to_others: Annotated[bool, NAMES] = False
    """Not to the connection that made the change; none of a load test's changes comes from a page."""
    broadcast_as: Annotated[bool, NAMES] = False
    """Name events by `broadcast_as` (`ServerUpdated`) in place of the class (`App\\Events\\ServerUpdated`)."""
    all_fields: Annotated[bool, ONLY_MEANINGFUL] = False
    """Broadcast on any change, not only on that of the meaningful fields."""
    listeners: Annotated[Literal["all", "documented"], ONLY_MEANINGFUL] = "all"
    """`documented`: only the model events that the pattern's document registers (no new server, no deleted firewall)."""
    provision_event: Annotated[bool, NAMES] = True
    """A changed provision step is announced by `ServerProvisionUpdated` on `servers.{id}.provision` as well."""
    debounce: float = 0.0
    """Server-side debounced dispatch, seconds (Laravel 13's `DebounceFor`): each event goes through the queue, delayed by this,
    and is dropped if another of its resource was dispatched meanwhile. 0: off."""
    debounce_max_wait: float | None = None
    """A dispatch that comes this many seconds or more after the first of its series is not delayed, and ends the series. None:
    a storm may hold it back for ever."""
    unique: bool = False
    """Queued dispatch only: while an event of the same resource waits in the queue, more of them are dropped. The lock is given
    back before the send begins (Laravel's `ShouldBeUniqueUntilProcessing`)."""
    unique_for: float = 60.0
    """Seconds after which such a lock is void (its job was lost)."""
    tries: int = 3
    """Attempts to reach the broadcaster before an event is given up."""
    backoff: float = 1.0
    """Seconds between attempts."""
    connect_timeout: Annotated[float, NO_HANGING] = 10.0
    """Seconds in which a connection to the broadcaster must be made."""
    timeout: Annotated[float, NO_HANGING] = 30.0
    """Seconds that one request to the broadcaster may take."""

    def __post_init__(self) -> None:
        above_zero(self, "queue_workers", "unique_for", "tries", "connect_timeout", "timeout")
        if self.unique and self.debounce:
            raise ValueError("unique and debounce exclude each other (the first wins, the last wins)")
        at_least(0, self, "debounce_max_wait", unit=" s")
        at_least(0, self, "queue_latency", "commit_delay", "payload_bytes", "debounce", "backoff")


@dataclass(frozen=True, slots=True)
class Network:
    """One-way delays of the simulator, seconds."""

    to_broadcaster: Distribution = field(default_factory=lambda: Constant(0.0005))
    """From the application to the broadcaster."""
    to_subscriber: Distribution = field(default_factory=lambda: Constant(0.0002))
    """From the broadcaster to a page."""
    to_api: Distribution = field(default_factory=lambda: Constant(0.0002))
    """From a page to the application, and back again."""


@dataclass(frozen=True, slots=True)
class Api:
    """The application that answers refetches."""

    workers: int = 1
    """Requests that are worked on at the same time."""
    service: Distribution = field(default_factory=lambda: Lognormal(0.001, 0.5))
    """Time a worker needs for one refetch or one channel authorisation, seconds. The embedded application's own work counts into
    it: it waits for what is left."""
    save: Distribution = field(default_factory=Constant)
    """Time a worker needs to save one change, seconds, once it has the change's lock. 0: a change is saved at once, without
    a worker. The embedded application's own transaction, some milliseconds, counts into it. A resource's changes come one after
    the other: the next waits for the answer to the one before, up to a second."""
    save_workers: Literal["shared", "own"] = "shared"
    """Where `save` is not 0: a change waits in the same queue as refetches for one of `workers`, which is also busy while the
    broadcaster answers (`dispatch = "now"`); or it is made elsewhere (by a job, say) and waits for its lock only."""
    save_lock: Annotated[Literal["resource", "database"], ITS_LOCKS] = "resource"
    """What a change locks from its save to its commit: its own row, or everything (SQLite)."""
    service_per_row: float = 0.0
    """Additional seconds per server that a dashboard is made from (its user's, or everyone's)."""
    answer_bytes: Annotated[Bytes, ANSWERS] = 1500
    """Size of an answer, head and body."""
    answer_bytes_per_row: Annotated[Bytes, ANSWERS] = 300
    """Additional size per server shown on a dashboard."""
    dashboard_bytes: Annotated[Bytes | None, ANSWERS] = None
    """Size of a dashboard's answer without its servers. None: `answer_bytes`."""
    not_modified_bytes: Annotated[Bytes | None, ANSWERS] = None
    """Size of the answer to a page that shows that version already: 304, as ETags make it. None: it is answered in full."""
    queue_limit: int | None = None
    """Requests that may wait; more are refused with 503. None: unbounded."""
    timeout: float | None = None
    """Seconds after which a page gives up; the server still does the work."""
    rate_limit: int | None = None
    """Requests of a user's pages per minute; more get 429. Changes do not count. None: off."""
    cache: float = 0.0
    """Seconds for which identical refetches share one answer. 0: off."""
    retries: int = 0
    """Further attempts of a page whose refetch failed or timed out."""
    retry_backoff: float = 0.0
    """First pause before a retry, seconds, doubled each time. 0: at once."""
    retry_budget: Number | None = None
    """Retries allowed per first attempt, over all pages. None: unbounded."""
    database_latency: Annotated[float, load_test_only("in virtual time it is part of `api.service`")] = 0.0
    """Additional seconds of each database round trip of the embedded application."""
    dashboard_of: Literal["user", "everyone"] = "user"
    """`everyone`: the dashboard query of the pattern's document, which forgets to ask whose servers they are."""

    def size_of(self, rows: int | None) -> int:
        """Bytes of a whole answer; *rows*: servers on a dashboard, None: of another page."""
        if rows is None:
            return self.answer_bytes
        return (self.answer_bytes if self.dashboard_bytes is None else self.dashboard_bytes) + self.answer_bytes_per_row * rows

    def __post_init__(self) -> None:
        above_zero(self, "workers")
        above_zero(self, "timeout", unit=" s")
        at_least(0, self, "service_per_row", "cache", "retries", "retry_backoff", "database_latency")
        at_least(0, self, "answer_bytes", "answer_bytes_per_row", "dashboard_bytes", "not_modified_bytes")
        at_least(0, self, "queue_limit", "rate_limit", "retry_budget")

    @property
    def changes_need_workers(self) -> bool:
        """Whether changes wait for the workers that serve refetches."""
        return self.save != Constant(0.0) and self.save_workers == "shared"


@dataclass(frozen=True, slots=True)
class Publisher:
    """What makes the updates of a load test."""

    via: Literal["routes", "broadcaster", "none"] = "routes"
    """`routes`: the application's change routes. `broadcaster`: its HTTP API directly. `none`: listen to a live application."""
    members: bool = True
    """Add members for measuring (update, sent_at) to the payload, where the target is the embedded one."""
    connections: int = 8
    """Connections to the application that are kept open; more are opened when all are busy."""


@dataclass(frozen=True, slots=True)
class Load:
    """How the load test drives its subscribers."""

    processes: int = 1
    """Locust processes on this machine that share the subscribers."""
    connect_rate: PerSecond = 500.0
    """Subscribers started per second."""
    http: Literal["per_subscriber", "pool"] = "pool"
    """Refetches over a connection of each page's own (as browsers do), or over a pool that all pages share."""
    pool_size: int = 64
    """Connections of the pool, in each process."""
    receive_stamp: Literal["kernel", "read"] = "kernel"
    """Arrival is when the kernel took the packet, or when the load client read it."""
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
        above_zero(self, "processes", "pool_size")
        above_zero(self, "connect_rate", unit=" subscribers/s")


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that decides a run. Immutable; a variant is made by `replace`."""

    name: str = "unnamed"
    """Name of the scenario; the file's, where it does not say."""
    description: str = ""
    """What the scenario is for."""
    ignore: tuple[str, ...] = ()
    """Keys that a program which cannot honour them may leave out, in place of refusing the scenario: `["incidents"]`."""
    seed: int = 1
    """Same seed, same random numbers: updates, jitter, service times."""
    warmup: float = 0.0
    """Seconds of updates at the start that are not counted."""
    duration: float = 20.0
    """Seconds of updates."""
    drain: float = 3.0
    """Seconds after the last update in which late refetches may still arrive."""
    cooldown: float | None = None
    """Seconds after the duration in which updates go on and are not counted, before the drain. None: where a page's policy (or
    the server-side debounce) waits for silence without a max wait, the drain is such a cool-down, so that the end of the updates
    does not rescue a page that starves; else 0."""
    fleet: Fleet = field(default_factory=Fleet)
    """Users, and what each of them owns."""
    workload: Workload = field(default_factory=Poisson)
    """What changes, and when."""
    pages: tuple[Pages, ...] = (Pages(),)
    """The pages that are open."""
    policy: Policy = field(default_factory=Debounce)
    """When a page refetches after a notification."""
    in_flight: InFlight = "overlap"
    """What a new refetch does to one that still runs: both go on (Inertia 2 and 3), the old one ends (1), or it waits."""
    broadcast: Broadcast = field(default_factory=Broadcast)
    """How the application broadcasts."""
    network: Annotated[Network, MEASURED] = field(default_factory=Network)
    """Delays between the parts."""
    broadcaster: Broadcaster = field(default_factory=Broadcaster)
    """What a fan-out costs."""
    api: Api = field(default_factory=Api)
    """The application that answers refetches."""
    incidents: tuple[Incident, ...] = ()
    """What goes wrong, and when."""
    publisher: Annotated[Publisher, HARNESS] = field(default_factory=Publisher)
    """What makes the updates of a load test."""
    load: Annotated[Load, HARNESS] = field(default_factory=Load)
    """How a load test is made and measured."""
    thresholds: Mapping[str, str] = field(default_factory=dict)
    """Metric to condition, for example `time_to_fresh_ms = "p(99) < 1500"`."""

    def __post_init__(self) -> None:
        at_least(0, self, "seed")
        at_least(0, self, "duration", "warmup", "drain", "cooldown", unit=" s")

    @property
    def subscribers(self) -> int:
        return sum(pages.subscribers for pages in self.pages)

    @property
    def tail(self) -> tuple[float, float]:
        """(cool-down, drain) in seconds: what follows the duration, first with updates that are not counted, then without any."""
        if self.cooldown is not None:
            return self.cooldown, self.drain
        debounced = self.broadcast.debounce > 0 and self.broadcast.debounce_max_wait is None
        if debounced or any(self.policy_of(pages).waits_for_silence for pages in self.pages if pages.subscribers):
            return self.drain, 0.0
        return 0.0, self.drain

    @property
    def dashboard_rows(self) -> int:
        """Servers that a dashboard shows."""
        return self.fleet.servers if self.api.dashboard_of == "everyone" else self.fleet.servers_per_user

    @property
    def extra_payload(self) -> int:
        """Bytes of an event beyond a bare notification: the resource, as large as its answer, and the padding."""
        return self.api.answer_bytes + self.broadcast.payload_bytes if self.broadcast.payload == "full" else 0

    def extra_payload_of(self, resource: str) -> int:
        """The same of an event of *resource*: that of a task carries the task in any case, and the padding."""
        return self.broadcast.payload_bytes if resource == "task" else self.extra_payload

    def heard(self) -> list[tuple[Pages, float]]:
        """Each group of pages, and the events per second that one of them hears, on the average of warm-up and duration."""
        horizon, kind = self.warmup + self.duration, self.broadcast.channels
        rate = self.workload.expected(horizon, self.fleet.servers, self.fleet.sites) / horizon if horizon else 0.0
        of_one = 0.0 if kind == "generic" else 1 / max(1, self.fleet.servers)
        of_all = {"generic": 1.0, "both": 1.0, "specific": 0.0, "per_user": 1 / max(1, self.fleet.users)}[kind]
        return [(pages, rate * (of_all if pages.page == "dashboard" else of_one)) for pages in self.pages]

    def check(self) -> None:
        """Raise `BadInput` where keys contradict each other, so that no program can do what the scenario says."""
        for i, pages in enumerate(self.pages):
            if isinstance(self.policy_of(pages), FullPayload) and self.broadcast.payload != "full" and pages.page != "task":
                where = "policy" if pages.policy is None else f"pages[{i}].policy"
                raise BadInput(
                    f"scenario {self.name}: {where} = full_payload shows what the event carries, but broadcast.payload = "
                    f"{self.broadcast.payload!r} carries an id only (set broadcast.payload = 'full', or another policy)"
                )

    @property
    def length(self) -> float:
        """Seconds from the start of the run to its end."""
        return self.warmup + self.duration + sum(self.tail)

    def draw_updates(self, rng: Streams) -> Updates:
        """The workload's updates, from the run's start to the end of the cool-down. Raises `BadInput`.

        They are drawn for the whole length and then cut: so policies with and without a cool-down meet the same updates.
        """
        if not self.warmup + self.duration:
            return Updates.none()
        drawn = self.workload.updates(rng["workload"], self.length, self.fleet.servers, self.fleet.sites)
        return drawn[drawn.at < to_ns(np.array(self.length - self.tail[1]))]

    def policy_of(self, pages: Pages) -> Policy:
        if pages.policy is None and pages.page == "task":
            return FullPayload()
        return self.policy if pages.policy is None else pages.policy

    def in_flight_of(self, pages: Pages) -> InFlight:
        return self.in_flight if pages.in_flight is None else pages.in_flight

    def with_subscribers(self, total: int) -> Scenario:
        """The same mixture of pages, scaled to *total* subscribers (largest remainders get the odd ones)."""
        present = self.subscribers
        if present == 0:
            raise BadInput(f"scenario {self.name}: pages: no subscribers to scale to {total}")
        # Whole numbers, of any size: a float would lose the remainders of large ones.
        parts = [divmod(pages.subscribers * total, present) for pages in self.pages]
        counts = [count for count, _ in parts]
        by_remainder = sorted(range(len(parts)), key=lambda i: (-parts[i][1], i))
        for i in by_remainder[: total - sum(counts)]:
            counts[i] += 1
        pages = tuple(dataclasses.replace(p, subscribers=n) for p, n in zip(self.pages, counts, strict=True))
        return dataclasses.replace(self, pages=pages)

    def replace(self, changes: Mapping[str, Any]) -> Scenario:
        """A variant with dotted keys set: `{"policy.wait": 0.1, "pages.0.subscribers": 500}`; `pages[0]` is `pages.0`.

        Another `kind` keeps the members that it has as well. Raises `BadInput` for a key that no scenario has. A value is what
        TOML would hold.
        """
        tree = to_dict(self)
        for written, value in changes.items():
            *parents, last = re.sub(r"\[(\d+)\]", r".\1", written).split(".")
            try:
                node = _table(tree, parents)
                if last == "kind" and parents and isinstance(node, dict) and node.get("kind") != value:
                    kept = _members(self, parents, value)
                    for name in [name for name in node if kept is not None and name not in kept]:
                        del node[name]
                node[int(last) if isinstance(node, list) else last] = value
            except (KeyError, IndexError, ValueError, AttributeError) as error:
                raise BadInput(f"scenario {self.name}: no key {written!r}") from error
        return build(Scenario, tree, where=f"scenario {self.name}")


def _table(tree: Any, path: list[str]) -> Any:
    """The table or list at *path* of a plain tree; what is not set becomes a table. Raises `LookupError` and others."""
    for part in path:
        tree = tree[int(part)] if isinstance(tree, list) else tree.setdefault(part, {})
        if not isinstance(tree, dict | list):
            raise KeyError(part)
    return tree


def _members(scenario: Scenario, path: list[str], kind: str) -> set[str] | None:
    """Names of the members of the variant *kind* of what stands at *path*; None: there is no such variant."""
    owner: Any = scenario
    for part in path[:-1]:
        owner = owner[int(part)] if isinstance(owner, tuple) else getattr(owner, part, None)
    variants = typing.get_args(hints(typing.cast(type, type(owner))).get(path[-1])) if dataclasses.is_dataclass(owner) else ()
    found = [{f.name for f in dataclasses.fields(variant)} for variant in variants if getattr(variant, "kind", None) == kind]
    return found[0] | {"kind"} if found else None
