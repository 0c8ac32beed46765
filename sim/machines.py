"""The running state of one page's policy: when is a refetch due?

A machine gets instants (integer nanoseconds) as arguments and says whether a refetch is due. It never waits and reads no clock.

    call(at)   a notification came at instant `at`     -> True: a refetch is due at once
    ring(at)   instant `next_at` has come              -> True: a refetch is due at once
    next_at    the next instant at which to ring it; `NEVER`: none

Tie rule: what is due at an instant rings before a notification of the same instant counts. (`sim.policy.fires` and the refetcher
keep to it; a machine takes any order, so that recordings with the other order can be replayed.)
"""

from __future__ import annotations

from typing import Literal, Protocol

Timing = Literal["use-debounce", "lodash"]
"""Whose timers: use-debounce 10 / lodash.debounce 4.0.8, or lodash 4.17.21+ / 4.18. They differ only with max_wait."""

NEVER = (1 << 63) - 1
_LONG_AGO = -(1 << 62)
_RUNG = NEVER - 1  # in the slot: a timer that has rung and was not taken out, as happens after unmount


class Machine(Protocol):
    """The running state of one page's policy. Instants are integer nanoseconds and do not decrease (a late clock may)."""

    next_at: int

    def call(self, at: int) -> bool: ...

    def ring(self, at: int) -> bool: ...


class ImmediateMachine:
    __slots__ = ("next_at",)

    def __init__(self) -> None:
        self.next_at = NEVER

    def call(self, at: int) -> bool:
        return True

    def ring(self, at: int) -> bool:
        return False


class SilentMachine:
    """Never wants a refetch."""

    __slots__ = ("next_at",)

    def __init__(self) -> None:
        self.next_at = NEVER

    def call(self, at: int) -> bool:
        return False

    def ring(self, at: int) -> bool:
        return False


class WindowMachine:
    __slots__ = ("next_at", "wait")

    def __init__(self, wait: int) -> None:
        self.wait = wait
        self.next_at = NEVER

    def call(self, at: int) -> bool:
        if self.next_at == NEVER:
            self.next_at = at + self.wait
        return False

    def ring(self, at: int) -> bool:
        self.next_at = NEVER
        return True


class RateLimitMachine:
    __slots__ = ("free_at", "next_at", "wait")

    def __init__(self, wait: int) -> None:
        self.wait = wait
        self.free_at = _LONG_AGO
        self.next_at = NEVER

    def call(self, at: int) -> bool:
        if self.next_at != NEVER:
            return False
        if at < self.free_at:
            self.next_at = self.free_at
            return False
        self.free_at = at + self.wait
        return True

    def ring(self, at: int) -> bool:
        self.next_at = NEVER
        self.free_at = at + self.wait
        return True


class PollingMachine:
    """Polls from `open(at)` on. With *rest*, only `answered(at)` starts the next interval."""

    __slots__ = ("interval", "next_at", "rest")

    def __init__(self, interval: int, rest: bool = False) -> None:
        self.interval = interval
        self.rest = rest
        self.next_at = NEVER

    def open(self, at: int) -> None:
        """The first poll is at instant *at*."""
        self.next_at = at

    def call(self, at: int) -> bool:
        return False

    def ring(self, at: int) -> bool:
        # As setInterval does: the next tick counts from when this one was due, and ticks that were slept through are dropped.
        missed = (at - self.next_at) // self.interval
        self.next_at = NEVER if self.rest else self.next_at + (missed + 1) * self.interval
        return True

    def answered(self, at: int) -> None:
        self.next_at = at + self.interval


