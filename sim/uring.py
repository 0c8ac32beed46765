"""Linux's io_uring by its system calls, where it may be used (containers often forbid it).

The layout of the two rings that kernel and process share is that of io_uring_setup(2) and <linux/io_uring.h>: requests of 64
bytes, completions of 16.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from array import array
from typing import Any

_SETUP, _ENTER, _REGISTER = 425, 426, 427
"""System calls, by the same numbers on every architecture."""
_REQUESTS_AT = 0x10000000
_SIZED = 1 << 3
WAIT = 1
"""Of `enter`: do what is due, and wait for it."""
_TIMED = 1 << 3
COUNTER = 0xFFFFFFFF


class Ring:
    """Of one process and thread. Heads and tails are places in `ring`, and count up to `COUNTER`."""

    def __init__(self, entries: int, room: int = 0, flags: int = 0, library: type[ctypes.CDLL] = ctypes.CDLL) -> None:
        """*room*: for completions (0: twice the entries). *library*: `PyDLL` where no call waits. Raises OSError where
        the system has none, or does not allow it."""
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._call: Any = library(None, use_errno=True).syscall
        self._waiting: Any = ctypes.CDLL(None).syscall
        # The seventh argument goes by the stack, where half of a word would be whatever was there.
        self._waiting.argtypes = [*[ctypes.c_long] * 5, ctypes.c_char_p, ctypes.c_size_t]
        parameters = ctypes.create_string_buffer(struct.pack("3I", entries, room, flags | (_SIZED if room else 0)), 120)
        self.descriptor = self._checked(self._call(_SETUP, entries, parameters))
        # Offsets in bytes: of head, tail, mask, entries, flags, dropped, array; of head, tail, mask, entries, overflow, list.
        sent, done = struct.unpack_from("7I", parameters, 40), struct.unpack_from("6I", parameters, 80)
        self.entries, self.room = struct.unpack_from("2I", parameters)
        size = max(sent[6] + 4 * self.entries, done[5] + 16 * self.room)
        self.ring = memoryview(mmap.mmap(self.descriptor, size)).cast("I")
        self.ring[sent[6] // 4 : sent[6] // 4 + self.entries] = memoryview(array("I", range(self.entries)))
        self.sent_head, self.sent_tail, self.done_head, self.done_tail = (at // 4 for at in (*sent[:2], *done[:2]))
        self.completions = self.ring.cast("B")[done[5] : done[5] + 16 * self.room]
        self.requests = memoryview(mmap.mmap(self.descriptor, 64 * self.entries, offset=_REQUESTS_AT))

    def enter(self, submit: int, least: int, flags: int = WAIT) -> int:
        """Hand in *submit* requests and, by *flags*, do what is due and wait until *least* are done; how many were taken, or a
        negative errno."""
        taken = self._call(_ENTER, self.descriptor, submit, least, flags, None, 0)
        return taken if taken >= 0 else -ctypes.get_errno()

    def rest(self, least: int, nanoseconds: int) -> None:
        """Wait until *least* are done, or until these nanoseconds are over; other threads may run meanwhile."""
        span = ctypes.create_string_buffer(struct.pack("qq", 0, nanoseconds))
        until = struct.pack("QIIQ", 0, 0, 0, ctypes.addressof(span))
        self._waiting(_ENTER, self.descriptor, 0, least, WAIT | _TIMED, until, len(until))

    def register(self, what: int, argument: Any, count: int = 1) -> None:
        """io_uring_register(2). Raises OSError."""
        self._checked(self._call(_REGISTER, self.descriptor, what, argument, count))

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    def close(self) -> None:
        os.close(self.descriptor)
