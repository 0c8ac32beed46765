"""The reports of runs that went badly, or in which little happened: each says what can be said, and none breaks.

The cells are executed in this process, on small simulated bundles, some of them edited to be what a load test may leave.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import nbformat
import pandas as pd
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from sim.errors import BadInput
from sim.policy import Debounce, FullPayload, Polling
from sim.results.answers import report
from sim.results.run import TABLES, Run, RunWriter
from sim.results.summary import summarise
from sim.scenario import Api, Broadcast, Fleet, Pages, Scenario
from sim.virtual import reference
from sim.workload import Poisson

NOTEBOOKS = Path(__file__).resolve().parent.parent.parent / "notebooks"

USUAL = Scenario(
    name="small",
    duration=20.0,
    drain=2.0,
    fleet=Fleet(users=2),
    workload=Poisson(rate=2.0),
    pages=(Pages("detail", 4), Pages("dashboard", 3)),
    policy=Debounce(wait=0.3),
    thresholds={"delivery_ratio": "value >= 1", "time_to_fresh": "p(95) < 0.0001"},
)

Edit = Callable[[dict[str, pd.DataFrame], RunWriter], None]


def no_versions(tables: dict[str, pd.DataFrame], _: RunWriter) -> None:
    for name in ("updates", "refetches"):
        tables[name]["version"] = pd.NA


def only_listened(tables: dict[str, pd.DataFrame], writer: RunWriter) -> None:
    """As `listen` leaves it: nobody tells when an update was committed, and no page fetches."""
    no_versions(tables, writer)
    tables["updates"]["committed_at"] = float("nan")
    tables["updates"]["status"] = "unknown"
    tables["refetches"] = tables["refetches"].head(0)


def dead_target(tables: dict[str, pd.DataFrame], writer: RunWriter) -> None:
    updates, refetches = tables["updates"], tables["refetches"]
    updates.loc[updates["intended_at"] > 5, ["committed_at", "published_at"]] = float("nan")
    updates.loc[updates["intended_at"] > 5, "version"] = pd.NA
    updates["status"] = updates["status"].astype(str).where(updates["intended_at"] <= 5, "failed")
    tables["notifications"] = tables["notifications"][tables["notifications"]["received_at"] < 5]
    broken = refetches["started_at"] > 4
    refetches["outcome"] = refetches["outcome"].astype(str).mask(broken, "failed")
    refetches.loc[broken, ["version", "status"]] = pd.NA
    writer.manifest.extra["target_trouble"] = ["30 of 40 updates failed"]
    writer.manifest.extra["incidents"] = [{"kind": "restart", "at": 5, "began_at": 5.1, "ended_at": None}]


def stopped(_: dict[str, pd.DataFrame], writer: RunWriter) -> None:
    writer.manifest.partial = True
    writer.manifest.validity = {"ok": False, "reasons": ["interrupted", "the load client <b>read</b> late"], "remarks": ["a | b"]}


def unchanged(_: dict[str, pd.DataFrame], __: RunWriter) -> None:
    pass


def first(number: int) -> Edit:
    def edit(tables: dict[str, pd.DataFrame], _: RunWriter) -> None:
        kept = tables["updates"]["update"].head(number)
        for name in ("updates", "notifications"):
            tables[name] = tables[name][tables[name]["update"].isin(kept)]
        last = tables["updates"]["intended_at"].max() + 1
        tables["refetches"] = tables["refetches"][tables["refetches"]["started_at"] < last]

    return edit


CASES: dict[str, tuple[dict[str, Any], Edit, str]] = {
    "usual": ({}, unchanged, "35 updates, too few to say how sure"),
    "nothing changed": ({"workload": Poisson(rate=0.0)}, unchanged, "Nothing changed in this run"),
    "one update": ({}, first(1), "(one update, too few"),
    "three updates": ({}, first(3), "(3 updates, too few"),
    "starving": ({"policy": Debounce(wait=30.0)}, unchanged, "More than half of the changes were not on a page"),
    "polling": ({"policy": Polling(interval=1.0)}, unchanged, "No delivery was expected"),
    "full payload": ({"policy": FullPayload(), "broadcast": Broadcast(payload="full")}, unchanged, "is the broadcast"),
    "no page": ({"pages": (Pages("detail", 0),)}, unchanged, "no page shows what changed"),
    "application fails": ({"api": Api(queue_limit=0)}, unchanged, "refetches failed"),
    "no versions": ({}, no_versions, "because a version"),
    "listened": ({}, only_listened, "nobody says when a change was committed"),
    "dead target": ({}, dead_target, "25 of 35 updates failed and are in no time"),
    "stopped": ({}, stopped, "**partial, invalid: interrupted; the load client &lt;b>read&lt;/b> late**"),
}
"""Changes of `USUAL`, what is edited in its bundle, and what the first report says of it."""

OTHERS = ("usual", "nothing changed", "one update", "polling", "listened", "dead target", "stopped")
REPORTS = [("00_start_here", case) for case in CASES] + [(name, case) for name in ("02_latency", "07_explain_a_run") for case in OTHERS]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    directory = tmp_path_factory.mktemp("bundles")
    return {name: _bundle(directory / name.replace(" ", "-"), *case[:2]) for name, case in CASES.items()}


def _bundle(directory: Path, changes: dict[str, Any], edit: Edit) -> Run:
    scenario = replace(USUAL, **changes)
    made = reference.run(scenario)
    tables = {name: getattr(made, name).copy() for name in TABLES}
    with RunWriter(directory, scenario, source="measured") as writer:
        edit(tables, writer)
        for name, frame in tables.items():
            # As an array: Arrow takes the NaN of a series for a null.
            columns = ((column, frame[column]) for column in TABLES[name].names)
            writer.append(name, {column: rows.to_numpy() if rows.dtype == float else rows for column, rows in columns})
        writer.summary = summarise(writer.frames(), scenario)
    return Run(directory)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def executed(notebook: str, runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """All that the notebook says, as text, and the assertions that failed."""
    monkeypatch.setenv(report.VARIABLE, os.pathsep.join(str(run.directory) for run in runs))
    said: list[str] = []
    names: dict[str, Any] = {"display": lambda shown: said.append(words(shown))}
    failed = []
    for cell in nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells:
        if cell.cell_type != "code":
            continue
        *statements, last = ast.parse(cell.source).body
        try:
            exec(compile(ast.Module(statements, []), notebook, "exec"), names)
            if isinstance(last, ast.Expr):
                said.append(words(eval(compile(ast.Expression(last.value), notebook, "eval"), names)))
            else:
                exec(compile(ast.Module([last], []), notebook, "exec"), names)
        except AssertionError as error:
            failed.append(str(error))
        plt.close("all")
    return "\n".join(said), failed


def words(shown: Any) -> str:
    return str(getattr(shown, "data", shown))


@pytest.mark.parametrize(("notebook", "case"), REPORTS)
def test_every_run_has_a_report(case: str, notebook: str, bundles: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    said, failed = executed(notebook, [bundles[case]], monkeypatch)
    assert not re.search(r"\bnan\b|None|within (never|–)|after –|not before the run ends, nineteen", said)
    if notebook == "00_start_here":
        assert CASES[case][2] in said
    assert any("the run is valid" in words for words in failed) == (case == "stopped")


def test_a_run_is_compared_with_the_first_or_it_is_said_why_not(bundles: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    for case, why in (("polling", "same"), ("stopped", "not compared: stopped was interrupted"), ("no page", "are not runs of one")):
        said, _ = executed("07_explain_a_run", [bundles["usual"], bundles[case]], monkeypatch)
        assert f"{why}" in said.partition("Against the other run: ")[2].splitlines()[0]


def test_a_run_without_herds_is_refused_by_the_report_on_herds(bundles: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="nothing-changed has no herd"):
        executed("04_refetch_herd", [bundles["nothing changed"]], monkeypatch)
