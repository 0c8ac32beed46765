"""What changes, and when: updates, arrival processes, recorded traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Poisson:
    """Updates of random servers at `rate` per second in total."""

    kind: ClassVar[str] = "poisson"
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not self.rate >= 0:
            raise ValueError(f"rate must be >= 0 updates/s, got {self.rate!r}")


Workload = Poisson
