"""The embedded queue: threads that take jobs from this process's memory. (`redis_queue` is the one that processes share.)

A queue that is closed finishes the job in hand; jobs that still wait are dropped with the process.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable

from sim.brokeforge.broadcasting.dispatcher import BroadcastEvent

log = logging.getLogger("queue")

Work = Callable[[BroadcastEvent], object]


def start_workers(number: int, run: Callable[[Work], None], work: Work) -> list[threading.Thread]:
    """*number* threads of a queue, each in *run(work)* from now on."""
    threads = [threading.Thread(target=run, args=(work,), name=f"queue-worker-{n}", daemon=True) for n in range(number)]
    for thread in threads:
        thread.start()
    return threads


class ThreadQueue:
    """An in-memory queue with *workers* threads."""

    def __init__(self, workers: int = 1) -> None:
        self._jobs: list[tuple[float, int, BroadcastEvent]] = []
        self._serial = 0
        self._changed = threading.Condition()
        self._closed = False
        self._workers = workers
        self._threads: list[threading.Thread] = []

    def start(self, work: Work) -> None:
        """Begin to work the jobs with *work*."""
        self._threads = start_workers(self._workers, self._run, work)

    def push(self, job: BroadcastEvent, delay: float) -> None:
        with self._changed:
            self._serial += 1
            heapq.heappush(self._jobs, (time.monotonic() + delay, self._serial, job))
            self._changed.notify()

    def __len__(self) -> int:
        return len(self._jobs)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=2.0)

    def _run(self, work: Work) -> None:
        while (job := self._take()) is not None:
            try:
                work(job)
            except Exception:
                log.exception("job %s", job.event.name)

    def _take(self) -> BroadcastEvent | None:
        """The next job whose time has come; None when the queue is closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if self._jobs and self._jobs[0][0] <= now:
                    return heapq.heappop(self._jobs)[2]
                self._changed.wait(self._jobs[0][0] - now if self._jobs else None)
            return None
