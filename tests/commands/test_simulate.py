"""`workbench simulate` and `sim.simulate`: what they print, write, and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

import sim
from sim.cli import main
from sim.errors import BadInput
from sim.results.run import TABLES, Run
from sim.scenario import Scenario

SMALL = """
cooldown = 0
duration = 20
[workload]
kind = "poisson"
rate = 2.0
[[pages]]
page = "detail"
subscribers = 20
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return str(path)


def test_it_prints_what_the_run_came_to(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", scenario]) == 0
    said = capsys.readouterr().out
    for label in ("updates", "deliveries", "time to notified", "time to fresh", "stale at the end", "refetches", "application"):
        assert f"\n{label} " in f"\n{said}"
    assert "100 %" in said


def test_json_is_the_summary(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", scenario, "--json", "--set", "cooldown=0"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["deliveries.received"]["value"] == summary["deliveries.expected"]["value"] > 0
    assert 0 <= summary["pages.stale_at_end_ratio"]["value"] < 1, "updates go on to the end: some page may not have the last"
    assert 0 < summary["application.busy_ratio"]["value"] < 1


def test_it_writes_a_bundle_like_a_load_test(scenario: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    assert main(["simulate", scenario, "-o", str(output), "--set", "policy.wait=0.2"]) == 0
    assert str(output) in capsys.readouterr().out
    run = Run(output)
    assert run.manifest.source == "simulated"
    assert run.manifest.scenario["policy"]["wait"] == 0.2
    assert not run.manifest.partial
    assert run.summary["refetches"]["value"] == len(run.refetches) > 0
    tables = sim.simulate(scenario, {"policy.wait": 0.2})
    for table in TABLES:
        written, made = getattr(run, table), getattr(tables, table)
        texts = {name: str for name in made if made[name].dtype.name == "category"}
        pd.testing.assert_frame_equal(written.astype(texts), made.astype(texts), check_exact=True)


def test_a_directory_that_holds_a_run_is_left_alone(scenario: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", scenario, "-o", str(tmp_path / "run")]) == 0
    assert main(["simulate", scenario, "-o", str(tmp_path / "run")]) == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-scenario"], "not found"),
        (["steady", "--set", "policy.weight=1"], "weight"),
        (["steady", "--set", "policy.wait=-1"], "wait must be >= 0"),
        (["steady", "--set", "fleet.users=0"], "users must be > 0"),
        (["steady", "--set", 'incidents=[{kind="restart", at=-1}]'], "at must be >= 0"),
        (["steady", "--set", 'incidents=[{kind="restrat"}]'], "did you mean 'restart'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *arguments, "-o", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_refused_leaves_no_bundle(scenario: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        sim.simulate(scenario, {"pages.0.page": "site", "fleet.sites_per_user": 0}, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_scenario_in_hand_needs_no_file() -> None:
    tables = sim.simulate(Scenario(duration=5), {"policy.wait": 0.1})
    assert tables.name == "unnamed"
    assert tables.scenario.policy.wait == 0.1  # type: ignore[union-attr]


@pytest.mark.parametrize("engine", ["reference", "fleet"])
def test_a_bundle_holds_the_rows_of_the_engine(engine: Literal["reference", "fleet"], tmp_path: Path) -> None:
    """All tables as they are in memory, lives of pages with the versions they were loaded with among them."""
    changes = {"pages.0.session": {"kind": "exponential", "scale": 5.0}} if engine == "reference" else {}
    scenario = Scenario(duration=20).replace(changes)
    tables = sim.simulate(scenario, engine=engine)
    run = sim.simulate(scenario, output=tmp_path / "run", engine=engine)
    assert tables.pages["loaded_version"].notna().all()
    for name in TABLES:
        pd.testing.assert_frame_equal(
            getattr(run, name), getattr(tables, name), check_exact=True, check_categorical=False, check_dtype=False, obj=name
        )
