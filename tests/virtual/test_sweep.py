"""Sweeps: the grid, the pairing, the rule when to stop, objectives, being killed, and a real cluster of two workers."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from sim import cli
from sim.errors import BadInput, Unreachable
from sim.policy import Debounce
from sim.scenario import Pages, Scenario, load_scenario
from sim.virtual import sweep as sweeps
from sim.virtual import workers
from sim.virtual.sweep import Objective, Sweep, interval, parse_vary
from sim.virtual.workers import WorkerPool
from sim.workload import Poisson

SMALL = Scenario(name="small", duration=6.0, workload=Poisson(2.0), pages=(Pages("dashboard", 5),), policy=Debounce(wait=0.2))


class Inline:
    """An executor that runs at once, and remembers."""

    def __init__(self, function=None) -> None:
        self.seeds: list[int] = []
        self.function = function

    def at_a_time(self, parallel: int = 1) -> WorkerPool:
        return WorkerPool(self, parallel)

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


def test_a_point_is_repeated_until_its_interval_is_narrow_and_twice_more():
    sweep = Sweep(SMALL, {"policy.wait": [0.0, 0.6, 5.0]}, precision=0.05, max_replications=15)
    frame = sweeps.run(sweep, Inline(fake).at_a_time())
    counts = frame.groupby("policy.wait")["replication"].count()
    assert counts[0.0] == 5  # all alike: the least will do
    assert 5 < counts[0.6] < 15
    assert counts[5.0] == 15  # never narrow enough
    values = frame[frame["policy.wait"] == 0.6]["time_to_fresh.mean"].tolist()
    assert sweep.narrow(values[:-2])
    assert not any(sweep.narrow(values[:n]) for n in range(5, len(values) - 2))


def test_the_rule_covers_what_it_promises():
    """Sweeps of a figure whose truth is known, each stopped by the rule: how often does the interval hold the truth?"""
    sweep = Sweep(SMALL, {"policy.wait": [0.1]}, precision=0.1, max_replications=40)
    figures = np.random.default_rng(11).gamma(25, 1 / 25, (1000, 40))
    hits = []
    for values in figures.tolist():
        count = next(n for n in range(5, 41) if sweep.enough(values[:n]) is not None)
        mean, half = interval(values[: sweep.enough(values[:count])])
        hits.append(abs(mean - 1) <= half)
    assert np.mean(hits) > 0.91  # one in a thousand such experiments would find less where 93.5 % is true


@pytest.mark.parametrize("parallel", [2, 7, 64])
def test_how_many_run_at_once_changes_nothing(parallel):
    sweep = Sweep(SMALL, {"policy.wait": [0.0, 0.8, 5.0]}, precision=0.05, max_replications=15)
    pd.testing.assert_frame_equal(
        sweeps.run(sweep, Inline(fake).at_a_time(parallel)), sweeps.run(sweep, Inline(fake).at_a_time())
    )


@pytest.mark.parametrize(("found", "mean"), [(None, None), (math.inf, math.inf)])
def test_what_is_undefined_or_never_each_time_is_not_repeated_for_ever(found, mean):
    sweep = Sweep(SMALL, {"policy.wait": [0.1]})
    frame = sweeps.run(sweep, Inline(lambda *_: {"engine": "reference", "seconds": 0.0, "time_to_fresh.mean": found}).at_a_time())
    assert len(frame) == 5
    assert interval([found] * 5) == (mean, None)
    assert sweep.narrow([found] * 5)
    assert not sweep.narrow([found, 1.0, 1.0, 1.0, 1.0])


def test_an_objective_names_the_cheapest_setting_that_meets_it():
    def costs(scenario, engine):
        wait, noise = scenario.policy.wait, 0.3 * (-1) ** scenario.seed
        fresh = math.inf if wait > 4 else wait + (noise if wait == 2.0 else 0.0)
        return {"engine": "reference", "seconds": 0.0, "time_to_fresh.mean": fresh, "refetches_per_update": 1 / (1 + wait)}

    sweep = Sweep(SMALL, {"policy.wait": [0.5, 1.0, 2.0, 3.0, 5.0]}, precision=1.0)
    frame = sweeps.run(sweep, Inline(costs).at_a_time())
    found = sweeps.overview(sweep, frame, ["time_to_fresh.mean"], Objective.parse("time_to_fresh.mean < 2.1"))
    assert found["objective"].tolist() == ["yes", "yes", "unsure", "no", "no"]
    assert found["cheapest"].tolist() == [False, True, False, False, False]
    assert found["precise"].all()
    for text in ("time_to_fresh.mean", "< 2", "a ~ 2", "a < b", ""):
        with pytest.raises(BadInput, match="METRIC OP NUMBER"):
            Objective.parse(text)


def test_one_replication_is_neither_precise_nor_sure() -> None:
    sweep = Sweep(SMALL, {"policy.wait": [0.5]}, replications=1, max_replications=1)
    frame = sweeps.run(sweep, Inline(fake).at_a_time())
    found = sweeps.overview(sweep, frame, ["time_to_fresh.mean"], Objective.parse("time_to_fresh.mean < 100")).iloc[0]
    assert (len(frame), found["precise"], found["objective"], found["cheapest"]) == (1, False, "unsure", False)


def test_an_unknown_metric_is_named_with_those_there_are():
    with pytest.raises(BadInput, match="no such figure"):
        sweeps.run(Sweep(SMALL, {"policy.wait": [0.1]}, metric="time_to_freshness"), Inline(fake).at_a_time())


def test_the_error_of_a_simulation_names_its_point():
    def fails(scenario, engine):
        raise BadInput("too large")

    with pytest.raises(BadInput, match=r"at policy\.wait=0\.1: too large"):
        sweeps.run(Sweep(SMALL, {"policy.wait": [0.1]}), Inline(fails).at_a_time())


# --- real simulations ---------------------------------------------------------------------------------------------------


def test_points_meet_the_same_updates_and_the_table_is_tidy(tmp_path: Path):
    sweep = Sweep(SMALL, {"policy.wait": [0.1, 0.4], "api.workers": [1, 2]}, precision=10.0)
    frame = sweeps.run(sweep, Inline().at_a_time(4), tmp_path)
    assert len(frame) == 4 * 7
    assert frame["updates"].groupby(frame["seed"]).nunique().eq(1).all()
    assert frame["updates"].nunique() > 1
    read = pd.read_parquet(tmp_path / "sweep.parquet")
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)
    assert list(read.columns[:7]) == ["point", "replication", "seed", "engine", "seconds", "policy.wait", "api.workers"]
    means = sweeps.overview(sweep, frame, ["time_to_fresh.mean"])
    assert means["replications"].tolist() == [7] * 4
    assert means["time_to_fresh.mean"][2] > means["time_to_fresh.mean"][0]


@pytest.mark.parametrize("engine", ["reference", "fleet"])
def test_both_engines_give_the_same_means(engine):
    sweep = Sweep(SMALL, {"policy.wait": [0.1, 0.4]}, engine=engine, precision=10.0)
    frame = sweeps.run(sweep, Inline().at_a_time())
    assert set(frame["engine"]) == {engine}
    other = sweeps.run(Sweep(SMALL, {"policy.wait": [0.1, 0.4]}, engine="reference", precision=10.0), Inline().at_a_time())
    for name in ("time_to_fresh.mean", "refetches", "stale_ratio", "age_of_information.mean", "refetch_rate.peak"):
        assert frame[name].to_numpy(float) == pytest.approx(other[name].to_numpy(float)), name


# --- resuming -----------------------------------------------------------------------------------------------------------


def test_a_sweep_goes_on_where_it_was(tmp_path: Path):
    sweep = Sweep(SMALL, {"policy.wait": [0.0, 0.8]}, precision=0.05, max_replications=15)
    whole = sweeps.run(sweep, Inline(fake).at_a_time(), tmp_path / "whole")
    journal = (tmp_path / "whole" / "rows.jsonl").read_bytes().splitlines(keepends=True)
    half = tmp_path / "half"
    half.mkdir()
    (half / "sweep.json").write_bytes((tmp_path / "whole" / "sweep.json").read_bytes())
    (half / "rows.jsonl").write_bytes(b"".join(journal[:4]) + journal[4][:20])  # killed in the middle of a line
    again = Inline(fake)
    frame = sweeps.run(sweep, again.at_a_time(), half)
    pd.testing.assert_frame_equal(frame, whole)
    assert len(again.seeds) == len(journal) - 4
    nothing = Inline(fake)
    pd.testing.assert_frame_equal(sweeps.run(sweep, nothing.at_a_time(), half), whole)
    assert nothing.seeds == []


def test_a_directory_keeps_one_sweep(tmp_path: Path):
    sweeps.run(Sweep(SMALL, {"policy.wait": [0.1]}), Inline(fake).at_a_time(), tmp_path)
    with pytest.raises(BadInput, match="another sweep"):
        sweeps.run(Sweep(SMALL, {"policy.wait": [0.2]}), Inline(fake).at_a_time(), tmp_path)
    more = Sweep(SMALL, {"policy.wait": [0.1]}, replications=11)  # surer is the same sweep
    assert len(sweeps.run(more, Inline(fake).at_a_time(), tmp_path)) == 13


def test_a_killed_process_leaves_what_it_had_and_nothing_that_runs(tmp_path: Path):
    """SIGKILL in the middle: its workers end, its rows are kept, and the same sweep only adds what is missing."""
    directory = tmp_path / "sweep"
    changes = {"duration": 2.0, "drain": 1.0, "pages.0.subscribers": 3}
    vary = {"policy.wait": [0.1 * n for n in range(1, 30)]}
    command = [
        sys.executable,
        "-P",
        "-m",
        "sim",
        "sweep",
        "steady",
        "--precision",
        "100",
        "--processes",
        "1",
        "-o",
        str(directory),
    ]
    command += ["--vary", f"policy.wait={','.join(map(str, vary['policy.wait']))}"]
    command += [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    rows = directory / "rows.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not (rows.exists() and rows.read_bytes().count(b"\n")):
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(children) >= 2  # a worker, and the tracker of its resources
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    before = rows.read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    assert whole
    assert not (directory / "sweep.parquet").exists()
    again = Inline(lambda *_: json.loads(whole.splitlines()[0]) | {"engine": "reference"})
    sweep = Sweep(load_scenario("steady").replace(changes), vary, precision=100)
    assert len(sweeps.run(sweep, again.at_a_time(), directory)) == 29 * 5
    assert rows.read_bytes().startswith(whole)
    assert len(again.seeds) == 29 * 5 - whole.count(b"\n")


# --- the command, and a cluster --------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys):
    arguments = ["sweep", "demo", "--vary", "policy.wait=0.1,0.5", "--precision", "10", "--processes", "1", "--set", "duration=3"]
    arguments += ["-o", str(tmp_path / "out"), "--objective", "time_to_fresh.p99 < 1"]
    assert cli.main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["policy.wait"] for row in rows] == [0.1, 0.5]
    assert all(row["replications"] == 7 for row in rows)
    assert [row["cheapest"] for row in rows].count(True) == 1
    assert cli.main(arguments) == 0  # nothing is left to run
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    assert "s" in lines[2]
    assert lines[0].split() == ["wait", "runs", "time_to_fresh", "time_to_fresh", "refetches", "refetch_rate", "meets"]


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
        workers.workers(scheduler=cluster.scheduler_address) as pool,
    ):
        assert pool.parallel == 2
        assert pool.alive()
        frame = sweeps.run(sweep, pool)
    expected = sweeps.run(sweep, Inline().at_a_time())
    pd.testing.assert_frame_equal(frame.drop(columns="seconds"), expected.drop(columns="seconds"))


@pytest.mark.loopback
def test_no_scheduler_there_is_unreachable(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(workers, "CONNECT_TIMEOUT", 1.0)
    with pytest.raises(Unreachable, match="no Dask scheduler"), workers.workers(scheduler="tcp://127.0.0.1:9"):
        pass


def test_workers_that_cannot_import_the_package_are_named():
    class Client:
        def run(self, function, *args, **kwargs):
            return {"tcp://one": function("json"), "tcp://two": None, "tcp://three": ModuleNotFoundError("sim")}

        def run_on_scheduler(self, function, *args):
            return function("json")

    with pytest.raises(BadInput, match="tcp://two and 1 more cannot import sim"):
        workers._require_package(Client(), "tcp://there")


def test_a_signal_while_a_worker_is_started_comes_afterwards() -> None:
    class Interrupted:
        started = False

        def submit(self, *_: Any) -> Future[Any]:
            signal.raise_signal(signal.SIGINT)
            self.started = True
            return Future()

    before, executor = signal.signal(signal.SIGINT, signal.default_int_handler), Interrupted()
    try:
        with pytest.raises(KeyboardInterrupt):
            sweeps.run(Sweep(SMALL, {"policy.wait": [0.1]}), WorkerPool(executor, 1))  # type: ignore[arg-type]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert executor.started


def test_workers_that_are_all_gone_end_the_sweep(monkeypatch):
    class Silent:
        def submit(self, *_) -> Future:
            return Future()

    monkeypatch.setattr(sweeps, "ALIVE_EVERY", 0.01)
    with pytest.raises(Unreachable, match="no worker is left"):
        sweeps.run(Sweep(SMALL, {"policy.wait": [0.1]}), WorkerPool(Silent(), 1, alive=lambda: False))
