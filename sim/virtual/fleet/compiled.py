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

Served = tuple[Array, Array, Array, tuple[int, int, int, int], tuple[int, int]]


def serve(sent: Array, service: Array, free: Array, window: tuple[int, int], bits: int = 0, way: int = 0) -> Served:
    """A first-come first-served queue, see `sim.virtual.fleet.queueing`; *free* (sorted) is changed in place and sorted again.

    *sent*: sorted instants, each with a number (int32) in its lowest *bits*; they are left without it. A request takes *way* to
    the queue, and as long back. Returns (numbers, begins, instants of the answers; what is observed in the *window*: busy, count,
    waited, longest; the least and the largest instant of an answer).
    """
    found: Served = _loop(_serve)(sent, service, free, *window, bits, way)
    return found


def pack(shares: Array, most: float, earliest: Array, first: int, bits: int, into: Array) -> None:
    """Instants *earliest* + shares * most (ns), with the numbers *first*, first + 1, ... in their lowest *bits*."""
    if ENABLED:
        _loop(_pack)(shares, most, earliest, first, bits, into)
    else:
        into[:] = earliest + (shares * most).astype(np.int64) << bits | np.arange(first, first + shares.size)


def rearranged(values: Array, order: Array, other: Array) -> Array:
    """*values* (bytes) in the *order* of some members, in that of the *other*: 1.6 ns each, by NumPy's two steps 5."""
    found: Array = _loop(_rearranged)(values, order, other)
    return found


def count_steps(values: Array, kinds: Array, number: int, shift: int, first: int, size: int) -> tuple[Array, Array, Array, Array]:
    """Per kind (uint8, below *number*): (counts, sum, least, largest) of *values* in *size* steps of 2**shift, counted from the
    *first* on."""
    found: tuple[Array, Array, Array, Array] = _loop(_count)(values, kinds, number, shift, first, size)
    return found


def _serve(sent: Array, service: Array, free: Array, start: int, stop: int, bits: int, way: int) -> Served:
    workers, few = free.size, free.size <= FEW
    held = np.empty(workers + 1, np.int64)
    held[:workers] = free
    held[workers] = 1 << 62
    order, begins, answers = np.empty(sent.size, np.int32), np.empty_like(sent), np.empty_like(sent)
    busy = count = waited = longest = 0
    least, largest = 1 << 62, -(1 << 62)
    for k in range(sent.size):
        order[k] = sent[k] & ((1 << bits) - 1)
        sent[k] >>= bits
        arrival = sent[k] + way
        begin = max(arrival, held[0])
        end = begin + service[k]
        if few:
            # The first leaves the sorted row, the end takes its place in it (see `queueing._in_step`): a few vector instructions.
            for i in range(workers):
                held[i] = min(held[i + 1], max(held[i], end))
        else:
            # A heap: sift down from the root.
            hole, child = 0, 1
            while child < workers:
                child += held[child + 1] < held[child]  # no branch: nobody could predict it
                if held[child] >= end:
                    break
                held[hole] = held[child]
                hole, child = child, 2 * child + 1
            held[hole] = end
        begins[k], answers[k] = begin, end + way
        least, largest = min(least, end + way), max(largest, end + way)
        inside = start <= arrival < stop
        count += inside
        waited += (begin - arrival) * inside
        longest = max(longest, (begin - arrival) * inside)
        busy += max(0, min(end, stop) - max(begin, start))
    free[:] = np.sort(held[:workers])
    return order, begins, answers, (busy, count, waited, longest), (least, largest)


def _pack(shares: Array, most: float, earliest: Array, first: int, bits: int, into: Array) -> None:
    for k in range(shares.size):
        into[k] = ((earliest[k] + np.int64(shares[k] * most)) << bits) | (first + k)


def _rearranged(values: Array, order: Array, other: Array) -> Array:
    by_member, found = np.empty_like(values), np.empty_like(values)
    for k in range(values.size):
        by_member[order[k]] = values[k]
    for k in range(values.size):
        found[k] = by_member[other[k]]
    return found


def _count(values: Array, kinds: Array, number: int, shift: int, first: int, size: int) -> tuple[Array, Array, Array, Array]:
    # Neighbours are often of one kind and step, and would wait for each other's sums: even and odd ones have their own.
    counts = np.zeros((number, 2, size), np.int64)
    total = np.zeros((number, 2), np.int64)
    least, largest = np.full((number, 2), 1 << 62), np.full((number, 2), -(1 << 62))
    for i in range(values.size):
        value, kind, turn = values[i], kinds[i], i & 1
        counts[kind, turn, (value >> shift) - first] += 1
        total[kind, turn] += value
        least[kind, turn] = min(least[kind, turn], value)
        largest[kind, turn] = max(largest[kind, turn], value)
    return (
        counts[:, 0] + counts[:, 1],
        total[:, 0] + total[:, 1],
        np.minimum(least[:, 0], least[:, 1]),
        np.maximum(largest[:, 0], largest[:, 1]),
    )


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
