"""The bundle: whole or visibly not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim.errors import BadInput
from sim.results.frames import columns_of
from sim.results.run import TABLES, VERSION_1, Run, RunWriter, destination
from sim.scenario import Scenario


def update_rows(n: int, first: int = 0) -> dict[str, object]:
    return {
        "update": range(first, first + n),
        "resource": ["server"] * n,
        "resource_id": [5] * n,
        "version": range(1, n + 1),
        "sequence": range(1, n + 1),
        "intended_at": np.arange(n, dtype=float),
        "committed_at": np.arange(first, first + n) + 0.001,
        "published_at": np.full(n, np.nan),
        "status": ["committed"] * n,
    }


def test_a_table_can_be_written_anew(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Scenario(), source="measured") as writer:
        writer.append("updates", update_rows(5))
        frame = writer.frames().updates
        writer.rewrite("updates", columns_of(frame.assign(status="unknown").head(3)))
    run = Run(tmp_path / "run")
    run.verify()
    assert run.updates["status"].tolist() == ["unknown"] * 3
    assert np.isnan(run.updates["published_at"]).all()


def test_what_is_written_is_read_back_in_the_contract_s_columns(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Scenario(seed=7), source="simulated") as writer:
        writer.append("updates", update_rows(2))
        writer.append("updates", update_rows(3, first=2))
        writer.summary = {"refetches": {"value": 1.0, "ci_low": None, "ci_high": None, "n": 1}}
    run = Run(tmp_path / "run")
    run.verify()
    assert len(run.updates) == 5
    assert list(run.updates.columns) == TABLES["updates"].names
    assert run.updates["published_at"].isna().all()
    assert run.scenario == Scenario(seed=7)
    assert run.summary["refetches"]["value"] == 1.0
    assert not run.manifest.partial
    assert run.manifest.validity == {"ok": True, "reasons": []}
    for table, schema in TABLES.items():
        assert list(run.table(table).columns) == schema.names
    assert not list((tmp_path / "run").glob("*.partial"))


def test_an_interrupted_run_keeps_its_rows_and_says_that_it_is_partial(tmp_path: Path) -> None:
    def interrupted_run() -> None:
        with RunWriter(tmp_path / "run", Scenario(), source="measured") as writer:
            writer.append("updates", update_rows(4))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run()
    run = Run(tmp_path / "run")
    assert run.manifest.partial
    assert run.manifest.validity == {"ok": False, "reasons": ["interrupted"]}
    assert len(run.updates) == 4


def test_a_directory_without_a_manifest_is_not_a_run(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run", Scenario(), source="measured")
    writer.append("updates", update_rows(1))
    with pytest.raises(BadInput, match="unfinished run"):
        Run(tmp_path / "run")
    with pytest.raises(BadInput, match="not a run bundle"):
        Run(tmp_path / "nowhere")


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    RunWriter(tmp_path / "run", Scenario(), source="simulated").close()
    with pytest.raises(BadInput, match="already holds a run"):
        RunWriter(tmp_path / "run", Scenario(), source="simulated")


def test_a_changed_file_and_a_damaged_manifest_are_noticed(tmp_path: Path) -> None:
    run = RunWriter(tmp_path / "run", Scenario(), source="simulated").close()
    (run.directory / "summary.json").write_text("{}  ")
    with pytest.raises(BadInput, match="sha256"):
        run.verify()
    (run.directory / "updates.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match="cannot be read"):
        _ = run.updates
    (run.directory / "manifest.json").write_text('{"schema_version": 1}')
    with pytest.raises(BadInput, match="damaged manifest"):
        Run(run.directory)
    (run.directory / "manifest.json").write_text('{"schema_version": 99}')
    with pytest.raises(BadInput, match="schema version 99"):
        Run(run.directory)


def test_a_bundle_of_version_1_says_what_it_cannot_say(tmp_path: Path) -> None:
    run = RunWriter(tmp_path / "run", Scenario(), source="simulated").close()
    assert not run.manifest.validity.get("remarks")
    path = run.directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 1}))
    assert Run(run.directory).manifest.validity["remarks"] == [VERSION_1]


def test_a_file_in_the_way_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        RunWriter(tmp_path / "run", Scenario(), source="simulated")


def test_the_manifest_names_everything_a_reader_needs(tmp_path: Path) -> None:
    run = RunWriter(tmp_path / "run", Scenario(warmup=2, duration=5, drain=1), source="simulated", command="x").close()
    tree = json.loads((run.directory / "manifest.json").read_text())
    for key in (
        "schema_version",
        "run_id",
        "source",
        "scenario",
        "seed",
        "target",
        "git",
        "versions",
        "host",
        "window",
        "clock",
        "harness",
        "validity",
        "files",
    ):
        assert key in tree
    assert tree["window"] == {"warmup": 2, "start": 2, "end": 7, "cooldown": 1, "drain": 0}
    assert tree["files"]["updates.parquet"]["rows"] == 0


@pytest.mark.parametrize("name", ["", "file", "x" * 300, "file/below"])
def test_a_destination_that_cannot_hold_a_run_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as raised:
        destination(name)
    assert "-o" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_of_another_shape_names_its_column(tmp_path: Path) -> None:
    run = RunWriter(tmp_path / "run", Scenario(), source="simulated").close()
    path = run.directory / "updates.parquet"
    rows = pq.read_table(path)
    pq.write_table(rows.drop_columns(["version"]), path)
    with pytest.raises(BadInput, match=r"updates\.parquet: column version is missing"):
        _ = run.updates
    at = rows.column_names.index("version")
    pq.write_table(rows.set_column(at, "version", pa.array([], pa.string())), path)
    with pytest.raises(BadInput, match="column version is string, must be int64"):
        _ = Run(run.directory).updates


@pytest.mark.parametrize(("table", "key", "one"), [("updates", "update", "update"), ("pages", "subscriber", "page")])
def test_a_row_that_is_there_twice_is_bad_input(table: str, key: str, one: str, tmp_path: Path) -> None:
    run = RunWriter(tmp_path / "run", Scenario(), source="simulated").close()
    schema = TABLES[table]
    row = {f.name: "" if pa.types.is_dictionary(f.type) else False if pa.types.is_boolean(f.type) else 0 for f in schema}
    pq.write_table(pa.Table.from_pylist([row, row], schema=schema), run.directory / f"{table}.parquet")
    with pytest.raises(BadInput, match=rf"{table}\.parquet: column {key} names one {one} twice"):
        run.table(table)
