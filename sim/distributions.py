"""Durations as frozen values. `sample(rng, size)` gives float64 seconds; `mean()` is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same duration."""

    kind: ClassVar[str] = "constant"
    value: float = 0.0

    def __post_init__(self) -> None:
        if not self.value >= 0:
            raise ValueError(f"value must be a duration >= 0 s, got {self.value!r}")

    def mean(self) -> float:
        return self.value

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return np.full(size, self.value)


@dataclass(frozen=True, slots=True)
class Exponential:
    """Memoryless durations."""

    kind: ClassVar[str] = "exponential"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise ValueError(f"scale must be a mean duration >= 0 s, got {self.scale!r}")

    def mean(self) -> float:
        return self.scale

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.exponential(self.scale, size)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Skewed durations, given by their mean (s) and the standard deviation of the logarithm."""

    kind: ClassVar[str] = "lognormal"
    scale: float = 1.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale must be a mean duration > 0 s, got {self.scale!r}")
        if not self.sigma >= 0:
            raise ValueError(f"sigma must be >= 0, got {self.sigma!r}")

    def mean(self) -> float:
        return self.scale

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.lognormal(np.log(self.scale) - self.sigma**2 / 2, self.sigma, size)


Distribution = Constant | Exponential | Lognormal
