"""The hot loops compiled, where Numba is installed (`pip install 'notify-refetch-workbench[fast]'`). Without it everything
still works.

Compiled code is cached on disk beside this file: the first run on a machine pays about a second for each loop, later ones
milliseconds.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

INSTALLED = importlib.util.find_spec("numba") is not None

ENABLED = False
"""Are the loops taken? Set by `prepare`; what they give is the same either way."""

WORTHWHILE = 3_000_000
"""Requests from which they pay for their start: importing Numba takes 0.7 s, NumPy and the standard library 0.05 to 0.23 us
each."""


def prepare(requests: int) -> None:
    """Take the compiled loops from now on if there is so much to do (and Numba is installed)."""
    global ENABLED
    ENABLED = ENABLED or (INSTALLED and requests >= WORTHWHILE)


FEW = 32
"""Workers up to which keeping all free times sorted is quicker than a heap: 16 take 7 ns for each request, a heap 14."""

_compiled: dict[str, Any] = {}


def serve(arrivals: Array, service: Array, free: Array) -> Array:
    """Begins of a first-come first-served queue, see `sim.virtual.fleet.queueing`.

    *free* must be a heap (a sorted array is one); it is changed in place.
    """
    begins: Array = _loop(_serve_few if free.size <= FEW else _serve)(arrivals, service, free)
    return begins


def count_steps(values: Array, kinds: Array, number: int, shift: int, first: int, size: int) -> tuple[Array, Array, Array, Array]:
    """Per kind (uint8, below *number*): (counts, sum, least, largest) of *values* in *size* steps of 2**shift, counted from the
    *first* on."""
    found: tuple[Array, Array, Array, Array] = _loop(_count)(values, kinds, number, shift, first, size)
    return found


def _serve(arrivals: Array, service: Array, free: Array) -> Array:
    workers = free.size
    begins = np.empty_like(arrivals)
    for k in range(arrivals.size):
        first = free[0]
        begin = arrivals[k] if arrivals[k] > first else first
        begins[k] = begin
        end = begin + service[k]
        # Sift down from the root.
        hole = 0
        while True:
            child = 2 * hole + 1
            if child >= workers:
                break
            if child + 1 < workers:
                child += free[child + 1] < free[child]  # no branch: nobody could predict it
            if free[child] >= end:
                break
            free[hole] = free[child]
            hole = child
        free[hole] = end
    return begins


def _serve_few(arrivals: Array, service: Array, free: Array) -> Array:
    workers = free.size
    held = np.empty(workers + 1, np.int64)
    held[:workers] = np.sort(free)
    held[workers] = 1 << 62
    begins = np.empty_like(arrivals)
    for k in range(arrivals.size):
        begin = max(arrivals[k], held[0])
        begins[k] = begin
        end = begin + service[k]
        # The first leaves the sorted row, the end takes its place in it (see `queueing._in_step`): a few vector instructions.
        for i in range(workers):
            held[i] = min(held[i + 1], max(held[i], end))
    free[:] = held[:workers]
    return begins


def _count(values: Array, kinds: Array, number: int, shift: int, first: int, size: int) -> tuple[Array, Array, Array, Array]:
    counts = np.zeros((number, size), np.int64)
    total = np.zeros(number, np.int64)
    least, largest = np.full(number, 1 << 62), np.full(number, -(1 << 62))
    for i in range(values.size):
        value, kind = values[i], kinds[i]
        counts[kind, (value >> shift) - first] += 1
        total[kind] += value
        least[kind] = min(least[kind], value)
        largest[kind] = max(largest[kind], value)
    return counts, total, least, largest


def _loop(function: Any) -> Any:
    """*function* compiled, once a process; importing Numba costs a third of a second, so only when it is first used."""
    name = function.__name__
    if name not in _compiled:
        import numba

        try:
            _compiled[name] = numba.njit(function, cache=True, nogil=True)
        except RuntimeError:  # a read-only checkout without a home: nowhere to keep it, so it is compiled each time
            _compiled[name] = numba.njit(function, nogil=True)
    return _compiled[name]
