"""One page's refetches: its policy's machine, its in-flight rule, and the record of each refetch.

The time is an argument. A page runs on any `Scheduler` (virtual or real) and sends through a function that it is given, so the
simulator and the load test refetch by the same code.

Order at one instant: the policy's timers first, then notifications (see `sim.policy`). Instants given to the policy are those
at which things were due, never those at which a late clock comes to them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sim.clock import LONG_AGO, EventList, Lane, Scheduler, Timer, ns
from sim.policy import NEVER, DebounceMachine, InFlight, Machine, Policy, Polling, PollingMachine, SilentMachine

Abort = Callable[[], None]
"""Gives up a running request. Its server may do the work all the same."""


@dataclass(slots=True, eq=False)
class Refetch:
    """One refetch, from due to done. Instants in ns; -1: not yet, or never."""

    due_at: int
    """When the policy wanted it, jitter included."""
    answered: int
    """Notifications that it answers."""
    started_at: int = -1
    finished_at: int = -1
    version: int | None = None
    """Of the answer; None: no answer, or the application does not say."""
    status: int | None = None
    """HTTP status; None: no answer."""
    bytes: int = 0
    outcome: str = ""
    """applied, not_newer, superseded (by a newer one), cancelled (its page left), failed, running (the run ended first); empty
    until then."""


class Refetcher:
    """Decides when one page refetches, and what becomes of each answer.

    * *send(refetch)* must start the request now. It may return a function that aborts it. When the answer is there, or has
      failed, call `finished`; it may be called from within *send*.
    * *done(refetch)* is called exactly once for each refetch that was sent, with its outcome set.
    * *rng* draws jitter and the phase of polling; needed where the policy has jitter.
    * *timer_step* (ns): timers ring on multiples of it only, counted from *timer_phase*, as in a hidden tab (1 s, each tab with
      a phase of its own). 0: exactly.
    * a `Polling` page polls from its construction on: first at a random phase of the interval where there is *rng*, else
      after one interval. Its mode `cancel` and `rest` take precedence over *in_flight*.

    `version` is what the page shows; set it to what the page was loaded with (None: unknown).
    """

    __slots__ = (
        "_answered",
        "_armed_for",
        "_bounces",
        "_clock",
        "_done",
        "_jitter",
        "_lane",
        "_machine",
        "_next",
        "_post",
        "_rng",
        "_rule",
        "_running",
        "_send",
        "_timer_phase",
        "_timer_step",
        "_waiting",
        "alarm_at",
        "heard_at",
        "quiet_until",
        "unanswered",
        "version",
    )

    def __init__(
        self,
        policy: Policy,
        in_flight: InFlight,
        clock: Scheduler,
        send: Callable[[Refetch], Abort | None],
        done: Callable[[Refetch], None],
        rng: random.Random | None = None,
        timer_step: int = 0,
        timer_phase: int = 0,
    ) -> None:
        if policy.jitter and rng is None:
            raise ValueError(f"a {policy.kind} policy with jitter needs a random stream")
        self.version: int | None = None
        self._machine: Machine = policy.machine()
        self._bounces = isinstance(self._machine, DebounceMachine) and self._machine.max_wait is None
        self._rule: InFlight = in_flight
        self._clock = clock
        # Alarms are not cancelled, and mostly set in order, so a clock may have cheaper ways for them.
        self._post: Callable[..., Any] = getattr(clock, "post", clock.call_at)
        self._lane: Lane | None = None
        if isinstance(clock, EventList) and not timer_step:
            wait = self._machine.wait if isinstance(self._machine, DebounceMachine) and self._bounces else None
            self._lane = clock.lane(policy, Refetcher._rang, wait)
        self._send = send
        self._done = done
        self._rng = rng
        self._jitter = ns(policy.jitter)
        self._timer_step = timer_step
        self._timer_phase = timer_phase
        # Where nobody calls while its timer runs (`sim.clock.Listener`)
        self.quiet_until = self.heard_at = LONG_AGO
        self.unanswered = 0
        self.alarm_at = NEVER  # when the clock will ring us
        self._armed_for = NEVER  # the machine's instant that this is for
        self._waiting: dict[Refetch, Timer] = {}  # due, held back by jitter
        self._running: dict[Refetch, Abort | None] = {}
        self._next: Refetch | None = None  # single flight: the one re-run
        self._answered: Callable[[int], None] | None = None  # polling counts from the answer
        if isinstance(policy, Polling):
            self._open(policy)

    def notified(self, at: int) -> None:
        """A notification arrived at instant *at* (not later than now)."""
        if at < self.quiet_until:  # in a storm this is all that happens
            self.heard_at = at
            self.unanswered += 1
            return
        while self.alarm_at <= at:  # the clock is late: what was due before goes first
            self._rang(self.alarm_at)
        self.heard_at = at
        self.unanswered += 1
        if self._machine.call(at):
            self._policy_fires(at)
        if self._machine.next_at != self._armed_for:
            self._arm()

    def demand(self, at: int) -> None:
        """Refetch now, whatever the policy says (a reconnect, a click).

        It answers no notification: the policy's timers go on, and its own refetch will answer what is pending.
        """
        self._due(at, 0)

    def finished(
        self, refetch: Refetch, at: int, version: int | None, status: int | None, size: int, usable: bool = True
    ) -> None:
        """The answer to *refetch* is there (2xx, or 304: not modified), or it failed (any other status; None or 0: no answer; not
        *usable*: what came shows nothing). Ignored once it has an outcome.

        *version* None: the answer does not say; it is applied, and what the page shows is unknown from then on. Not so of a 304,
        which says that what the page shows is still so.
        """
        if refetch.outcome:
            return
        del self._running[refetch]
        refetch.finished_at = at
        refetch.version = version
        refetch.status = status or None
        refetch.bytes = size
        # A redirect leads to the login page, most likely.
        if not usable or not status or (status != 304 and not 200 <= status < 300):
            refetch.outcome = "failed"
        elif status == 304 if version is None else version == self.version:
            refetch.outcome = "not_newer"
        else:
            # Applied in the order of arrival: an older answer that comes late does overwrite a newer one.
            refetch.outcome = "applied"
            self.version = version
        self._done(refetch)
        again = self._next
        if again is not None and not self._running:
            self._next = None
            self._start(again)
        if self._answered is not None:
            self._answered(at)
            self._arm()

    def close(self) -> None:
        """The page leaves: what runs is aborted and `cancelled`; timers, and what was not sent, are forgotten."""
        self._end_all("cancelled")

    def stop(self) -> None:
        """The run ends while the page is open: as `close`, but what was sent is `running`, for nobody will know its end."""
        self._end_all("running")

    def _end_all(self, outcome: str) -> None:
        self.alarm_at, self.quiet_until = NEVER, LONG_AGO
        self._machine = SilentMachine()  # what still arrives is not heard
        self._answered, self._armed_for = None, NEVER
        for timer in self._waiting.values():
            timer.cancel()
        running, self._running = self._running, {}
        self._waiting, self._next = {}, None
        for abort in running.values():
            if abort is not None:
                abort()
        for refetch in running:
            self._end(refetch, outcome)

    @property
    def in_flight(self) -> int:
        """Requests that run now."""
        return len(self._running)

    # --- the policy's timer --------------------------------------------------------------------------------------------

    def _open(self, policy: Polling) -> None:
        assert isinstance(self._machine, PollingMachine)
        if policy.mode == "cancel":
            self._rule = "cancel"
        if policy.mode == "rest":
            self._answered = self._machine.answered
        interval = ns(policy.interval)
        phase = interval if self._rng is None else int(self._rng.random() * interval)
        self._machine.open(self._clock.now() + phase)
        self._arm()

    def _arm(self) -> None:
        """Let the clock ring when the machine wants it. What it was armed for before will find that it is not meant."""
        when = self._armed_for = self._machine.next_at
        if when != NEVER:
            if self._timer_step:
                when += (self._timer_phase - when) % self._timer_step
            if self._lane is None:
                self._post(when, self._rang, when)
            else:
                self._lane.post(when, self)
            if self._bounces:
                self.quiet_until = when
        self.alarm_at = when

    def _rang(self, when: int) -> None:
        """What was due is due at its own instant, however late it rings."""
        if when != self.alarm_at:
            return
        machine = self._machine
        if self._bounces:  # what was heard meanwhile
            machine.last_at, machine.pending = self.heard_at, self.unanswered > 0  # type: ignore[attr-defined]
        self.quiet_until = LONG_AGO
        if machine.ring(when):
            answered, self.unanswered = self.unanswered, 0
            self._due(self._armed_for if self._timer_step else when, answered)
        if machine.next_at != NEVER:
            self._arm()
        else:
            self.alarm_at = self._armed_for = NEVER

    # --- a refetch -----------------------------------------------------------------------------------------------------

    def _policy_fires(self, at: int) -> None:
        """The policy wants a refetch at instant *at*, for what has been notified since the one before."""
        answered, self.unanswered = self.unanswered, 0
        self._due(at, answered)

    def _due(self, at: int, answered: int) -> None:
        if self._jitter:
            assert self._rng is not None
            refetch = Refetch(at + int(self._rng.random() * self._jitter), answered)
            self._waiting[refetch] = self._clock.call_at(refetch.due_at, self._jittered, refetch)
        else:
            self._start(Refetch(at, answered))

    def _jittered(self, refetch: Refetch) -> None:
        del self._waiting[refetch]
        self._start(refetch)

    def _start(self, refetch: Refetch) -> None:
        running = self._running
        if running and self._rule != "overlap":
            if self._rule == "single_flight":
                if self._next is None:
                    self._next = refetch
                else:  # two that wait are one: it is due since the first
                    self._next.answered += refetch.answered
                return
            self._supersede()
            running = self._running
        refetch.started_at = self._clock.now()
        running[refetch] = None
        abort = self._send(refetch)
        if abort is not None and refetch in running:
            running[refetch] = abort

    def _supersede(self) -> None:
        """Abort what runs (one at most); what it would have shown, the newer one will."""
        running, self._running = self._running, {}
        for refetch, abort in running.items():
            if abort is not None:
                abort()
            self._end(refetch, "superseded")

    def _end(self, refetch: Refetch, outcome: str) -> None:
        if not refetch.outcome:
            refetch.outcome = outcome
            self._done(refetch)
