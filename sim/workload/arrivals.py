"""Arrival processes: instants first, then the resources that change. Each is a frozen value; rates in updates per second.

All share three members. `rate` is the size, `per` says of what: `total` for the whole fleet, `server` for each server.
`site_share` is the share of the updates that change a site in place of a server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from sim.distributions import LONGEST, Distribution, Exponential
from sim.errors import BadInput
from sim.marks import Number, PerSecond, Share, Unit, above_zero, at_least, shares
from sim.workload.updates import ASPECTS, Updates, to_ns, walk

MOST = 100_000_000
"""Updates (or switches between on and off) that one draw may have: some 10 GB while it is sorted."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What all arrival processes share; not a workload by itself."""

    kind: ClassVar[str]
    per_server_draws: ClassVar[bool] = False
    """Whether `per = "server"` needs a process for each server (False: one process at the summed rate is the same)."""

    rate: PerSecond = 1.0
    """Updates per second (`mmpp`: a factor for `rates`; `heard`: for what was heard)."""
    per: Literal["total", "server"] = "total"
    """Whether the rate is that of the whole fleet or of each server."""
    site_share: Share = 0.0
    """Share of the updates that change a site in place of a server."""

    def __post_init__(self) -> None:
        at_least(0, self, "rate", unit=" updates/s")
        shares(self, "site_share")
        if self.per not in ("total", "server"):
            raise ValueError(f"per must be 'total' or 'server', got {self.per!r}")

    def intensity(self, duration: float) -> float:
        """Expected updates in the first *duration* seconds per unit of `rate` (so `duration`, where the rate is constant)."""
        return duration

    def instants(self, rng: np.random.Generator, scale: float, duration: float) -> np.ndarray:
        """Seconds in [0, duration), at *scale* times the process's rates, in any order: Poisson, where a kind does not say."""
        return _poisson(rng, scale * self.rate, duration)

    def expected(self, duration: float, servers: int, sites: int = 0) -> float:
        """Expected number of updates in *duration* seconds (long-run, for processes that switch on and off)."""
        return self.rate * self.intensity(duration) * (servers if self.per == "server" else 1)

    def updates(self, rng: np.random.Generator, duration: float, servers: int, sites: int = 0) -> Updates:
        """Draw the updates of *duration* seconds over servers 1..*servers* and sites 1..*sites*."""
        need_resources(self, servers, sites)
        when, which = rng.spawn(2)
        # What overflows lies beyond all durations, or is more than `refuse_too_many` allows.
        with np.errstate(over="ignore", invalid="ignore"):
            if self.per == "server" and self.per_server_draws:
                draws = [self.instants(child, 1.0, duration) for child in when.spawn(servers)]
                at = np.concatenate([np.empty(0), *draws])
                server = np.repeat(np.arange(1, servers + 1), [len(draw) for draw in draws])
            else:
                at = np.sort(self.instants(when, servers if self.per == "server" else 1.0, duration))
                server = self.choose(which, len(at), servers)
        on_site = which.random(len(at)) < self.site_share
        site = which.integers(1, sites + 1, len(at)) if sites else server
        return walk(to_ns(at), on_site, np.where(on_site, site, server))

    def choose(self, rng: np.random.Generator, size: int, servers: int) -> np.ndarray:
        """Which server each update hits: every one equally likely."""
        return rng.integers(1, servers + 1, size) if servers else np.ones(size, np.int64)


def need_resources(workload: Arrivals, servers: int, sites: int) -> None:
    """Raise `BadInput` where the workload would change what the fleet does not have."""
    if workload.rate > 0 and workload.site_share < 1 and servers < 1:
        raise BadInput(f"workload {workload.kind}: no servers to update (fleet.servers_per_user is 0; or site_share = 1)")
    if workload.rate > 0 and workload.site_share > 0 and sites < 1:
        raise BadInput(f"workload {workload.kind}: site_share is {workload.site_share} but no sites (fleet.sites_per_user is 0)")


@dataclass(frozen=True, slots=True)
class Poisson(Arrivals):
    """Independent updates at a constant mean rate: many users, each doing something now and then."""

    kind: ClassVar[str] = "poisson"


