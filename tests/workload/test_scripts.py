"""Replay, provisioning, deployments: when runs start, on which machine, and what they do there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.clock import SECOND
from sim.distributions import Constant as Always
from sim.distributions import Exponential, Lognormal
from sim.errors import BadInput
from sim.workload import (
    Deployments,
    Provisioning,
    Replay,
    Trace,
    Transition,
    Update,
    fit_steps,
    load_trace,
    load_traces,
    script_of,
    streams,
)
from tests.workload.kinds import illegal_moves


def draw(workload: Any, duration: float = 60.0, machines: int = 4, seed: int = 1) -> Any:
    return workload.updates(streams(seed)["workload"], duration, machines, machines)


def seconds(updates: Any, status: str) -> list[tuple[float, int, int]]:
    return [(u.at_ns / SECOND, u.resource_id, u.step) for u in updates if u.status == status]


def two_steps(first: float = 1.0, second: float = 2.0, failed: bool = False, partial: bool = False) -> Trace:
    rows = [
        Transition(0.0, 1, "nginx", "pending"),
        Transition(0.0, 2, "php", "pending"),
        Transition(0.0, 1, "nginx", "installing"),
        Transition(first, 1, "nginx", "failed" if failed else "completed"),
        Transition(first, 2, "php", "installing"),
        Transition(first + second, 2, "php", "completed"),
    ]
    rows = rows[:4] if failed else rows[:5] if partial else rows
    return Trace(tuple(rows), duration=first + second, partial=partial, machine={"cores": 1})


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    for replica, trace in enumerate((two_steps(1.0, 2.0), two_steps(2.0, 4.0)), 1):
        trace.write(tmp_path / "set" / f"{replica:02d}.jsonl")
    return str(tmp_path / "set")


# --- replay ------------------------------------------------------------------------------------------------------------


def test_a_replay_is_the_recording_at_another_speed(recorded: str) -> None:
    updates = list(draw(Replay(recorded, speed=2.0, runs=1)))
    assert updates == [
        Update(0, "server", 1, 1, "pending"),
        Update(0, "server", 1, 2, "pending"),
        Update(0, "server", 1, 1, "installing"),
        Update(SECOND // 2, "server", 1, 1, "completed"),
        Update(SECOND // 2, "server", 1, 2, "installing"),
        Update(3 * SECOND // 2, "server", 1, 2, "completed"),
    ]


def test_replicas_take_turns_and_machines_go_round(recorded: str) -> None:
    ended = seconds(draw(Replay(recorded), duration=20.0, machines=3), "completed")
    # 3 s, then the slower replica's 6 s, and again; each run on the machine that has rested longest.
    assert [row for row in ended if row[2] == 2] == [(3.0, 1, 2), (9.0, 2, 2), (12.0, 3, 2), (18.0, 1, 2)]


def test_machines_in_parallel_start_staggered(recorded: str) -> None:
    began = [row[:2] for row in seconds(draw(Replay(recorded, parallel=3, stagger=0.5, runs=3)), "installing") if row[2] == 1]
    assert began == [(0.0, 1), (0.5, 2), (1.0, 3)]


def test_a_machine_that_is_done_goes_on_while_others_have_not_started(recorded: str) -> None:
    began = [row[0] for row in seconds(draw(Replay(recorded, parallel=3, stagger=10.0), 12.0), "installing") if row[2] == 1]
    assert began == [0.0, 3.0, 9.0, 10.0]


def test_no_more_in_parallel_than_there_are_servers(recorded: str) -> None:
    updates = draw(Replay(recorded, parallel=99), duration=3.0, machines=2)
    assert set(updates.resource_id.tolist()) == {1, 2}
    assert not illegal_moves(updates)


def test_new_servers_come_at_the_asked_rate_and_wait_for_a_free_machine(recorded: str) -> None:
    counts = [len(seconds(draw(Replay(recorded, per_minute=12), 100.0, 50, seed), "installing")) / 2 for seed in range(60)]
    assert np.mean(counts) == pytest.approx(20, abs=1.8)
    busy = draw(Replay(recorded, per_minute=600), duration=30.0, machines=1)
    began = [at for at, _, step in seconds(busy, "installing") if step == 1]
    # One machine, so runs of 3 and 6 s in turn, back to back.
    assert np.diff(began) == pytest.approx([3, 6, 3, 6, 3, 6])
    assert not illegal_moves(busy)


def test_what_a_partial_trace_left_open_fails_at_its_end(tmp_path: Path) -> None:
    two_steps(partial=True).write(tmp_path / "cut.jsonl")
    updates = list(draw(Replay(str(tmp_path / "cut.jsonl"), runs=1)))
    assert updates[-1] == Update(3 * SECOND, "server", 1, 2, "failed")


def test_a_run_after_a_failed_one_does_not_say_pending_twice(tmp_path: Path) -> None:
    two_steps(failed=True).write(tmp_path / "failed.jsonl")
    updates = draw(Replay(str(tmp_path / "failed.jsonl"), runs=3), machines=1)
    assert not illegal_moves(updates)
    assert len(seconds(updates, "failed")) == 3
    assert [row[2] for row in seconds(updates, "pending")] == [1, 2, 1, 1]


def test_a_missing_trace_is_bad_input_when_updates_are_drawn() -> None:
    with pytest.raises(BadInput, match="trace 'stak' not found - did you mean 'stack'"):
        draw(Replay("stak"))


def test_a_trace_without_steps_cannot_be_replayed(tmp_path: Path) -> None:
    Trace(()).write(tmp_path / "none.jsonl")
    with pytest.raises(BadInput, match="a run of 0 s would repeat without end"):
        draw(Replay(str(tmp_path / "none.jsonl")))


@pytest.mark.parametrize(
    "workload", [Replay("stack", speed=20, parallel=3), Provisioning("stack", speed=20, parallel=3)], ids=repr
)
def test_the_recorded_stack_plays(workload: Any) -> None:
    updates = draw(workload, duration=60.0)
    assert not illegal_moves(updates)
    assert len(updates) == pytest.approx(workload.expected(60.0, 4), rel=0.15)


def test_a_script_keeps_every_transition_of_its_trace() -> None:
    trace = load_trace("stack")
    script = script_of(trace, speed=2.0)
    assert (script.at * 2).tolist() == pytest.approx([t.at for t in trace.transitions])
    assert script.length == pytest.approx(trace.duration / 2)


# --- provisioning ------------------------------------------------------------------------------------------------------


def test_a_provisioning_run_takes_its_steps_in_turn() -> None:
    run = Provisioning(steps=3, step_time=Always(2.0), pause=Always(0.5), runs=1)
    updates = list(draw(run))
    assert [(u.at_ns / SECOND, u.step, u.status) for u in updates] == [
        (0.0, 1, "pending"),
        (0.0, 2, "pending"),
        (0.0, 3, "pending"),
        (0.5, 1, "installing"),
        (2.5, 1, "completed"),
        (3.0, 2, "installing"),
        (5.0, 2, "completed"),
        (5.5, 3, "installing"),
        (7.5, 3, "completed"),
    ]


def test_steps_fail_as_often_as_asked_and_end_their_run() -> None:
    updates = draw(Provisioning(steps=4, step_time=Always(0.1), failure=0.25, parallel=4), duration=500.0)
    failed, completed = len(seconds(updates, "failed")), len(seconds(updates, "completed"))
    assert failed / (failed + completed) == pytest.approx(0.25, abs=0.01)
    # A run gets to its last step unless one of the three before it failed.
    assert len([s for _, _, s in seconds(updates, "installing") if s == 4]) / len(
        [s for _, _, s in seconds(updates, "installing") if s == 1]
    ) == pytest.approx(0.75**3, abs=0.02)


def test_failures_do_not_change_how_long_steps_take() -> None:
    def began(failure: float) -> list[float]:
        work = Provisioning(steps=5, step_time=Lognormal(1.0, 1.0), failure=failure, per_minute=60, runs=10)
        return [at for at, _, step in seconds(draw(work, machines=50, duration=120.0), "installing") if step == 1]

    assert began(0.0) == began(0.9)


def test_as_many_updates_as_expected_in_the_long_run() -> None:
    for work in (
        Provisioning(steps=5, step_time=Exponential(1.0), parallel=3),
        Provisioning(steps=5, step_time=Exponential(1.0), parallel=3, failure=0.2),
        Provisioning(steps=5, step_time=Exponential(1.0), per_minute=6),
        Provisioning(steps=5, step_time=Exponential(1.0), runs=7, parallel=9),
        Deployments(deploying=Exponential(2.0)),
    ):
        counts = [len(draw(work, duration=2000.0, machines=30, seed=seed)) for seed in range(10)]
        assert np.mean(counts) == pytest.approx(work.expected(2000.0, 30, 30), rel=0.04)


def test_durations_are_fitted_to_the_trace_step_by_step() -> None:
    traces = load_traces("stack")
    fits = fit_steps(traces)
    assert list(fits) == [step.name for step in traces[0].steps]
    for step, found in zip(traces[0].steps, fits.values(), strict=True):
        measured = [t.steps[step.step - 1].duration for t in traces]
        assert found.mean() == pytest.approx(np.mean([m for m in measured if m]), rel=0.1)


@pytest.mark.parametrize(("ended_at", "mean"), [(0.0, 0.0005), (2.0, 2.0), (1e13, None)])
def test_a_step_below_the_resolution_has_a_duration_and_one_beyond_all_is_refused(ended_at: float, mean: float | None) -> None:
    statuses: Any = [(0.0, "pending"), (0.0, "installing"), (ended_at, "completed")]
    trace = Trace(tuple(Transition(at, 1, "one", status) for at, status in statuses), name="odd")
    if mean is None:
        with pytest.raises(BadInput, match="trace odd: durations"):
            fit_steps((trace,))
    else:
        assert fit_steps((trace,))["one"].mean() == mean


def test_a_trace_without_a_completed_step_cannot_be_fitted(tmp_path: Path) -> None:
    two_steps(failed=True).write(tmp_path / "failed.jsonl")
    with pytest.raises(BadInput, match="no completed step to fit"):
        draw(Provisioning(str(tmp_path / "failed.jsonl")))


# --- deployments -------------------------------------------------------------------------------------------------------


def test_a_deployment_puts_its_site_through_installing_to_the_end() -> None:
    updates = list(draw(Deployments(per_minute=None, deploying=Always(5.0), runs=2, failure=1.0)))
    assert [(u.at_ns / SECOND, u.resource, u.resource_id, u.step, u.status) for u in updates] == [
        (0.0, "site", 1, 0, "installing"),
        (5.0, "site", 1, 0, "failed"),
        (5.0, "site", 2, 0, "installing"),
        (10.0, "site", 2, 0, "failed"),
    ]


def test_deployments_last_as_long_as_the_recorded_ones(recorded: str) -> None:
    # The two replicas last 3 and 6 s.
    assert Deployments(trace=recorded).length.mean() == pytest.approx(4.5, rel=0.05)
    assert Deployments("deploy").length.mean() == pytest.approx(np.mean([t.duration for t in load_traces("deploy")]), rel=0.05)


def test_failed_and_partial_runs_do_not_count_as_deployments(tmp_path: Path) -> None:
    two_steps(partial=True).write(tmp_path / "cut.jsonl")
    with pytest.raises(BadInput, match="no whole run to fit a duration to"):
        draw(Deployments(str(tmp_path / "cut.jsonl")))


def test_the_header_of_a_trace_may_hold_more_than_this_version_knows(tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    two_steps().write(path)
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(head) | {"weather": "fine"}), *rows]))
    assert len(load_trace(path).transitions) == 6
