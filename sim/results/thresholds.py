"""Pass or fail: the scenario's thresholds against a run's summary.

    [thresholds]
    time_to_fresh_ms = "p(99) < 1500"                 # _ms: in milliseconds; without, in seconds
    delivery_ratio   = "value >= 0.9999"
    samples          = "deliveries >= 10000"
    refetch_time_ms  = "p(50) < 20 and p(99) < 250 or abort"

A condition is `FIGURE OP NUMBER`, several are joined by `and`. FIGURE is `p(50)`, `p(95)`, `p(99)`, `mean`, `max` or `value`;
under `samples` it is the name of a count. `or abort` at the end lets a load test stop as soon as the condition fails for good.
A figure without samples fails: a run that saw nothing has shown nothing.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sim.errors import BadInput, did_you_mean

Summary = Mapping[str, Mapping[str, Any]]

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}

SAMPLES = {
    "deliveries": "deliveries.received",
    "updates": "updates",
    "refetches": "refetches",
}
"""What may be counted under `samples`, and the summary's name for it."""

NUMBER = r"[-+]?[\d_]*\.?\d+(?:[eE][-+]?\d+)?"
CONDITION = re.compile(rf"^(?P<figure>p\(\s*[\d.]+\s*\)|[a-z_.]+)\s*(?P<op><=|>=|==|!=|<|>)\s*(?P<limit>{NUMBER})$")
ABORT = re.compile(r"\s+or\s+abort\s*$")


@dataclass(frozen=True, slots=True)
class Threshold:
    """One condition on one figure."""

    metric: str
    """As written in the scenario."""
    condition: str
    """As written, without what it is joined to."""
    key: str
    """The summary's name of the figure."""
    scale: float
    """Summary value x scale = what the limit is compared with (1,000 for milliseconds)."""
    op: str
    limit: float
    abort: bool = False

    def __str__(self) -> str:
        return f"{self.metric}: {self.condition}"


@dataclass(frozen=True, slots=True)
class Check:
    """A threshold met by a summary."""

    threshold: Threshold
    value: float | None
    """In the threshold's unit; None: no samples, or infinite."""
    ok: bool

    @property
    def said(self) -> str:
        value = "no samples (or never reached)" if self.value is None else f"{self.value:.6g}"
        return f"{self.threshold} -> {value}: {'pass' if self.ok else 'FAIL'}"


def parse(metric: str, text: str) -> list[Threshold]:
    """The conditions of one line of a scenario. Raises `BadInput` that says what is allowed."""
    abort = ABORT.search(text) is not None
    return [_parse_one(metric, part.strip(), abort) for part in re.split(r"\s+and\s+|,", ABORT.sub("", text))]


def _parse_one(metric: str, text: str, abort: bool) -> Threshold:
    found = CONDITION.match(text)
    if found is None:
        raise BadInput(f"thresholds.{metric}: {text!r} must be FIGURE OP NUMBER, as 'p(99) < 1500' or 'value >= 0.999'")
    figure, limit = found["figure"].replace(" ", ""), float(found["limit"].replace("_", ""))
    base, scale = (metric.removesuffix("_ms"), 1000.0) if metric.endswith("_ms") else (metric, 1.0)
    if metric == "samples":
        if figure not in SAMPLES:
            raise BadInput(f"thresholds.samples: cannot count {figure!r}{did_you_mean(figure, SAMPLES)}")
        key = SAMPLES[figure]
    elif figure == "value":
        key = base
    elif figure in ("mean", "max"):
        key = f"{base}.{figure}"
    elif figure.startswith("p("):
        key = f"{base}.p{float(figure[2:-1]):g}"
    else:
        raise BadInput(f"thresholds.{metric}: no figure {figure!r} (known: p(50), p(95), p(99), mean, max, value)")
    return Threshold(metric, text, key, scale, found["op"], limit, abort)


def parse_all(thresholds: Mapping[str, str]) -> list[Threshold]:
    """All conditions of a scenario. Raises `BadInput`."""
    return [threshold for metric, text in thresholds.items() for threshold in parse(metric, text)]


def check(thresholds: Iterable[Threshold], summary: Summary) -> list[Check]:
    """Compare. Raises `BadInput` for a figure that this summary does not know."""
    return [_check_one(threshold, summary) for threshold in thresholds]


def _check_one(threshold: Threshold, summary: Summary) -> Check:
    if threshold.key not in summary:
        raise BadInput(f"thresholds.{threshold.metric}: this run has no {threshold.key!r}{did_you_mean(threshold.key, summary)}")
    figure = summary[threshold.key]
    if figure["value"] is None or figure.get("n") == 0:
        return Check(threshold, None, False)
    value = float(figure["value"]) * threshold.scale
    return Check(threshold, value, OPERATORS[threshold.op](value, threshold.limit))