@dataclass(frozen=True, slots=True)
class Regular(Arrivals):
    """Updates at equal intervals, one server after the other; the first after one interval."""

    kind: ClassVar[str] = "constant"

    def instants(self, rng: np.random.Generator, scale: float, duration: float) -> np.ndarray:
        rate = scale * self.rate
        refuse_too_many(rate * duration)
        at = np.arange(1, int(rate * duration) + 1) / rate if rate else np.empty(0)
        return at[at < duration]

    def choose(self, rng: np.random.Generator, size: int, servers: int) -> np.ndarray:
        return np.arange(size) % max(servers, 1) + 1


@dataclass(frozen=True, slots=True)
class Bursty(Arrivals):
    """On and off in turns: Poisson at `rate` while on, at `off_rate` while off (0: silence).

    With exponential `on` and `off` this is the interrupted Poisson process. A run begins on or off by their long-run shares.
    """

    kind: ClassVar[str] = "bursty"
    per_server_draws: ClassVar[bool] = True

    rate: PerSecond = 10.0
    off_rate: PerSecond = 0.0
    """Updates per second between two bursts."""
    on: Distribution = field(default_factory=lambda: Exponential(2.0))
    """How long a burst lasts, seconds."""
    off: Distribution = field(default_factory=lambda: Exponential(8.0))
    """How long the time between two bursts lasts, seconds."""

    def __post_init__(self) -> None:
        super(Bursty, self).__post_init__()
        at_least(0, self, "off_rate", unit=" updates/s")
        if not self.on.mean() + self.off.mean() > 0:
            raise ValueError("on and off must not both be 0 s")

    def expected(self, duration: float, servers: int, sites: int = 0) -> float:
        on, off = self.on.mean(), self.off.mean()
        mean_rate = (self.rate * on + self.off_rate * off) / (on + off)
        return mean_rate * duration * (servers if self.per == "server" else 1)

    def instants(self, rng: np.random.Generator, scale: float, duration: float) -> np.ndarray:
        on, off = self.on.mean(), self.off.mean()
        first = int(rng.random() >= on / (on + off))
        refuse_too_many(duration / (on + off))
        # Enough pairs for the time with room to spare; draw on where chance wants more.
        length = np.empty(0)
        while length.sum() < duration:
            pairs = more(len(length), duration / (on + off))
            drawn = np.minimum(np.stack([self.on.sample(rng, pairs), self.off.sample(rng, pairs)], axis=1), duration)
            length = np.concatenate([length, (drawn if first == 0 else drawn[:, ::-1]).ravel()])
        rates = np.where((np.arange(len(length)) + first) % 2 == 0, self.rate, self.off_rate)
        return _piecewise(rng, length, scale * rates, duration)


@dataclass(frozen=True, slots=True)
class Mmpp(Arrivals):
    """Markov-modulated Poisson process: `rates[i]` for an exponential time of mean `dwell[i]`, then any other state.

    `rate` scales all of `rates`. Two states are an on/off process whose quiet time is not silent.
    """

    kind: ClassVar[str] = "mmpp"
    per_server_draws: ClassVar[bool] = True

    rates: Annotated[tuple[float, ...], Unit("1/s")] = (0.5, 20.0)
    """Updates per second in each state."""
    dwell: tuple[float, ...] = (30.0, 3.0)
    """Mean seconds in each state."""

    def __post_init__(self) -> None:
        super(Mmpp, self).__post_init__()
        if len(self.rates) != len(self.dwell) or len(self.rates) < 2:
            raise ValueError(f"rates and dwell must have one number per state, at least two, got {self.rates!r}, {self.dwell!r}")
        if not all(r >= 0 for r in self.rates):
            raise ValueError(f"rates must be >= 0 updates/s, got {self.rates!r}")
        if not all(0 < d <= LONGEST for d in self.dwell):
            raise ValueError(f"dwell must be > 0 s, got {self.dwell!r} (at most {LONGEST:g})")

    def intensity(self, duration: float) -> float:
        # Jumps go to any other state alike, so each state is visited equally often and its share of time is its dwell's.
        return duration * float(np.dot(self.rates, self.dwell) / np.sum(self.dwell))

    def instants(self, rng: np.random.Generator, scale: float, duration: float) -> np.ndarray:
        dwell, rates, n = np.asarray(self.dwell), np.asarray(self.rates), len(self.rates)
        state = int(rng.choice(n, p=dwell / dwell.sum()))
        refuse_too_many(duration / dwell.mean())
        states, length = np.empty(0, np.int64), np.empty(0)
        while length.sum() < duration:
            jumps = int(duration / dwell.mean()) + 8
            path = (state + np.concatenate([[0], np.cumsum(rng.integers(1, n, jumps))])) % n
            states, length = np.concatenate([states, path[:-1]]), np.concatenate([length, rng.exponential(dwell[path[:-1]])])
            state = int(path[-1])
        return _piecewise(rng, length, scale * self.rate * rates[states], duration)


