"""The open-loop publisher: updates leave at their intended times, whatever the target does.

A slow target does not slow the publisher down: when every kept connection is busy another one is opened, up to `LIMIT`. What
waits all the same is an update whose predecessor *of the same resource* is not answered yet: a server cannot complete a step
before it has begun it, and two requests at once arrive in either order. Every row carries the intended time, the time from
which it could be sent, and the time at which it was; latencies count from the first. A failure is a row as well.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from sim.clock import SECOND
from sim.errors import one_line
from sim.live.client import HttpAnswer, HttpConnection
from sim.live.drive.requests import Receipt, Via
from sim.workload import IN_ORDER, Resource, Update

READY = "ready"
"""What the publisher's process says when it has everything loaded and waits to be told the run's zero."""

LIMIT = 512
"""Connections at most: `select` watches 1,024 descriptors."""

GRACE = 1.0
"""Seconds for answers that are outstanding when the publisher is stopped."""

NAP = 0.2
"""Seconds at most that a waiting publisher sleeps before it looks whether it was stopped."""

FLUSH = 0.05
"""Seconds between two batches of rows: what a publisher that is killed has not written yet."""

NO_ANSWER = "stopped before the answer"
NO_TURN = "due and never sent: the publisher came too late"
HELD_BACK = "due and never sent: it waited for the change before it, or for a connection"

REFUSAL_LENGTH = 120
"""Characters of what the application says of a change that it refuses."""

UNSURE = (500, 502, 504)
"""HTTP statuses after which the change may be committed all the same: what failed came later, or sat in between."""

AWAKE = 300_000
"""Nanoseconds before an update for which the loop stays awake: a sleep that ends on time costs less than one that is late."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One update as it happened. Instants in ns since 1970."""

    update: int
    """Serial within the run; the header `X-Workbench-Update` carries it."""
    resource: Resource
    resource_id: int
    intended_at: int
    ready_at: int
    """When it could be sent: intended, or when its predecessor was answered. From here to `started_at` the publisher was late."""
    started_at: int
    finished_at: int | None
    """When the answer was complete, or given up; None: not yet."""
    http_status: int | None
    """None: no answer came, `reason` says why."""
    reason: str
    receipt: Receipt
    channels: tuple[str, ...] = ()
    """On which its event is broadcast."""
    reached: bool = True
    """Whether the request left this process: what could not even connect has certainly changed nothing."""

    @property
    def status(self) -> str:
        """The word of the bundle's `updates` table; `unchanged` rows do not go there, as nothing was updated."""
        if self.http_status is None:
            return "unknown" if self.reached else "failed"
        if not 200 <= self.http_status < 300:
            # A redirect may lead back to the page (changed) or to the login (not).
            return "unknown" if self.http_status in UNSURE or 300 <= self.http_status < 400 else "failed"
        if self.receipt.refused:
            return "failed"
        if self.receipt.changed is False:
            return "unchanged"
        return "committed" if self.receipt.broadcast else "not_broadcast"

    @property
    def failure(self) -> str:
        """Why there was no success: the reason, or the HTTP status and what the application says; empty for a success."""
        if self.http_status is not None and 200 <= self.http_status < 300:
            return self.receipt.refused
        words = one_line(self.receipt.refused)[:REFUSAL_LENGTH]
        return self.reason or f"HTTP {self.http_status}" + (f" ({words})" if words else "")


