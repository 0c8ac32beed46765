"""Figures as a person reads them: three digits, a unit that fits, `never` and `-` where there is no figure."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the publisher of a load test writes durations, and need not wait for pandas
    import pandas as pd

NONE = "–"


def seconds(value: float | None) -> str:
    """A duration: `0.52 ms`, `43 ms`, `1.24 s`, `2 min`; `never` for inf, `–` for None and NaN."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "never"
    size = abs(value)
    if size >= 7200:
        return f"{digits(value / 3600)} h"
    if size >= 120:
        return f"{digits(value / 60)} min"
    # 0.9996 s would be rounded to "1,000 ms".
    if size >= 0.9995 or size == 0:
        return f"{digits(value)} s"
    return f"{digits(value * 1e3)} ms" if size >= 1e-4 else f"{digits(value * 1e6)} µs"


def number(value: float | None) -> str:
    """A count or a ratio; thousands grouped: `1,250`, `0.067`."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞"
    return digits(value, decimals=0) if float(value).is_integer() or abs(value) >= 1000 else digits(value)


def three(value: float | None) -> str:
    """`number` with three significant digits: `36,900`."""
    return number(value if value is None or not math.isfinite(value) else float(f"{value:.3g}"))


def per_second(value: float | None) -> str:
    """A rate: `12.5/s`."""
    return number(value) if value is None or math.isnan(value) else f"{number(value)}/s"


def size(value: float | None) -> str:
    """A size: `312 B`, `25.1 kB`, `1.2 MB`."""
    if value is None or not math.isfinite(value):
        return number(value)
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # 999,600 B would be rounded to "1,000 kB".
        if abs(value) >= 0.9995 * scale:
            return f"{digits(value / scale)} {unit}"
    return f"{digits(value)} B"


def percent(share: float | None) -> str:
    """A share: `12.5 %`, `0.03 %`; `100 %` only where it is all, and `0 %` for what is left of one by rounding."""
    if share is None or math.isnan(share):
        return NONE
    if 0.9995 <= share < 1 - 1e-9:
        return f"{math.floor(share * 1e4) / 1e2:.2f} %"
    return f"{digits(share * 100 if abs(share) > 1e-9 else 0.0)} %"


def digits(value: float, count: int = 3, decimals: int | None = None) -> str:
    """*count* significant digits (or so many *decimals*), without exponent and trailing zeros; `−` before a negative one."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if decimals is None:
        decimals = max(0, count - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}".replace("-", "−")
    return text.rstrip("0").rstrip(".") if "." in text else text


def interval(low: float | None, high: float | None, unit: Any = seconds) -> str:
    """`a to b`; one figure where both ends are the same; an open upper end is said, no interval is `–`."""
    if low is None or math.isnan(low):
        return NONE
    if high is None or math.isnan(high):
        return f"{unit(low)} or more"
    return f"{unit(low)} to {unit(high)}" if unit(low) != unit(high) else str(unit(low))


def with_interval(value: float | None, low: float | None, high: float | None, unit: Any = seconds) -> str:
    """A figure and its 95 % interval: `4 s (3.2 s to 4.8 s)`; without an interval the figure alone."""
    sure = interval(low, high, unit)
    return f"{unit(value)}" if sure in (NONE, unit(value)) else f"{unit(value)} ({sure})"


def change(difference: float, share: bool = False) -> str:
    """A relative difference: `+4.2 %`, `−12 %`, `±0 %`; of two shares (*share*), in points: `+4.2 points`."""
    if math.isnan(difference):
        return NONE
    # Of a difference, what lies below a hundredth of a per cent is rounding.
    size = round(abs(difference) * 100, 2)
    sign = "±" if size == 0 else "+" if difference > 0 else "−"
    return f"{sign}{digits(size)} {'points' if share else '%'}"


def capital(words: str) -> str:
    """The words with a capital letter at their beginning, as a sentence has it."""
    return words[:1].upper() + words[1:]


def cores(value: float | None) -> str:
    """Processor time per second: `0.31 cores`."""
    return number(value) if value is None or math.isnan(value) else f"{number(value)} cores"


