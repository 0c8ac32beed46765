"""The hot loops compiled, where Numba is installed (`pip install 'notify-refetch-workbench[fast]'`). Without it everything still works.

Compiled code is cached on disk beside this file: the first run on a machine pays about a second for each loop, later ones milliseconds.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

AVAILABLE = importlib.util.find_spec("numba") is not None
"""Is Numba installed? Tests set this to False to take the other road."""

_compiled: dict[str, Any] = {}


def serve(arrivals: Array, service: Array, free: Array) -> Array:
    """Begins of a first-come first-served queue (see `sim.virtual.queueing`). *free* must be a heap (sorted is); it is changed in place."""
    begins: Array = _loop(_serve)(arrivals, service, free)
    return begins


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
            if child + 1 < workers and free[child + 1] < free[child]:
                child += 1
            if free[child] >= end:
                break
            free[hole] = free[child]
            hole = child
        free[hole] = end
    return begins


def _loop(function: Any) -> Any:
    """*function* compiled, once a process; importing Numba costs a third of a second, so only when it is first used."""
    name = function.__name__
    if name not in _compiled:
        import numba

        _compiled[name] = numba.njit(function, cache=True, nogil=True)
    return _compiled[name]
