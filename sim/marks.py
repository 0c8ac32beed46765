"""What the type of a scenario's key says beside its type: the unit, and which program honours it.

    jitter: float = 0.0                                     a plain float is seconds
    hidden: Share = 0.0                                     other units have a name
    nodes: Annotated[int, simulator_only("...")] = 1        a load test refuses it, unless it is the default

`sim.scenario.keys` reads these marks; the reference, `workbench scenario --keys` and the refusal all come from there. What a
value may be is checked by the dataclass itself: `at_least`, `above_zero`, `shares`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

Program = Literal["simulator", "load test"]


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a number; empty: a pure number."""

    name: str


@dataclass(frozen=True, slots=True)
class Only:
    """The key is honoured by one program only."""

    program: Program
    because: str
    """Why, as the end of the sentence "... only, because"."""
    promise: bool = True
    """The other program refuses it when it is set. False: it decides how the program works, not what happens in the run, so
    that the other one may leave it out in silence."""
    values: tuple[Any, ...] = ()
    """Only these values; empty: any that is not the default."""

    def refuses(self, program: Program, value: Any) -> bool:
        """Whether *program* cannot honour *value*, which is not the default."""
        return self.promise and self.program != program and (not self.values or value in self.values)


def simulator_only(because: str, *, promise: bool = True, values: tuple[Any, ...] = ()) -> Only:
    """Virtual time honours it; the load test does not."""
    return Only("simulator", because, promise, values)


def load_test_only(because: str, *, promise: bool = True, values: tuple[Any, ...] = ()) -> Only:
    """The load test honours it; the simulator does not."""
    return Only("load test", because, promise, values)


def at_least(least: float, keys: Any, *names: str, unit: str = "") -> None:
    """Raise ValueError for the first of the named keys that is set and less than *least* (or NaN, or infinite)."""
    for name in names:
        value = getattr(keys, name)
        if value is not None and not least <= value < float("inf"):
            raise ValueError(f"{name} must be >= {least:g}{unit}, got {value!r}")


def above_zero(keys: Any, *names: str, unit: str = "") -> None:
    """Raise ValueError for the first of the named keys that is set and not above 0 (or NaN, or infinite)."""
    for name in names:
        value = getattr(keys, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} must be > 0{unit}, got {value!r}")


def shares(keys: Any, *names: str, what: str = "a share between 0 and 1") -> None:
    """Raise ValueError for the first of the named keys that is no share."""
    for name in names:
        if not 0 <= getattr(keys, name) <= 1:
            raise ValueError(f"{name} must be {what}, got {getattr(keys, name)!r}")


Share = Annotated[float, Unit("share, 0 to 1")]
Number = Annotated[float, Unit("")]
PerSecond = Annotated[float, Unit("1/s")]
PerMinute = Annotated[float, Unit("1/min")]
Bytes = Annotated[int, Unit("byte")]