UNITS: dict[str, Any] = {"s": seconds, "share": percent, "1/s": per_second, "bytes": size, "cores": cores}
"""Unit of a metric -> how it is written; any other is a number."""


def unit_of(metric: str) -> Any:
    """The formatter that fits a metric of a summary."""
    # Here and not above: the summary draws in pandas and SciPy, which a command's help need not wait for.
    from sim.results.summary import metric_of

    known = metric_of(metric)
    if known is None:
        return percent if metric.endswith("_ratio") else number
    return UNITS.get(known.unit, number)


Summary = Mapping[str, Mapping[str, Any]]
"""Metric -> {value, ci_low, ci_high, n} (`sim.results.summary`)."""


def value(summary: Summary, metric: str) -> float:
    """A figure as a number: inf where it is never, NaN where there is none."""
    row = summary.get(metric, {})
    found = row.get("value")
    return math.inf if is_never(row) else math.nan if found is None else float(found)


def is_never(row: Mapping[str, Any]) -> bool:
    """Whether a figure of a summary is longer than the run: it falls on what was never shown."""
    return bool(row.get("never"))


def figure(summary: Summary, metric: str) -> str:
    """One figure of a summary in its unit: `never` for a time that has no end, `–` for what was not seen at all."""
    row = summary.get(metric, {"value": None})
    return "never" if is_never(row) else unit_of(metric)(row["value"])


def predictions(rows: pd.DataFrame, units: Iterable[Any], interval_of: str) -> pd.DataFrame:
    """What was measured beside what was predicted, as texts: measured, predicted, the interval (called *interval_of*), off.

    *rows*: columns measured, predicted, low, high, off (a share; not finite: not known). *units*: the formatter of each row.
    """
    import pandas as pd

    cells = [
        {
            "measured": unit(row["measured"]),
            "predicted": unit(row["predicted"]),
            interval_of: interval(row["low"], row["high"], unit),
            "off": percent(row["off"]) if math.isfinite(row["off"]) else NONE,
        }
        for row, unit in zip(rows.to_dict("records"), units, strict=True)
    ]
    return pd.DataFrame(cells, index=rows.index, columns=["measured", "predicted", interval_of, "off"])


def markdown(table: pd.DataFrame) -> str:
    """A frame as a Markdown table, index first. Cells are texts already."""
    head = [str(table.index.name or ""), *map(str, table.columns)]
    rows = [list(map(str, row)) for row in table.to_numpy()]
    lines = [head, ["---"] * len(head), *([str(key), *row] for key, row in zip(table.index, rows, strict=True))]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


WORDS = 24
"""Characters from which on the text of a cell is read as words, and begins at the left."""


def is_words(cell: str) -> bool:
    return len(cell) > WORDS and not re.match(r"[-−+]?\d", cell)


def aligned(table: pd.DataFrame) -> list[str]:
    """A frame as lines for a terminal, index first; headings and labels are broken between words, figures stand at the right.
    Cells are texts already."""
    heads, *rows = [
        [str(table.index.name or ""), *table.columns],
        *([str(key), *row] for key, row in zip(table.index, table.to_numpy(), strict=True)),
    ]
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, (*head.split(), *cells))) for head, cells in zip(heads, columns, strict=True)]
    widths[0] = max(min(widths[0], WORDS), *(len(word) for label in columns[0] for word in label.split()))
    left = [True, *(any(map(is_words, cells)) for cells in columns[1:])]
    lines = []
    for row in (heads, *rows):
        broken = [textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(row, widths, strict=True)]
        for parts in itertools.zip_longest(*broken, fillvalue=""):
            cells = (f"{part:{'<' if words else '>'}{width}}" for part, width, words in zip(parts, widths, left, strict=True))
            lines.append("  ".join(cells).rstrip())
    return lines


def under(label: str, lines: Sequence[str]) -> list[tuple[str, str]]:
    """Rows of `labelled` of which the first has the label."""
    return [(label if i == 0 else "", words) for i, words in enumerate(lines)]


def labelled(rows: Iterable[tuple[str, str]], width: int = 18) -> str:
    """Lines for a terminal: a label in *width* columns, and what it says."""
    return "\n".join(f"{label:{width}}{words}".rstrip() for label, words in rows)
