"""`workbench compare`: one run or several a side, verified as `check` does it, one line for what cannot be compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import sim
from sim.cli import main
from sim.results.run import Run
from sim.scenario import Pages, Scenario

SCENARIO = Scenario(name="small", duration=10.0, pages=(Pages(subscribers=3),))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("runs")
    return [str(sim.simulate(SCENARIO, {"seed": seed}, output=root / f"run-{seed}").directory) for seed in (1, 2, 3)]


def test_two_runs_or_several_a_side(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", runs[0], runs[0]]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(" same")
    assert main(["compare", "--json", "--baseline", *runs[:2], "--", *runs[1:]]) == 0
    found = json.loads(capsys.readouterr().out)["differences"]
    assert {difference["metric"] for difference in found} > {"time_to_fresh.p50", "starved_ratio", "delivery_ratio"}
    assert main(["compare", *runs]) == 2
    assert "--baseline A1 A2 -- B1 B2" in capsys.readouterr().err


def test_one_baseline_needs_no_dashes_and_a_directory_stands_for_its_bundles(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--baseline", runs[0], runs[1], runs[2]]) == 0
    assert capsys.readouterr().out.startswith("### `run-2, run-3` against `run-1`: ")
    assert main(["compare", "--baseline", str(Path(runs[0]).parent), runs[1]]) == 0
    assert capsys.readouterr().out.startswith("### `run-2` against `run-1, run-2, run-3`: ")
    for arguments in (["--baseline", runs[0]], [runs[0]], []):
        assert main(["compare", *arguments]) == 2
    assert main(["compare", "--baseline", str(tmp_path), runs[0]]) == 2
    assert "is not a run bundle" in capsys.readouterr().err


def test_an_invalid_baseline_is_refused_and_an_invalid_run_says_nothing(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    invalid = tmp_path / "invalid"
    shutil.copytree(runs[0], invalid)
    manifest = json.loads((invalid / "manifest.json").read_text())
    (invalid / "manifest.json").write_text(json.dumps(manifest | {"validity": {"ok": False, "reasons": ["too busy"]}}))
    assert main(["compare", "--baseline", str(invalid), runs[1]]) == 2
    assert f"baseline {invalid}: the run is invalid: too busy" in capsys.readouterr().err
    assert main(["compare", "--baseline", runs[1], str(invalid)]) == 4
    assert f"{invalid}: the run is invalid: too busy" in capsys.readouterr().err


def edited(path: Path) -> None:
    summary = json.loads((path / "summary.json").read_text())
    summary["updates"]["value"] += 1
    (path / "summary.json").write_text(json.dumps(summary))


def truncated(path: Path) -> None:
    content = (path / "refetches.parquet").read_bytes()
    (path / "refetches.parquet").write_bytes(content[: len(content) // 2])


def other_schema(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 7}))


def without_a_column(path: Path) -> None:
    table = path / "updates.parquet"
    pq.write_table(pq.read_table(table).drop_columns(["version"]), table)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["updates.parquet"]
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (edited, "summary.json: changed since the run"),
        (truncated, "refetches.parquet"),
        (other_schema, "schema version 7"),
        (without_a_column, "updates.parquet"),
    ],
)
def test_a_damaged_bundle_is_one_line_that_names_the_file(
    damage: Callable[[Path], None], said: str, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(runs[0], broken)
    damage(broken)
    assert main(["compare", runs[0], str(broken)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_manifest_names_every_file(runs: list[str]) -> None:
    run = Run(runs[0])
    written = {path.name for path in run.directory.iterdir()} - {"manifest.json"}
    assert set(run.manifest.files) == written
