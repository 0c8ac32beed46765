"""What is measured against a server that does nothing but send, and what a plan makes of it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from sim.errors import InvalidRun
from sim.live.capacity import calibration, capacity
from sim.live.capacity.calibration import Calibration, machine_key
from sim.live.capacity.capacity import LoadMachine
from sim.scenario import Scenario

RULER = Calibration(
    subscribers=1000,
    floor_p50=3e-6,
    floor_p99=6e-6,
    lag_p50=0.005,
    lag_p99=0.01,
    drain_rate=90_000,
    cpu_per_message=10e-6,
    connect_rate=2000,
    memory_per_subscriber=16_000,
    memory_base=100e6,
    receive_stamp="kernel",
    measured_at="2026-01-01T00:00:00Z",
    machine=machine_key(),
)
LAPTOP = LoadMachine(cores=4, memory=16 * 2**30, descriptors=65_536, ports=28_232)
HALF = Scenario().replace(
    {
        "fleet.users": 5,
        "fleet.servers_per_user": 2,
        "workload.rate": 2.0,
        "pages": [{"page": "detail", "subscribers": 1}, {"page": "dashboard", "subscribers": 1}],
    }
)


@pytest.mark.loopback
@pytest.mark.slow
def test_every_message_arrives_and_no_figure_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "CALM", 3)
    monkeypatch.setattr(calibration, "CALM_FLOOR", float("inf"))  # The machine of the tests is busy.
    monkeypatch.setattr(calibration, "PATIENCE", 300.0)
    measured = calibration.calibrate(subscribers=20)
    assert 0 < measured.floor_p50 <= measured.floor_p99
    assert 0 <= measured.lag_p50 <= measured.lag_p99
    assert 0 < measured.drain_rate < math.inf
    assert measured.memory_base > 0
    assert measured.receive_stamp in ("kernel", "read")
    assert measured.machine == machine_key()


def test_it_is_kept_for_this_machine_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert calibration.stored() is None
    path = calibration.store(RULER)
    assert calibration.stored() == RULER
    calibration.store(dataclasses.replace(RULER, machine="another kernel"))
    assert calibration.stored() is None
    path.write_text("{")
    assert calibration.stored() is None


def test_what_a_busy_machine_measures_is_repeated_refused_and_never_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    busy = dataclasses.replace(RULER, floor_p50=4e-6, floor_p99=0.345)
    calibration.store(busy)
    assert calibration.stored() is None, "as an earlier workbench kept it"
    said: list[str] = []

    def measures(*found: Calibration) -> None:
        left = iter(found)

        async def measure(*_: object) -> Calibration:
            return next(left)

        monkeypatch.setattr(calibration, "_measure", measure)

    measures(busy, busy, RULER)
    assert calibration.calibrate(10, said.append) == RULER
    assert said == ["this machine is busy: the floor's p99 is 345.0 ms, with a median of 0.004 ms; measuring again"] * 2
    measures(busy, busy, busy)
    with pytest.raises(InvalidRun, match=r"too busy to calibrate: the floor's p99 is 345\.0 ms"):
        calibration.calibrate(10)


def test_messages_per_second_counts_who_hears() -> None:
    # Each of 2 updates a second reaches all dashboards and a tenth of the detail pages.
    plan = capacity.plan(HALF.with_subscribers(2000), RULER, LAPTOP)
    assert plan.messages_per_second == pytest.approx(2 * (1000 + 100))


@pytest.mark.parametrize(
    ("subscribers", "workers", "decided_by", "machines"),
    [(100, 1, "one at least", 1), (5_000, 1, "one at least", 1), (10_000, 2, "burst", 1), (100_000, 20, "burst", 5)],
)
def test_a_broadcast_to_all_decides_how_many_processes(subscribers: int, workers: int, decided_by: str, machines: int) -> None:
    plan = capacity.plan(HALF.with_subscribers(subscribers), RULER, LAPTOP)
    assert (plan.workers, plan.machines) == (workers, machines)
    assert plan.limits[decided_by] == workers
    assert plan.ports <= LAPTOP.ports


def test_few_descriptors_ask_for_more_processes() -> None:
    poor = dataclasses.replace(LAPTOP, descriptors=1_024)
    plan = capacity.plan(HALF.with_subscribers(3_000), RULER, poor)
    assert plan.decided_by == "descriptors"
    assert plan.descriptors_per_worker <= poor.descriptors
    each = HALF.replace({"load.http": "per_subscriber"}).with_subscribers(3_000)
    assert capacity.plan(each, RULER, poor).workers > plan.workers


def test_many_messages_ask_for_more_processes() -> None:
    busy = HALF.replace({"workload.rate": 100.0}).with_subscribers(4_000)
    plan = capacity.plan(busy, RULER, LAPTOP)
    assert plan.decided_by == "messages"
    assert plan.workers * RULER.drain_rate * capacity.USE >= plan.messages_per_second


def test_little_memory_asks_for_more_machines() -> None:
    small = dataclasses.replace(LAPTOP, memory=2**28)
    assert capacity.plan(HALF.with_subscribers(10_000), RULER, small).machines > 1


def test_one_machine_alone_holds_what_descriptors_ports_and_memory_allow() -> None:
    here = dataclasses.replace(LAPTOP, cores=2, descriptors=20_000, ports=28_232, memory=24 * 2**30)
    plan = capacity.plan(HALF.with_subscribers(50_000), RULER, here)
    assert (plan.alone, plan.nodes_alone) == (3, 3)
    for changed in ({"descriptors": 60_000}, {"ports": 60_000}):
        assert capacity.plan(HALF.with_subscribers(50_000), RULER, dataclasses.replace(here, **changed)).alone <= 3
    assert capacity.plan(HALF.with_subscribers(50_000), RULER, dataclasses.replace(here, memory=2**30)).alone == 0
    assert capacity.plan(HALF.with_subscribers(5_000), RULER, here).nodes_alone == 1
