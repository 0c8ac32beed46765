"""Where the closed forms hold: argument checks, and one rule for scalars and arrays."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from sim.errors import BadInput

LARGEST = 1e60
"""Seconds, rates and counts end here, and (but for 0) at its inverse: squares and cubes of them still are float64 numbers."""


def positive(**values: float) -> None:
    """Raise `BadInput` unless each value is > 0 and within `LARGEST`."""
    for name, value in values.items():
        if not 1 / LARGEST <= value <= LARGEST:
            raise BadInput(f"{name} must be a finite number > 0 (1e-60 to 1e60), got {value!r}")


def not_negative(**values: float) -> None:
    """Raise `BadInput` unless each value is 0, or > 0 and within `LARGEST`."""
    for name, value in values.items():
        if value != 0 and not 1 / LARGEST <= value <= LARGEST:
            raise BadInput(f"{name} must be 0 or a finite number > 0 (1e-60 to 1e60), got {value!r}")


def share(**values: float) -> None:
    """Raise `BadInput` unless each value lies in [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise BadInput(f"{name} must be between 0 and 1, got {value!r}")


def whole(**values: float) -> None:
    """Raise `BadInput` unless each value is a whole number >= 1."""
    for name, value in values.items():
        if value != int(value) or value < 1:
            raise BadInput(f"{name} must be a whole number >= 1, got {value!r}")


def stable(utilisation: float, what: str) -> None:
    """Raise `BadInput` unless the queue has a stationary state."""
    if not utilisation < 1:
        raise BadInput(
            f"{what}: no stationary state at utilisation {utilisation:.4g} (must be < 1): add workers or lower the rate"
        )


def elementwise(function: Callable[..., float]) -> Callable[..., Any]:
    """Let a formula of plain numbers take arrays as well: they broadcast, and the result is a float64 array.

    Scalars go straight through and come back as `float`, so a single answer costs microseconds.
    """
    vectorized = np.vectorize(function, otypes=[float])

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(value, np.ndarray | list | tuple) for value in (*args, *kwargs.values())):
            return vectorized(*args, **kwargs)
        return function(*args, **kwargs)

    return call


# --- functions that lose all digits when written as in a book ----------------------------------------------------------


def exp(x: float) -> float:
    """e**x; infinite where a float64 ends (a page that starves for 1e308 s starves for ever)."""
    return math.exp(x) if x < 709.0 else math.inf


def expm1(x: float) -> float:
    """e**x - 1; infinite where a float64 ends."""
    return math.expm1(x) if x < 709.0 else math.inf


def power_series(coefficients: Iterable[float], x: float) -> float:
    """c[0] + c[1] x + c[2] x**2 ..."""
    total, power = 0.0, 1.0
    for coefficient in coefficients:
        total += coefficient * power
        power *= x
    return total


FACTORIALS = [math.factorial(n) for n in range(26)]


def exp_beyond_linear(x: float) -> float:
    """e**x - 1 - x without cancellation near 0."""
    if abs(x) < 0.5:
        return x * x * power_series((1 / f for f in FACTORIALS[2:22]), x)
    return expm1(x) - x
