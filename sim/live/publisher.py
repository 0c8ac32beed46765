"""The open-loop publisher: updates leave at their intended times, whatever the target does.

A slow target does not slow the publisher down: when every kept connection is busy another one is opened, up to `LIMIT`. Only
beyond that do updates wait, and then their lateness is on record, because every row carries the intended and the actual
time. A failure is a row as well.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sim.clock import SECOND
from sim.live.changes import Receipt, Via
from sim.live.client import Answer, Connection
from sim.workload import Update

LIMIT = 512
"""Connections at most: `select` watches 1,024 descriptors."""

LEAD = 300_000
"""Nanoseconds before an update for which the loop stays awake: a sleep that ends on time costs less than one that is late."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One update as it happened. Instants in ns since 1970; 0: not known or never."""

    update: int
    """Serial within the run; the header `X-Workbench-Update` carries it."""
    resource: Literal["server", "site"]
    resource_id: int
    intended_at: int
    started_at: int
    finished_at: int
    http_status: int
    """0: no answer came, `reason` says why."""
    reason: str
    receipt: Receipt

    @property
    def status(self) -> str:
        """The word of the bundle's `updates` table."""
        if not 200 <= self.http_status < 300:
            return "failed"
        return "committed" if self.receipt.broadcast else "not_broadcast"

    @property
    def failure(self) -> str:
        """Why it failed: the reason, or the HTTP status; empty for a success."""
        return "" if self.status != "failed" else self.reason or f"HTTP {self.http_status}"


class Publisher:
    """Sends a sequence of updates, each `at_ns` after *epoch* (ns since 1970), over keep-alive connections."""

    def __init__(self, via: Via, epoch: int, connections: int = 8, timeout: float = 10.0) -> None:
        self.sent: list[Sent] = []
        self._via = via
        # Instants of the plan are turned into the monotonic clock once: a step of the wall clock must not shift the load.
        self._epoch = epoch
        self._monotonic = time.monotonic_ns() - time.time_ns()
        self._timeout = timeout
        self._idle = deque(Connection(via.origin, timeout) for _ in range(connections))
        self._free = asyncio.Semaphore(LIMIT)
        self._stopped = asyncio.Event()
        self._error: BaseException | None = None

    def stop(self) -> None:
        """No more updates; `run` returns once those under way are answered."""
        self._stopped.set()

    async def run(self, updates: Iterable[Update], progress: Callable[[], Any] = lambda: None) -> list[Sent]:
        """Send all, wait for the answers, and return the rows in the order of the updates.

        Raises `BadInput` when the plan asks for a change that the target's users cannot make.
        """
        await self._warm_up()
        tasks: set[asyncio.Task[None]] = set()
        for serial, update in enumerate(updates):
            if not await self._wait_until(self._epoch + update.at_ns):
                break
            task = asyncio.create_task(self._send(serial, update))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(self._require_success)
            progress()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0 if self._stopped.is_set() else None)
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks)
        if self._error is not None:
            raise self._error
        for connection in self._idle:
            connection.close()
        self.sent.sort(key=lambda row: row.update)
        return self.sent

    def _require_success(self, task: asyncio.Task[None]) -> None:
        """A failure of the target is a row; an exception is a plan that cannot be carried out at all."""
        if not task.cancelled() and task.exception() is not None:
            self._error = task.exception()
            self.stop()

    async def _warm_up(self) -> None:
        """Connect before the first update is due. Who cannot connect now will say so in its rows."""
        await asyncio.gather(*(connection.connect() for connection in self._idle))

    async def _wait_until(self, at: int) -> bool:
        """Sleep until instant *at*; False when stopped."""
        due = at + self._monotonic
        ahead = due - time.monotonic_ns() - LEAD
        if ahead > 0:
            try:
                await asyncio.wait_for(self._stopped.wait(), ahead / SECOND)
            except TimeoutError:
                pass
        while time.monotonic_ns() < due and not self._stopped.is_set():
            await asyncio.sleep(0)
        return not self._stopped.is_set()

    async def _send(self, serial: int, update: Update) -> None:
        intended_at = self._epoch + update.at_ns
        async with self._free:
            connection = self._idle.pop() if self._idle else Connection(self._via.origin, self._timeout)
            started_at = time.time_ns()
            request = self._via.request(serial, update, intended_at, started_at)
            try:
                answer = await connection.request(*request)
            except asyncio.CancelledError:
                answer = Answer(0, "stopped before the answer", started_at=started_at, finished_at=time.time_ns())
            self._idle.append(connection)
        self.sent.append(
            Sent(
                update=serial,
                resource=update.resource,
                resource_id=self._via.resource_id(update),
                intended_at=intended_at,
                started_at=started_at,
                finished_at=answer.finished_at,
                http_status=answer.status,
                reason=answer.reason,
                receipt=self._via.receipt(answer),
            )
        )


def event_loop() -> asyncio.AbstractEventLoop:
    """A loop whose sleeps end on time: `select` takes microseconds where `epoll` rounds up to whole milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())
