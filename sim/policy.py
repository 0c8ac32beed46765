"""When is a refetch due? One frozen value per answer (times in seconds, as a scenario writes them)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Timing = Literal["use-debounce", "lodash"]
"""Whose timers: use-debounce 10 / lodash.debounce 4.0.8, or lodash 4.17.21+ / 4.18. They differ only with max_wait."""


@dataclass(frozen=True, slots=True)
class Immediate:
    """Every notification is a refetch."""

    kind: ClassVar[str] = "immediate"
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Debounce:
    """lodash / use-debounce words: refetch after `wait` seconds of silence."""

    kind: ClassVar[str] = "debounce"
    wait: float = 0.5
    leading: bool = False
    trailing: bool = True
    max_wait: float | None = None
    timing: Timing = "use-debounce"
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not self.wait >= 0:
            raise ValueError(f"wait must be >= 0 s, got {self.wait!r}")


Policy = Immediate | Debounce