@dataclass(frozen=True, slots=True)
class Diurnal(Arrivals):
    """Poisson whose rate swings about `rate` like a day: `rate * (1 + swing * cos(2 pi (t - peak) / period))`."""

    kind: ClassVar[str] = "diurnal"

    swing: Share = 0.8
    """0: no swing; 1: silent at night, twice the mean at the peak."""
    period: float = 86400.0
    """Seconds from one peak to the next."""
    peak: float = 43200.0
    """Instant of the (first) highest rate, seconds."""

    def __post_init__(self) -> None:
        super(Diurnal, self).__post_init__()
        shares(self, "swing", what="between 0 and 1")
        above_zero(self, "period", unit=" s")

    def intensity(self, duration: float) -> float:
        turn = 2 * np.pi / self.period
        return duration + self.swing / turn * float(np.sin(turn * (duration - self.peak)) + np.sin(turn * self.peak))

    def instants(self, rng: np.random.Generator, scale: float, duration: float) -> np.ndarray:
        highest = 1 + self.swing
        at = _poisson(rng, scale * self.rate * highest, duration)
        now = 1 + self.swing * np.cos(2 * np.pi * (at - self.peak) / self.period)
        return at[rng.random(len(at)) * highest < now]


@dataclass(frozen=True, slots=True)
class FlashCrowd(Arrivals):
    """Poisson at `rate`, until at `start` it climbs within `ramp` seconds to `factor` times that, holds, and decays."""

    kind: ClassVar[str] = "flash_crowd"

    factor: Number = 20.0
    """How many times `rate` the crowd is at its height."""
    start: float = 10.0
    """When it begins, seconds since the run's start."""
    ramp: float = 1.0
    """Seconds in which it climbs."""
    hold: float = 5.0
    """Seconds for which it stays."""
    decay: float = 5.0
    """Time constant of the return, seconds: what is in excess falls to 37 % in each."""

    def __post_init__(self) -> None:
        super(FlashCrowd, self).__post_init__()
        at_least(1, self, "factor")
        at_least(0, self, "start", "ramp", "hold", "decay", unit=" s")

    def excess(self, at: np.ndarray) -> np.ndarray:
        """Share of the excess that is there at instants *at*: 0 before, 1 while it holds."""
        since = np.asarray(at, float) - self.start
        rising = np.minimum(since / self.ramp, 1.0) if self.ramp else np.ones_like(since)
        left = since - self.ramp - self.hold
        falling = np.exp(-np.maximum(left, 0.0) / self.decay) if self.decay else np.where(left < 0, 1.0, 0.0)
        return np.where(since < 0, 0.0, rising * falling)

    def intensity(self, duration: float) -> float:
        since = max(duration - self.start, 0.0)
        rise = min(since, self.ramp)
        area = rise * rise / (2 * self.ramp) if self.ramp else 0.0
        area += min(max(since - self.ramp, 0.0), self.hold)
        if self.decay:
            area += self.decay * -np.expm1(-max(since - self.ramp - self.hold, 0.0) / self.decay)
        return duration + (self.factor - 1) * float(area)

    def instants(self, rng: np.random.Generator, scale: float, duration: float) -> np.ndarray:
        at = _poisson(rng, scale * self.rate * self.factor, duration)
        return at[rng.random(len(at)) * self.factor < 1 + (self.factor - 1) * self.excess(at)]


@dataclass(frozen=True, slots=True)
class Logs(Arrivals):
    """Log streaming: `rate` lines per second in the history of each of the first `servers` servers, as they come.

    `batch` lines arrive together, as a tail that reads a buffer delivers them; the mean rate stays the same.
    """

    kind: ClassVar[str] = "logs"

    rate: PerSecond = 30.0
    servers: int = 1
    """How many servers stream."""
    batch: int = 1
    """Lines that arrive together."""

    def __post_init__(self) -> None:
        super(Logs, self).__post_init__()
        at_least(1, self, "servers")
        if not 1 <= self.batch <= 10_000:
            raise ValueError(f"batch must be between 1 and 10,000, got {self.batch!r}")
        if self.per != "total" or self.site_share:
            raise ValueError("per and site_share do not apply to logs: rate is of each of the servers that stream")

    def expected(self, duration: float, servers: int, sites: int = 0) -> float:
        return self.rate * duration * min(self.servers, servers)

    def updates(self, rng: np.random.Generator, duration: float, servers: int, sites: int = 0) -> Updates:
        need_resources(self, servers, sites)
        streaming = min(self.servers, servers)
        refuse_too_many(self.rate * duration * streaming)
        read = _poisson(rng, self.rate / self.batch * streaming, duration)
        server = rng.integers(1, streaming + 1, len(read)) if streaming else np.empty(0, np.int64)
        return walk(to_ns(np.repeat(read, self.batch)), np.zeros(1), np.repeat(server, self.batch), ASPECTS.index("log"))


