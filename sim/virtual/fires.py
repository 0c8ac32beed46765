"""When pages want to refetch, from what they hear: a function of nothing else, for every policy but `Polling` that rests.

The machine of the policy decides (`sim.policy`), driven as `sim.refetch` drives it; where its rule is known in one expression,
all fires of all pages at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.arrays import Array
from sim.clock import ns
from sim.policy import NEVER, Debounce, FullPayload, Immediate, Machine, Policy

NONE: Array = np.empty(0, np.int64)


class Cause(NamedTuple):
    """What decides which of two pages that fire at one instant is first, as in an event list: what was made earlier."""

    armed_at: int
    """Instant at which the timer that rings was started; `BY_CALL`: there is none, a notification is answered at once."""
    history: int
    """A hash of the instants at which timers were started, back to the notification that started the first: pages with the same
    history are in the order of these."""
    call: int
    """That notification, by its place among those of the page (0: it polls, and its timer was started when it opened)."""


BY_CALL = -1


class Fire(NamedTuple):
    at: int
    answered: int
    """Notifications that it answers."""
    cause: Cause | None
    """None: the timer rang at the very instant of a notification, so that it depends on which of these two was made earlier."""


def fires_of(policy: Policy, heard: Array, first: Array | None = None) -> tuple[Array, Array, Array]:
    """(instants at which *policy* wants a refetch, how many notifications each answers, a place in *heard* of the same page).

    *heard*: notifications, ns, those of a page sorted. *first*: places at which those of another page begin (None: all are of
    one). Each page's fires are sorted, and come after those of the page before.
    """
    if not heard.size or isinstance(policy, FullPayload):
        return NONE, NONE, NONE
    first = np.zeros(1, np.int64) if first is None else first
    match policy:
        case Immediate():
            return heard, np.ones_like(heard), np.arange(heard.size)
        case Debounce(leading=False, trailing=True, max_wait=None):
            # The timer rings before a notification of the same instant: a gap of exactly `wait` is silence.
            wait = ns(policy.wait)
            silent = np.append(heard[1:] - heard[:-1] >= wait, True)
            silent[first[1:] - 1] = True
            last = np.flatnonzero(silent)
            return heard[last] + wait, np.diff(last, prepend=-1), last
        case _:
            found = [
                (fire.at, fire.answered, start)
                for start, mine in zip(first.tolist(), np.split(heard, first[1:]), strict=True)
                for fire in drive(policy.machine(), mine.tolist())
            ]
            at, answered, place = np.array(found, np.int64).reshape(-1, 3).T
            return at, answered, place


def drive(machine: Machine, heard: list[int], until: int = NEVER) -> list[Fire]:
    """The fires of one page through instant *until*."""
    fires: list[Fire] = []
    unanswered = 0
    started: dict[int, Cause | None] = {} if heard else {machine.next_at: Cause(0, 0, 0)}
    """Timer's instant -> its first start: what was made earlier runs first."""
    for place, at in enumerate([*heard, until]):
        while machine.next_at <= at and machine.next_at != NEVER:
            instant = machine.next_at
            cause = None if instant == at and place < len(heard) else started.get(instant)
            if machine.ring(instant):
                fires.append(Fire(instant, unanswered, cause))
                unanswered = 0
            if machine.next_at == instant:
                started[instant] = None
            elif machine.next_at not in started:
                again = None if cause is None else Cause(instant, hash((cause.history, instant)), cause.call)
                started[machine.next_at] = again
        if place == len(heard):
            break
        before = machine.next_at
        unanswered += 1
        if machine.call(at):
            fires.append(Fire(at, unanswered, Cause(BY_CALL, 0, place)))
            unanswered = 0
        if machine.next_at != before and machine.next_at not in started:
            started[machine.next_at] = Cause(at, at, place)
    return fires
