"""Settings to choose from: a grid of policies, what well-known products do, and the words and lines of code that say the same.

Library words: `wait`, `leading`, `trailing`, `maxWait` are those of lodash and use-debounce. A *window* is their debounce with
`maxWait = wait`: the first notification opens it, one refetch ends it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from sim.policy import Debounce, FullPayload, Immediate, Policy, Polling, RateLimit, Throttle, Window
from sim.results.text import seconds
from sim.scenario import Pages, Scenario

WAITS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Seconds: what people set, from hardly noticed to hardly live."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting: the family whose curve it lies on, its words, and the policy."""

    family: str
    setting: str
    policy: Policy


def grid(waits: tuple[float, ...] = WAITS) -> Iterator[Choice]:
    """Every family over the same waits. Jitter is left out: it lowers peaks, it never makes a page fresher."""
    for wait in waits:
        words = seconds(wait)
        yield Choice("debounce", f"wait {words}", Debounce(wait=wait))
        for times in (2, 4):
            capped = Debounce(wait=wait, max_wait=times * wait)
            yield Choice(f"debounce, maxWait {times} × wait", f"wait {words}", capped)
        yield Choice("debounce, leading", f"wait {words}", Debounce(wait=wait, leading=True))
        yield Choice("window (maxWait = wait)", f"wait {words}", Window(wait=wait))
        yield Choice("throttle, leading", f"wait {words}", Throttle(wait=wait))
        yield Choice("polling", f"every {words}", Polling(interval=wait))


PRESETS: dict[str, tuple[Policy, str]] = {
    "the pattern's document": (Debounce(wait=0.5), "useDebouncedCallback(reload, 500)"),
    "no debounce": (Immediate(), "router.reload() in the listener"),
    "Turbo 8 page refresh": (Debounce(wait=0.15), "hotwired/turbo pull request 1099: refreshes debounced by 150 ms"),
    "lodash.throttle": (Throttle(wait=0.5, timing="lodash"), "throttle(reload, 500): leading and trailing"),
    "Hasura live query": (Polling(interval=1.0), "hasura/graphql-engine, live queries: multiplexed polling, 1 s"),
    "Inertia usePoll": (Polling(interval=2.0), "inertiajs.com, polling: usePoll(2000)"),
    "Livewire wire:poll": (Polling(interval=2.5), "livewire.laravel.com, wire:poll: every 2.5 s"),
}
"""Name -> (policy, where it is written)."""

ONLY = "{ only: ['servers'] }"
"""What of the page is fetched again."""


HEARD = {
    "dashboard": ("servers", "ServerUpdated"),
    "site": ("sites.{id}", "ServerSiteUpdated"),
    "task": ("tasks.{id}", "TaskCompleted"),
    "server": ("servers.{id}", "ServerUpdated"),
}
"""Resource of a page -> channel and event by which the pattern tells it of changes."""
ECHO = "App\\Events\\"
"""What Echo puts before the name of an event that begins with no dot."""


def snippet(policy: Policy, scenario: Scenario) -> str:
    """The policy as the React component of a page of *scenario* would write it: TypeScript, ready to paste."""
    reload = f"() => router.reload({ONLY})"
    if policy.jitter:
        reload = f"() => setTimeout({reload}, Math.random() * {_ms(policy.jitter)})"
    match policy:
        case Debounce():
            imports, body = "useDebouncedCallback", f"useDebouncedCallback({reload}, {_ms(policy.wait)}{_options(policy)})"
        case Window():
            body = f"useDebouncedCallback({reload}, {_ms(policy.wait)}, {{ maxWait: {_ms(policy.wait)} }})"
            imports = "useDebouncedCallback"
        case Throttle():
            imports, body = "useThrottledCallback", f"useThrottledCallback({reload}, {_ms(policy.wait)}{_options(policy)})"
        case RateLimit():
            imports, body = "useThrottledCallback", f"useThrottledCallback({reload}, {_ms(policy.wait)})"
        case Polling():
            return f"import {{ usePoll }} from '@inertiajs/react'\n\nusePoll({_ms(policy.interval)}, {ONLY})"
        case Immediate():
            return "import { useEcho } from '@laravel/echo-react'\nimport { router } from '@inertiajs/react'\n\n" + _listen(
                reload, scenario
            )
        case FullPayload():
            return _listen("(e) => setServer(e.server)", scenario)
        case _:
            return f"// {describe(policy)}: a timer of the page's own, no library has it"
    return (
        "import { useEcho } from '@laravel/echo-react'\nimport { router } from '@inertiajs/react'\n"
        f"import {{ {imports} }} from 'use-debounce'\n\nconst refetch = {body}\n{_listen('refetch', scenario)}"
    )


def _listen(callback: str, scenario: Scenario) -> str:
    """`useEcho` with the channel and event that a page of *scenario* hears of, a dashboard where there is one."""
    kinds = [pages for pages in scenario.pages if pages.subscribers]
    pages = max(kinds, key=lambda pages: pages.page == "dashboard", default=Pages(page="dashboard"))
    channel, event = HEARD[pages.resource]
    if pages.page == "dashboard" and scenario.broadcast.channels == "per_user":
        channel = "users.{user}.servers"
    if pages.channels:
        channel = pages.channels[0].removeprefix("private-")
    if pages.events:
        name = pages.events[0]
        event = name.removeprefix(ECHO).replace("\\", ".") if name.startswith(ECHO) else f".{name}"
    quoted = f"`{channel.replace('{', '${')}`" if "{" in channel else f"'{channel}'"
    return f"useEcho({quoted}, '{event}', {callback})"


def _options(policy: Debounce | Throttle) -> str:
    """The options that differ from the library's defaults."""
    default_leading = isinstance(policy, Throttle)
    words = []
    if policy.leading != default_leading:
        words.append(f"leading: {str(policy.leading).lower()}")
    if not policy.trailing:
        words.append("trailing: false")
    if isinstance(policy, Debounce) and policy.max_wait is not None:
        words.append(f"maxWait: {_ms(policy.max_wait)}")
    return f", {{ {', '.join(words)} }}" if words else ""


def _ms(duration: float) -> str:
    return f"{duration * 1000:g}"


SHARED = {"wait", "interval", "leading", "trailing", "max_wait", "timing", "mode", "jitter"}
"""Keys for which `describe` has words."""


def describe(policy: Any) -> str:
    """A policy in words: `debounce 500 ms, leading, maxWait 2 s`; a key that no other policy has, by its name."""
    words = [policy.kind.replace("_", " ")]
    for name, prefix in (("wait", ""), ("interval", "every ")):
        if hasattr(policy, name):
            words[0] += f" {prefix}{seconds(getattr(policy, name))}"
    if getattr(policy, "leading", False):
        words.append("leading" if getattr(policy, "trailing", True) else "leading only")
    if getattr(policy, "max_wait", None) is not None:
        words.append(f"maxWait {seconds(policy.max_wait)}")
    words += [f"{key.name.replace('_', ' ')} {getattr(policy, key.name)}" for key in fields(policy) if key.name not in SHARED]
    if getattr(policy, "jitter", 0.0):
        words.append(f"jitter {seconds(policy.jitter)}")
    return ", ".join(words)