@dataclass(frozen=True, slots=True)
class Statuses(Arrivals):
    """Single statuses of servers that come and go: the connection, monitoring, the scheduler, the supervisor.

    Independent updates at a constant mean rate, each of a server and a status drawn at random, which moves on by one.
    """

    kind: ClassVar[str] = "statuses"

    of: tuple[Literal["connection", "monitoring", "scheduler", "supervisor"], ...] = (
        "connection",
        "monitoring",
        "scheduler",
        "supervisor",
    )
    """Which statuses change."""

    def __post_init__(self) -> None:
        super(Statuses, self).__post_init__()
        if not self.of:
            raise ValueError("of must name at least one status")
        if self.site_share:
            raise ValueError("site_share does not apply to statuses: they are servers'")

    def updates(self, rng: np.random.Generator, duration: float, servers: int, sites: int = 0) -> Updates:
        which = rng.spawn(1)[0]
        rows = super(Statuses, self).updates(rng, duration, servers, sites)
        aspect = np.array([ASPECTS.index(name) for name in self.of])[which.integers(0, len(self.of), len(rows))]
        return walk(rows.at, rows.resource, rows.resource_id, aspect)


@dataclass(frozen=True, slots=True)
class Instants:
    """Updates of one server at exactly these seconds: what a table of a page, or a test, wants to try."""

    kind: ClassVar[str] = "instants"

    at: tuple[float, ...] = (0.0,)
    """When the updates happen, seconds since the run's start."""
    server: int = 1
    """Which server changes, counted from 1."""

    def __post_init__(self) -> None:
        if not all(0 <= t < float("inf") for t in self.at):
            raise ValueError(f"at must be seconds >= 0, got {self.at!r}")
        at_least(1, self, "server")

    def expected(self, duration: float, servers: int, sites: int = 0) -> float:
        return float(sum(t < duration for t in self.at))

    def updates(self, rng: np.random.Generator, duration: float, servers: int, sites: int = 0) -> Updates:
        if self.at and self.server > servers:
            raise BadInput(f"workload instants: server {self.server} is not in the fleet of {servers}")
        at = np.array([t for t in self.at if t < duration])
        return walk(to_ns(at), np.zeros(1, np.int8), np.full(len(at), self.server))


def more(drawn: int, expected: float) -> int:
    """How many to draw next, where *expected* should do. As many again as are *drawn*, where these were far from enough: of a
    heavy tail nearly all are far below the mean. Raises `BadInput` where that never ends."""
    refuse_too_many(float(drawn))
    first = int(expected) + 8
    return first if drawn < 100 * first else drawn


def refuse_too_many(expected: float) -> None:
    """Raise `BadInput` before memory runs out, not by it."""
    if not expected <= MOST:
        raise BadInput(f"workload: about {expected:.3g} updates to draw, at most {MOST:,} are possible (lower rate or duration)")


def _poisson(rng: np.random.Generator, rate: float, duration: float) -> np.ndarray:
    """A Poisson process at a constant rate; instants in no order."""
    refuse_too_many(rate * duration)
    return rng.uniform(0.0, duration, rng.poisson(rate * duration))


def _piecewise(rng: np.random.Generator, length: np.ndarray, rates: np.ndarray, duration: float) -> np.ndarray:
    """A Poisson process whose rate is `rates[i]` for `length[i]` seconds, up to *duration*."""
    ends = np.minimum(np.cumsum(length), duration)
    starts = np.concatenate([[0.0], ends])[:-1]
    refuse_too_many(float(rates @ (ends - starts)))
    counts = rng.poisson(rates * (ends - starts))
    at = rng.uniform(np.repeat(starts, counts), np.repeat(ends, counts))
    # uniform(a, b) may round up to b
    return at[at < duration]
