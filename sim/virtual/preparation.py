"""Before a run: which engines can make it, whether it is possible, how large it will be, and whether that fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import psutil

from sim.distributions import Constant
from sim.errors import BadInput
from sim.policy import FullPayload, Polling
from sim.scenario import Pages, Scenario
from sim.workload import ON_DASHBOARD, RESOURCES, Updates

Progress = Callable[[float], None]
"""Called with the share of the run that is done, 0 to 1."""

BYTES_PER_NOTIFICATION = 90
BYTES_PER_REFETCH = 270
BYTES_PER_PAGE = 2600
BYTES_PER_UPDATE = 400
"""Of peak resident memory, tables included; measured by benchmarks/reference.py --memory (of both ways, the larger)."""

SHARE = 0.8
"""Of the memory that is available, this much may be used."""


def check(scenario: Scenario) -> None:
    """Raise `BadInput` where keys contradict each other, or pages would show what the fleet does not have, or never stay."""
    scenario.check()
    for i, pages in enumerate(scenario.pages):
        where = f"scenario {scenario.name}: pages[{i}]"
        if not pages.subscribers:
            continue
        if pages.page == "site" and not scenario.fleet.sites:
            raise BadInput(f"{where} shows sites, but the fleet has none (set fleet.sites_per_user)")
        if pages.page not in ("site", "dashboard") and not scenario.fleet.servers:
            raise BadInput(f"{where} shows servers, but the fleet has none (set fleet.servers_per_user)")
        if pages.session is not None and not pages.session.mean() > 0:
            raise BadInput(f"{where}.session must have a mean > 0 s")


def supports(scenario: Scenario) -> list[str]:
    """What in *scenario* needs the reference engine, one reason each; empty: the fleet engine runs it, exactly."""
    broadcast, api, costs = scenario.broadcast, scenario.api, scenario.broadcaster.costs
    checks = [
        (costs.nagle, "broadcaster.nagle: a write waits for the acknowledgement of the one before"),
        (not costs.keep_alive, "broadcaster.keep_alive = false: each publish opens a connection"),
        (
            scenario.api.changes_need_workers,
            "api.save: changes wait for the workers that serve refetches (unless api.save_workers = 'own')",
        ),
        (bool(scenario.incidents), "incidents: connections, queues and pages react to them"),
        (broadcast.dispatch == "queued", "broadcast.dispatch = 'queued': workers wait for the broadcaster's answer"),
        (broadcast.debounce > 0, "broadcast.debounce: merged events are chosen while time passes"),
        (
            not isinstance(scenario.network.to_subscriber, Constant),
            "network.to_subscriber is random: each page hears its own instants",
        ),
        (api.queue_limit is not None, "api.queue_limit: refusals depend on the queue"),
        (api.rate_limit is not None, "api.rate_limit: refusals depend on each user's requests"),
        (api.cache > 0, "api.cache: an answer depends on the requests before it"),
        (api.retries > 0, "api.retries: a late answer causes more requests"),
    ]
    reasons = [reason for needed, reason in checks if needed]
    for i, pages in enumerate(scenario.pages):
        if not pages.subscribers:
            continue
        policy, rule = scenario.policy_of(pages), scenario.in_flight_of(pages)
        cancels = rule == "cancel" or (isinstance(policy, Polling) and policy.mode == "cancel")
        page_checks = [
            (pages.session is not None, "session: pages come and go"),
            (pages.hidden > 0, "hidden: timers ring on whole seconds, whatever the page's place"),
            (pages.behaviour != "good", f"behaviour = {pages.behaviour!r}"),
            (rule == "single_flight", "in_flight = 'single_flight': the next refetch waits for the answer"),
            (isinstance(policy, Polling) and policy.mode == "rest", "policy.mode = 'rest': the next poll waits for the answer"),
            (policy.jitter > 0 and cancels, "jitter with in_flight = 'cancel': refetches may start in another order"),
        ]
        reasons += [f"pages[{i}].{reason}" for needed, reason in page_checks if needed]
    return reasons


def expected_size(scenario: Scenario, updates: Updates) -> tuple[int, int]:
    """(notifications, refetches) of a run in which nothing goes wrong; refetches are an upper bound, where service times are
    constant."""
    notifications = refetches = 0
    horizon = scenario.length
    changes: dict[str, Counter[int]] = {
        name: Counter(updates.resource_id[updates.resource == i].tolist()) for i, name in enumerate(RESOURCES)
    }
    for pages in scenario.pages:
        heard = _heard(scenario, pages, changes)
        policy = scenario.policy_of(pages)
        if isinstance(policy, Polling):
            refetches += _polls(scenario, pages.subscribers, policy, horizon)
            continue
        notifications += heard
        if isinstance(policy, FullPayload):
            continue
        wait: float = getattr(policy, "wait", 0.0)
        # Two edges at most in each wait, and never more refetches than notifications.
        refetches += min(heard, round(pages.subscribers * (2 * horizon / wait + 2))) if wait else heard
    return notifications, refetches


def _polls(scenario: Scenario, pages: int, policy: Polling, horizon: float) -> int:
    """Polls of *pages* pages. One that rests between its polls waits for each answer, and answers take workers."""
    if policy.mode != "rest":
        return round(pages * (horizon / policy.interval + 1))
    service = scenario.api.service.mean()
    each = pages * (horizon / (policy.interval + service + 2 * scenario.network.to_api.mean()) + 1)
    return round(min(each, horizon * scenario.api.workers / service + pages) if service else each)


def _heard(scenario: Scenario, pages: Pages, changes: Mapping[str, Counter[int]]) -> int:
    """Notifications of one group of pages. *changes*: updates by resource and number."""
    kind, fleet = scenario.broadcast.channels, scenario.fleet
    if pages.page == "dashboard":
        everything = sum(changes[resource].total() for resource in ON_DASHBOARD)
        share = 1 / fleet.users if kind == "per_user" else 0 if kind == "specific" else 1
        return round(pages.subscribers * everything * share)
    if kind == "generic" and pages.resource in ON_DASHBOARD:
        return 0
    count = fleet.count(pages.resource)
    full, odd = divmod(pages.subscribers, count) if count else (0, 0)
    return sum(times * (full + (resource_id <= odd)) for resource_id, times in changes[pages.resource].items())


def check_memory(scenario: Scenario, updates: Updates) -> None:
    """Raise `BadInput` where the run would not fit into the memory that is available."""
    notifications, refetches = expected_size(scenario, updates)
    need = (
        notifications * BYTES_PER_NOTIFICATION
        + refetches * BYTES_PER_REFETCH
        + scenario.subscribers * BYTES_PER_PAGE
        + len(updates) * BYTES_PER_UPDATE
    )
    available = available_memory()
    if need > SHARE * available:
        raise BadInput(
            f"scenario {scenario.name}: {notifications:,} notifications and up to {refetches:,} refetches need about "
            f"{need / 1e9:.1f} GB, {available / 1e9:.1f} GB are available (lower duration, pages.*.subscribers or the workload's "
            "rate, or use the fleet engine)"
        )


def available_memory() -> int:
    """Bytes that can be had without swapping: those that are free, and those that caches would give back."""
    return int(psutil.virtual_memory().available)
