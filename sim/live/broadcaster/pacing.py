"""A broadcaster that takes the time of another one (`settings.Timing`): for teams whose server is not as fast as this one.

Laravel Reverb is one loop that does one thing after the other: it composes the frames of an event for all subscribers, then
writes them to one socket after the other, and serves nobody else meanwhile. `Pacing` holds the loop for that long. It sleeps
and does not compute, so that on one machine the subscribers' side has the processor; the instants are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sim.live.broadcaster.settings import Timing
from sim.pusher.http import HttpResponse
from sim.pusher.server.api import Respond
from sim.pusher.server.outbox import Outbox

GRAIN = 0.0001
"""Seconds: the loop is not held for less, as a sleep is not shorter than about half of this."""


class Pacing:
    """The loop's time, event by event."""

    def __init__(
        self,
        timing: Timing,
        outbox: Outbox,
        now: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.timing = timing
        self._outbox = outbox
        self._now, self._sleep = now, sleep
        self._due = 0.0
        """Until when the loop is held."""
        self._answers: list[Callable[[], None]] = []

    def publish(self, serve: Callable[[Respond], None], respond: Respond) -> None:
        """Let *serve* answer a request, and take the time that composing the frames needs which it has published."""
        taken, made = self._outbox.taken, list[HttpResponse]()
        composing = True

        def answer(response: HttpResponse) -> None:
            made.append(response) if composing else respond(response)

        self._begin()
        serve(answer)
        composing = False
        frames = self._outbox.taken - taken
        if frames:
            self._hold(self.timing.fixed + frames * self.timing.compose_per_subscriber)
        for response in made:
            if frames and self.timing.answer == "after":
                self._answers.append(lambda response=response: respond(response))  # type: ignore[misc]
            else:
                respond(response)

    def flush(self) -> None:
        """Make all writes that wait, each in its time; then answer their publishers."""
        each = self.timing.per_subscriber
        self._begin()
        waiting = True
        while waiting:
            before = self._outbox.writes
            waiting = self._outbox.flush(max(1, round(GRAIN / each)) if each > 0 else 1 << 30)
            self._hold((self._outbox.writes - before) * each)
        answers, self._answers = self._answers, []
        for answer in answers:
            answer()

    def _begin(self) -> None:
        self._due = max(self._due, self._now())

    def _hold(self, seconds: float) -> None:
        """Take up *seconds* more; what was computed since the last time counts into them."""
        self._due += seconds
        if (left := self._due - self._now()) >= GRAIN:
            self._sleep(left)
