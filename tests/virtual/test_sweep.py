"""Sweeps: the grid, the pairing, the rule when to stop, being killed, and a real cluster of two workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pandas as pd
import pytest

from sim import cli
from sim.errors import BadInput, Unreachable
from sim.policy import Debounce
from sim.scenario import Pages, Scenario
from sim.virtual import sweep as sweeps
from sim.virtual.sweep import Sweep, interval, parse_vary
from sim.workload import Poisson

SMALL = Scenario(name="small", duration=6.0, workload=Poisson(2.0), pages=(Pages("dashboard", 5),), policy=Debounce(wait=0.2))


class Inline:
    """An executor that runs at once, and remembers."""

    def __init__(self, function=None) -> None:
        self.seeds: list[int] = []
        self.function = function

    def submit(self, function, scenario, engine) -> Future:
        self.seeds.append(scenario.seed)
        future: Future = Future()
        try:
            future.set_result((self.function or function)(scenario, engine))
        except Exception as error:
            future.set_exception(error)
        return future


def fake(scenario, engine):
    """A figure that is as sure as its wait is short: 10, give or take the wait times a known number."""
    return {"engine": "reference", "seconds": 0.0, "time_to_fresh.mean": 10 + scenario.policy.wait * (-1) ** scenario.seed}


def test_the_grid_is_the_product_of_the_values():
    sweep = Sweep(SMALL, parse_vary(["policy.wait=0,0.5", "policy.kind=window,debounce,rate_limit"]))
    assert len(sweep.points) == 6
    assert sweep.points[1] == {"policy.wait": 0, "policy.kind": "debounce"}
    assert sweep.at(2, 4).policy.kind == "rate_limit"
    assert sweep.at(2, 4).seed == SMALL.seed + 4


def test_values_are_read_as_toml_reads_them():
    assert parse_vary(["a=1,2.5", "b=x,y", "c=true", 'd={kind="window", wait=1},{kind="immediate"}', "e=0.1,x"]) == {
        "a": [1, 2.5],
        "b": ["x", "y"],
        "c": [True],
        "d": [{"kind": "window", "wait": 1}, {"kind": "immediate"}],
        "e": [0.1, "x"],
    }


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: parse_vary(["policy.wait"]), "KEY=VALUE"),
        (lambda: parse_vary(["policy.wait="]), "KEY=VALUE"),
        (lambda: parse_vary(["a=1", "a=2"]), "twice"),
        (lambda: Sweep(SMALL, {}), "nothing to vary"),
        (lambda: Sweep(SMALL, {"policy.wiat": [1]}), "did you mean 'wait'"),
        (lambda: Sweep(SMALL, {"policy.wait": [-1]}), "wait must be >= 0"),
        (lambda: Sweep(SMALL, {"seed": [1, 2]}), "seed"),
        (lambda: Sweep(SMALL, {"policy.wait": [1]}, precision=0.0), "precision"),
        (lambda: Sweep(SMALL, {"policy.wait": [1]}, replications=9, max_replications=5), "replications"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_runs(make, names):
    with pytest.raises(BadInput, match=names):
        make()


# --- the rule ----------------------------------------------------------------------------------------------------------


def test_the_interval_is_students():
    mean, half = interval([9.0, 10.0, 11.0])
    assert mean == 10.0
    assert half == pytest.approx(4.302652729911275 / 3**0.5)
    assert interval([5.0]) == (5.0, None)
    assert interval([1.0, None]) == (None, None)
    assert interval([]) == (None, None)


def test_a_point_is_repeated_until_its_interval_is_narrow():
    sweep = Sweep(SMALL, {"policy.wait": [0.0, 0.8, 5.0]}, precision=0.05, max_replications=15)
    frame = sweeps.run(sweep, Inline(fake), parallel=1)
    counts = frame.groupby("policy.wait")["replication"].count()
    assert counts[0.0] == 3  # all alike: the least will do
    assert 3 < counts[0.8] < 15
    assert counts[5.0] == 15  # never narrow enough
    values = frame[frame["policy.wait"] == 0.8]["time_to_fresh.mean"].tolist()
    assert sweep.narrow(values)
    assert not any(sweep.narrow(values[:n]) for n in range(3, len(values)))


@pytest.mark.parametrize("parallel", [2, 7, 64])
def test_how_many_run_at_once_changes_nothing(parallel):
    sweep = Sweep(SMALL, {"policy.wait": [0.0, 0.8, 5.0]}, precision=0.05, max_replications=15)
    pd.testing.assert_frame_equal(sweeps.run(sweep, Inline(fake), parallel), sweeps.run(sweep, Inline(fake), 1))


def test_what_is_never_defined_is_not_repeated_for_ever():
    sweep = Sweep(SMALL, {"policy.wait": [0.1]})
    frame = sweeps.run(sweep, Inline(lambda *_: {"engine": "reference", "seconds": 0.0, "time_to_fresh.mean": None}), 1)
    assert len(frame) == 3


def test_an_unknown_metric_is_named_with_those_there_are():
    with pytest.raises(BadInput, match="no such figure"):
        sweeps.run(Sweep(SMALL, {"policy.wait": [0.1]}, metric="time_to_freshness"), Inline(fake), 1)


def test_the_error_of_a_simulation_names_its_point():
    def fails(scenario, engine):
        raise BadInput("too large")

    with pytest.raises(BadInput, match=r"at policy\.wait=0\.1: too large"):
        sweeps.run(Sweep(SMALL, {"policy.wait": [0.1]}), Inline(fails), 1)


# --- real simulations ---------------------------------------------------------------------------------------------------


def test_points_meet_the_same_updates_and_the_table_is_tidy(tmp_path: Path):
    sweep = Sweep(SMALL, {"policy.wait": [0.1, 0.4], "api.workers": [1, 2]}, precision=10.0)
    frame = sweeps.run(sweep, Inline(), 4, tmp_path)
    assert len(frame) == 4 * 3
    assert frame["updates"].groupby(frame["seed"]).nunique().eq(1).all()
    assert frame["updates"].nunique() > 1
    read = pd.read_parquet(tmp_path / "sweep.parquet")
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)
    assert list(read.columns[:7]) == ["point", "replication", "seed", "engine", "seconds", "policy.wait", "api.workers"]
    means = sweeps.overview(sweep, frame, ["time_to_fresh.mean"])
    assert means["replications"].tolist() == [3] * 4
    assert means["time_to_fresh.mean"][2] > means["time_to_fresh.mean"][0]


@pytest.mark.parametrize("engine", ["reference", "fleet"])
def test_both_engines_give_the_same_means(engine):
    sweep = Sweep(SMALL, {"policy.wait": [0.1, 0.4]}, engine=engine, precision=10.0)
    frame = sweeps.run(sweep, Inline(), 1)
    assert set(frame["engine"]) == {engine}
    other = sweeps.run(Sweep(SMALL, {"policy.wait": [0.1, 0.4]}, engine="reference", precision=10.0), Inline(), 1)
    for name in ("time_to_fresh.mean", "refetches", "stale_ratio", "age_of_information.mean", "refetch_rate.peak"):
        assert frame[name].to_numpy(float) == pytest.approx(other[name].to_numpy(float)), name


# --- resuming -----------------------------------------------------------------------------------------------------------


def test_a_sweep_goes_on_where_it_was(tmp_path: Path):
    sweep = Sweep(SMALL, {"policy.wait": [0.0, 0.8]}, precision=0.05, max_replications=15)
    whole = sweeps.run(sweep, Inline(fake), 1, tmp_path / "whole")
    journal = (tmp_path / "whole" / "rows.jsonl").read_bytes().splitlines(keepends=True)
    half = tmp_path / "half"
    half.mkdir()
    (half / "sweep.json").write_bytes((tmp_path / "whole" / "sweep.json").read_bytes())
    (half / "rows.jsonl").write_bytes(b"".join(journal[:4]) + journal[4][:20])  # killed in the middle of a line
    again = Inline(fake)
    frame = sweeps.run(sweep, again, 1, half)
    pd.testing.assert_frame_equal(frame, whole)
    assert len(again.seeds) == len(journal) - 4
    nothing = Inline(fake)
    pd.testing.assert_frame_equal(sweeps.run(sweep, nothing, 1, half), whole)
    assert nothing.seeds == []


def test_a_directory_keeps_one_sweep(tmp_path: Path):
    sweeps.run(Sweep(SMALL, {"policy.wait": [0.1]}), Inline(fake), 1, tmp_path)
    with pytest.raises(BadInput, match="another sweep"):
        sweeps.run(Sweep(SMALL, {"policy.wait": [0.2]}), Inline(fake), 1, tmp_path)
    more = Sweep(SMALL, {"policy.wait": [0.1]}, replications=5)  # surer is the same sweep
    assert len(sweeps.run(more, Inline(fake), 1, tmp_path)) == 5


def test_a_killed_process_leaves_what_it_had(tmp_path: Path):
    """SIGKILL in the middle; the second run only adds what is missing, and the rows of the first are untouched."""
    directory = tmp_path / "sweep"
    command = [sys.executable, "-m", "sim", "sweep", "steady", "--set", "duration=20", "--set", "drain=2"]
    command += ["--vary", "policy.wait=0.1,0.2,0.3,0.4,0.5,0.6", "--precision", "100", "--processes", "1", "-o", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    rows = directory / "rows.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (rows.exists() and rows.read_bytes().count(b"\n") >= 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = rows.read_bytes()
    assert not (directory / "sweep.parquet").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    whole = before[: before.rfind(b"\n") + 1]
    assert rows.read_bytes().startswith(whole)
    assert len(pd.read_parquet(directory / "sweep.parquet")) == 6 * 3
    assert rows.read_bytes().count(b"\n") == 6 * 3


# --- the command, and a cluster --------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys):
    arguments = ["sweep", "demo", "--vary", "policy.wait=0.1,0.5", "--precision", "10", "--processes", "1", "--json"]
    assert cli.main([*arguments, "--set", "duration=3", "-o", str(tmp_path / "out")]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["policy.wait"] for row in rows] == [0.1, 0.5]
    assert all(row["replications"] == 3 for row in rows)


def test_the_command_refuses_in_one_line(capsys):
    assert cli.main(["sweep", "demo", "--vary", "policy.wiat=1"]) == 2
    assert "did you mean 'wait'" in capsys.readouterr().err
    assert cli.main(["sweep", "demo"]) == 2
    assert cli.main(["sweep", "demo", "--vary", "policy.wait=1", "--engine", "flete"]) == 2


@pytest.mark.loopback
def test_a_cluster_of_two_worker_processes_gives_the_same_table():
    distributed = pytest.importorskip("distributed")
    sweep = Sweep(SMALL, {"policy.wait": [0.1, 0.4]}, precision=10.0)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        sweeps.workers(scheduler=cluster.scheduler_address) as (executor, parallel),
    ):
        assert parallel == 2
        frame = sweeps.run(sweep, executor, parallel)
    expected = sweeps.run(sweep, Inline(), 1)
    pd.testing.assert_frame_equal(frame.drop(columns="seconds"), expected.drop(columns="seconds"))


@pytest.mark.loopback
def test_no_scheduler_there_is_unreachable(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(sweeps, "CONNECT_TIMEOUT", 1.0)
    with pytest.raises(Unreachable, match="no Dask scheduler"), sweeps.workers(scheduler="tcp://127.0.0.1:9"):
        pass
