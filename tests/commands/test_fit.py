"""The tables that `workbench fit` prints."""

from __future__ import annotations

from sim.commands.fit import lines
from sim.prediction.parameters import Fit, Parameter, Residual


def test_columns_stay_apart_whatever_the_length_of_a_key() -> None:
    key = "broadcaster." + "long" * 10
    found = Fit(
        (Parameter(key, 2e-6, 1e-6, 3e-6, "s", made_from="events"), Parameter(key, None, 1e-6, 2e-6, "s", False, "a run")),
        {},
        residuals=(Residual("one", "time_to_fresh.p99", 1.0, 1.1),),
    )
    rows = [line.split() for line in lines(found)]
    assert [row[0] for row in rows if row and row[0].startswith("broadcaster")] == [key, key]
    head, row = next(line for line in lines(found) if "value" in line), next(line for line in lines(found) if key in line)
    assert head.index("value") + len("value") == row.index("2 µs") + len("2 µs")