class DebounceMachine:
    """lodash's and use-debounce's debounce, timer for timer.

    One timer at a time is *the* timer (`slot_at`); a library that starts a new one without clearing the old leaves a *stray*,
    which will ring as well. Any timer that rings fires when the page has been silent for `wait` (or unserved for `max_wait`),
    and else starts another for what is left of that. So a storm costs one timer per `wait`, not one per notification.

    While its timer runs and there is no `max_wait`, a call only sets `last_at` and `pending`, and a timer that rings before
    `last_at + wait` only moves `slot_at` and `next_at` there: an engine that drives many machines may do so without a call.

    Verified against recordings of the libraries (tests/data/debounce-vectors.json).
    """

    __slots__ = (
        "clears",
        "delay",
        "fired_at",
        "last_at",
        "leading",
        "max_wait",
        "mounted",
        "next_at",
        "pending",
        "slot_at",
        "strays",
        "trailing",
        "wait",
    )

    def __init__(
        self,
        wait: int,
        leading: bool = False,
        trailing: bool = True,
        max_wait: int | None = None,
        timing: Timing = "use-debounce",
    ) -> None:
        self.wait = wait
        self.leading = leading
        self.trailing = trailing
        self.max_wait = None if max_wait is None else max(max_wait, wait)
        self.clears = timing == "lodash"
        self.delay = max(wait, 0)
        """Of a timer that a call starts. JavaScript hosts make 1 ms of 0 where a timer starts a timer."""
        self.last_at = _LONG_AGO
        self.fired_at = _LONG_AGO
        """The last fire, or the start of the present series of calls."""
        self.pending = False
        """A call has come that no fire has taken."""
        self.slot_at = NEVER
        self.strays: list[int] = []
        self.next_at = NEVER
        self.mounted = True

    @property
    def is_pending(self) -> bool:
        """use-debounce's `isPending()`: the timer runs. True also after a leading fire that nothing followed."""
        return self.slot_at != NEVER

    def call(self, at: int) -> bool:
        last, self.last_at = self.last_at, at
        self.pending = True
        if self.slot_at == NEVER:
            if self.strays:
                self._start(at + self.delay)
            else:
                self.slot_at = self.next_at = at + self.delay
            if self.max_wait is None and not self.leading:
                return False
            if self._ripe(at, last):
                self.fired_at = at
                return self.leading and self._fire(at)
            return False
        # In a storm this is all that happens, but for the notification that comes when the page has been unserved for too long.
        if self.max_wait is None or not self._ripe(at, last):
            return False
        if self.clears:
            self.slot_at = NEVER
        self._start(at + self.delay)
        return self._fire(at)

    def ring(self, at: int) -> bool:
        """The timer of instant `next_at` rings (late, where *at* is later): *the* timer, or a stray.

            the page is    due at once                        the slot afterwards
            -----------    ---------------------------------  ------------------------------------------------------
            ripe           yes, if trailing and pending       empty
            not ripe       no                                 a timer for what is left of `wait`, or of `max_wait`
            unmounted      no                                 as it was; `_RUNG`, if its timer is the one that rings

        Where a stray rings on a mounted page, the timer that was in the slot becomes a stray.
        """
        rang = self.slot_at == self.next_at
        if not rang:
            self.strays.remove(self.next_at)
        if not self.mounted:
            self.slot_at = _RUNG if rang else self.slot_at
            self.next_at = min((*self.strays, self.slot_at if self.slot_at < _RUNG else NEVER))
            return False
        ripe = self._ripe(at, self.last_at)
        if rang:
            self.slot_at = NEVER
        else:
            self._vacate()
        self.next_at = min(self.strays) if self.strays else NEVER
        if ripe:
            return self._trailing_edge(at)
        deadline = self.last_at + self.wait
        if self.max_wait is not None:
            deadline = min(deadline, self.fired_at + self.max_wait)
        self._start(deadline)
        return False

    def flush(self, at: int) -> bool:
        """Fire what is pending now. Like the libraries', leaves the timer to ring for nothing (or for later calls)."""
        if self.slot_at == NEVER:
            return False
        self._vacate()
        return self._trailing_edge(at)

    def cancel(self) -> None:
        """Forget everything; the next call counts as the first."""
        self.slot_at = NEVER
        self.next_at = min(self.strays, default=NEVER)
        self.last_at = self.fired_at = _LONG_AGO
        self.pending = False

    def unmount(self, at: int, flush_on_exit: bool = False) -> bool:
        """The component goes (use-debounce): nothing fires any more, but for what *flush_on_exit* fires now."""
        fires = flush_on_exit and self.trailing and self.flush(at)
        self.mounted = False
        return fires

    def _ripe(self, at: int, last_at: int) -> bool:
        """Whether the page is due to fire, when the call before was at *last_at*."""
        if not self.mounted:
            return False
        since = at - last_at
        return since >= self.wait or since < 0 or (self.max_wait is not None and at - self.fired_at >= self.max_wait)

    def _start(self, when: int) -> None:
        """A new timer, which is *the* timer from now on. What was in the slot becomes a stray."""
        if self.slot_at != NEVER:
            self.strays.append(self.slot_at)
        self.slot_at = when
        self.next_at = min((when, *self.strays)) if self.strays else when

    def _vacate(self) -> None:
        """Empty the slot; a timer that still runs lives on as a stray."""
        if self.slot_at < _RUNG:
            self.strays.append(self.slot_at)
        self.slot_at = NEVER

    def _trailing_edge(self, at: int) -> bool:
        if self.trailing and self.pending:
            return self._fire(at)
        self.pending = False
        return False

    def _fire(self, at: int) -> bool:
        self.pending = False
        self.fired_at = at
        return True
