"""Timers that ring on time: `sim.clock.Scheduler` on an asyncio loop.

uvloop counts whole milliseconds and asyncio rounds its sleeps up to them, which is as long as a refetch takes. So one descriptor
of the kernel's own timer (timerfd, Linux) is armed for the earliest entry and read by the loop; it rings within some 0.1 ms.
Elsewhere the loop's timers have to do.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from sim.clock import SECOND, Entry

_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class Alarm:
    """Runs callbacks at instants of `time.monotonic_ns()`, on *loop*'s thread. Called on that thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[int, int, Entry]] = []
        self._serial = 0
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._fd = -1 if self._libc is None else self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._fd >= 0:
            loop.add_reader(self._fd, self._ring)

    def now(self) -> int:
        return time.monotonic_ns()

    def call_at(self, when: int, callback: Callable[..., Any], *args: Any) -> Entry:
        entry = Entry(callback, args)
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, entry))
        if self._heap[0][2] is entry:
            self._arm(when)
        return entry

    def close(self) -> None:
        """Forget what has not rung."""
        self._heap.clear()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _arm(self, when: int) -> None:
        if self._fd < 0 or self._libc is None:
            self._loop.call_later(max(0, when - self.now()) / SECOND, self._ring)
            return
        # An interval of 0 (rings once), then the instant; the instant 0 would disarm.
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, struct.pack("4q", 0, 0, *divmod(max(when, 1), SECOND)), None)

    def _ring(self) -> None:
        if self._fd >= 0:
            try:
                os.read(self._fd, 8)
            except BlockingIOError:
                return  # re-armed for later since
        heap = self._heap
        while heap and heap[0][0] <= self.now():
            heapq.heappop(heap)[2].ring()
        if heap:
            self._arm(heap[0][0])