class OpenLoopPublisher:
    """Sends a sequence of updates, each `at_ns` after *epoch* (ns since 1970), over keep-alive connections."""

    def __init__(
        self,
        via: Via,
        epoch: int,
        connections: int = 8,
        timeout: float = 10.0,
        write: Callable[[Sequence[Sent]], object] = lambda rows: None,
    ) -> None:
        """*write*(rows) is called every `FLUSH` seconds with the updates sent and with those answered since, so that they outlive
        this process: of an update the last row counts."""
        self.sent: list[Sent] = []
        self._write = write
        self._unwritten: list[Sent] = []
        self._via = via
        # Instants of the plan are turned into the monotonic clock once: a step of the wall clock must not shift the load.
        self._epoch = epoch
        self._monotonic = time.monotonic_ns() - time.time_ns()
        self._timeout = timeout
        self._idle = deque(HttpConnection(via.origin, timeout) for _ in range(connections))
        self._free = asyncio.Semaphore(LIMIT)
        self._stopped = asyncio.Event()
        self._stopped_at = 0
        self._error: BaseException | None = None

    def stop(self) -> None:
        """No more updates; `run` returns once those under way are answered."""
        self._stopped_at = self._stopped_at or time.monotonic_ns() - self._monotonic
        self._stopped.set()

    async def run(self, updates: Iterable[Update], progress: Callable[[], Any] = lambda: None) -> list[Sent]:
        """Send all, wait for the answers, and return the rows in the order of the updates.

        Raises `BadInput` when the plan asks for a change that the target's users cannot make.
        """
        # Connected before the first update is due. A connection that fails now fails again in the rows.
        await asyncio.gather(*(connection.connect() for connection in self._idle))
        flushing = asyncio.create_task(self._flush_often())
        try:
            await self._send_all(updates, progress)
        finally:
            flushing.cancel()
            self._flush()
        if self._error is not None:
            raise self._error
        for connection in self._idle:
            connection.close()
        self.sent.sort(key=lambda row: row.update)
        return self.sent

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(FLUSH)
            self._flush()

    def _flush(self) -> None:
        rows, self._unwritten = self._unwritten, []
        if rows:
            self._write(rows)

    async def _send_all(self, updates: Iterable[Update], progress: Callable[[], Any]) -> None:
        tasks: set[asyncio.Task[Sent]] = set()
        latest: dict[tuple[str, int], asyncio.Task[Sent]] = {}
        plan = enumerate(updates)
        for serial, update in plan:
            if not await self._wait_until(self._epoch + update.at_ns):
                self._leave(chain([(serial, update)], plan))
                break
            resource = update.resource, update.resource_id
            task = asyncio.create_task(self._send(serial, update, latest.get(resource) if self._via.ordered else None))
            latest[resource] = task
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(self._note)
            progress()
        await self._settle(tasks)

    def _leave(self, plan: Iterable[tuple[int, Update]]) -> None:
        """Of the rest of the plan, what was due before the stop is a row too: it was wanted, and did not happen."""
        for serial, update in plan:
            intended_at = self._epoch + update.at_ns
            if intended_at >= self._stopped_at:
                break
            self._keep(self._unsent(serial, update, intended_at, intended_at, NO_TURN))

    async def _settle(self, tasks: set[asyncio.Task[Sent]]) -> None:
        """Until all are answered; once stopped, for `GRACE` more, then what is unanswered is given up."""
        answered = asyncio.gather(*tasks)
        stopped = asyncio.create_task(self._stopped.wait())
        either: tuple[asyncio.Future[Any], ...] = (answered, stopped)
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not answered.done():
            await asyncio.wait([answered], timeout=GRACE)
            for task in tuple(tasks):
                task.cancel()
        await asyncio.gather(answered, return_exceptions=True)

    def _note(self, task: asyncio.Task[Sent]) -> None:
        """A failure of the target is a row; an exception is a plan that cannot be carried out at all."""
        if (error := task.exception()) is not None:
            self._error = error
            self.stop()
        else:
            self._keep(task.result())

    def _keep(self, row: Sent) -> None:
        self.sent.append(row)
        self._unwritten.append(row)

    async def _wait_until(self, at: int) -> bool:
        """Sleep until instant *at*; False when stopped."""
        due = at + self._monotonic
        while (ahead := due - time.monotonic_ns()) > 0 and not self._stopped.is_set():
            # In short sleeps: looking at a flag costs less than waiting for the clock and for the signal at once.
            await asyncio.sleep(min(max(ahead - AWAKE, 0) / SECOND, NAP))
        return not self._stopped.is_set()

    async def _send(self, serial: int, update: Update, predecessor: asyncio.Task[Sent] | None) -> Sent:
        """One update to its end."""
        intended_at = ready_at = self._epoch + update.at_ns
        row, answer = None, HttpAnswer(0, NO_ANSWER)
        try:
            if predecessor is not None and not predecessor.done():
                await asyncio.wait([predecessor], timeout=IN_ORDER)
                before = predecessor.result().finished_at if predecessor.done() else time.time_ns()
                ready_at = max(intended_at, before or 0)
            async with self._free:
                row = self._begin(serial, update, intended_at, ready_at)
                connection = self._idle.pop() if self._idle else HttpConnection(self._via.origin, self._timeout)
                answer = HttpAnswer(0, NO_ANSWER, started_at=row.started_at)
                answer = await connection.request(*self._via.request(serial, update, intended_at, row.started_at))
                self._idle.append(connection)
        except asyncio.CancelledError:
            pass  # `run` has given it up; the row says so.
        if row is None:
            return self._unsent(serial, update, intended_at, time.time_ns(), HELD_BACK)
        return replace(
            row,
            finished_at=answer.finished_at or time.time_ns(),
            http_status=answer.status or None,
            reason=answer.reason,
            receipt=self._via.receipt(answer),
            reached=answer.started_at > 0,
        )

    def _unsent(self, serial: int, update: Update, intended_at: int, ready_at: int, reason: str) -> Sent:
        """The row of an update that never left this process."""
        return replace(self._begin(serial, update, intended_at, ready_at), reason=reason, reached=False)

    def _begin(self, serial: int, update: Update, intended_at: int, ready_at: int) -> Sent:
        """The row of an update that is sent now. It is written before there is an answer: should this process be killed
        meanwhile, the change may have been made all the same."""
        via = self._via
        row = Sent(
            update=serial,
            resource=update.resource,
            resource_id=via.resource_id(update),
            intended_at=intended_at,
            ready_at=ready_at,
            started_at=time.time_ns(),
            finished_at=None,
            http_status=None,
            reason=NO_ANSWER,
            receipt=Receipt(),
            channels=tuple(via.channels(update)),
        )
        self._unwritten.append(row)
        return row


def event_loop() -> asyncio.AbstractEventLoop:
    """A loop whose sleeps end on time: `select` takes microseconds where `epoll` rounds up to whole milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())
