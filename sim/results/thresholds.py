"""Pass or fail: the scenario's thresholds against a run's summary.

    [thresholds]
    time_to_fresh_ms = "p(99) < 1500"                 # _ms: in milliseconds; without, in seconds
    delivery_ratio   = "value >= 0.9999"
    samples          = "deliveries >= 10000"
    refetch_time_ms  = "p(50) < 20 and p(99) < 250 or abort"

A condition is `FIGURE OP NUMBER`, several are joined by `and`. FIGURE is `p(N)` for any N between 0 and 100, `mean`, `max` or
`value`; under `samples` it is the name of a count. `or abort` at the end lets a load test stop as soon as the condition fails
for good. A figure without samples fails: a run that saw nothing has shown nothing. So does one that is *never*, whatever the
condition.
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
CONDITION = re.compile(rf"^(?P<figure>p\(\s*\d+\.?\d*\s*\)|[a-z_.]+)\s*(?P<op><=|>=|==|!=|<|>)\s*(?P<limit>{NUMBER})$")
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
    abort: bool

    def __str__(self) -> str:
        return f"{self.metric}: {self.condition}"


@dataclass(frozen=True, slots=True)
class Check:
    """A threshold met by a summary."""

    threshold: Threshold
    value: float | None
    """In the threshold's unit; None: no samples, or never."""
    ok: bool
    never: bool = False
    """The figure is longer than the run: it falls on what was never shown."""

    @property
    def got(self) -> str:
        """The value in its unit, with as many digits as it takes to see the verdict (0.99997 is not 1)."""
        if self.value is None:
            return "never" if self.never else "no samples"
        # Here and not above: pandas and SciPy, which a command's help need not wait for.
        from sim.results.text import digits, number, seconds, unit_of

        for count in range(3, 16):
            rounded = float(f"{self.value:.{count}g}")
            if OPERATORS[self.threshold.op](rounded, self.threshold.limit) == self.ok:
                break
        words = number(self.value) if self.value.is_integer() else digits(rounded, count)
        unit = "ms" if self.threshold.scale != 1 else "s"
        return f"{words} {unit}" if unit_of(self.threshold.key) is seconds else words

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"threshold": str(self.threshold), "value": self.value, "never": self.never, "ok": self.ok}

    @property
    def text(self) -> str:
        return f"{self.threshold} -> {self.got}: {'pass' if self.ok else 'FAIL'}"


def parse(metric: str, text: str) -> list[Threshold]:
    """The conditions of one line of a scenario. Raises `BadInput` that says what is allowed, with the nearest name."""
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
        raise BadInput(f"thresholds.{metric}: no figure {figure!r} (known: p(50), p(99.9), mean, max, value)")
    _require_known(metric, base, figure, key)
    return Threshold(metric, text, key, scale, found["op"], limit, abort)


def _require_known(metric: str, base: str, figure: str, key: str) -> None:
    """Raise `BadInput` where no run has such a figure."""
    # Here and not above: the summary draws in pandas and SciPy, which a command's help need not wait for.
    from sim.results.summary import DESCRIPTIONS, metric_of

    known = metric_of(key)
    if known is None:
        family = DESCRIPTIONS.get(base)
        if family is not None and family.figures:
            raise BadInput(
                f"thresholds.{metric}: {base} has no {figure!r} (known: p(50), p(99.9), {', '.join(family.figures[-2:])})"
            )
        if family is not None:
            raise BadInput(f"thresholds.{metric}: {base} is one figure: write 'value', not {figure!r}")
        raise BadInput(f"thresholds.{metric}: no such metric{did_you_mean(base, ['samples', *DESCRIPTIONS])}")
    if metric.endswith("_ms") and known.unit != "s":
        raise BadInput(f"thresholds.{metric}: {base} is no time: leave _ms away")


def parse_all(thresholds: Mapping[str, str]) -> list[Threshold]:
    """All conditions of a scenario. Raises `BadInput` for one that is malformed, or for a figure that no run has."""
    return [threshold for metric, text in thresholds.items() for threshold in parse(metric, text)]


def check(thresholds: Iterable[Threshold], summary: Summary) -> list[Check]:
    """Compare. A figure that this summary does not have counts as one without samples.

    A percentile that it lacks can be had from the bundle: `complete`.
    """
    return [_check_one(threshold, summary) for threshold in thresholds]


def _check_one(threshold: Threshold, summary: Summary) -> Check:
    figure = summary.get(threshold.key, {"value": None})
    if figure.get("never"):
        return Check(threshold, None, False, never=True)
    if figure["value"] is None or figure.get("n") == 0:
        return Check(threshold, None, False)
    value = float(figure["value"]) * threshold.scale
    return Check(threshold, value, OPERATORS[threshold.op](value, threshold.limit))


def complete(thresholds: Iterable[Threshold], run: Any) -> Summary:
    """A bundle's summary, with the percentiles that *thresholds* ask for and that it was not written with."""
    from sim.results.summary import LEVELS, level_of, summarise

    summary: Summary = run.summary
    missing = {level for threshold in thresholds if threshold.key not in summary and (level := level_of(threshold.key))}
    return summary if not missing else {**summarise(run, levels=(*LEVELS, *sorted(missing))), **summary}
