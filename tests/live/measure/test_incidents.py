"""Incidents in their order, without a target and without waiting."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sim.errors import BadInput
from sim.incidents import Deploy, Disconnect, Outage, Restart, Slowdown
from sim.live.measure.incidents import Player, require_playable
from sim.live.processes import Child


class Target:
    """Notes what is done to it; a part accepts two looks after it was brought up."""

    pids: dict[str, int] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.looks = 0

    def ended(self) -> list[Child]:
        return []

    def take_down(self, part: str, number: int) -> None:
        self.done.append(("down", part, signal.Signals(number).name))

    def bring_up(self, part: str) -> None:
        self.done.append(("up", part))
        self.looks = 0

    def is_up(self, part: str) -> bool:
        self.looks += 1
        return self.looks > 2

    def disconnect(self, share: float) -> int:
        self.done.append(("disconnect", share))
        return 7

    def control(self, **members: Any) -> None:
        self.done.append(members)


def played(*incidents: Any, until: float = 10.0) -> tuple[list[Any], list[dict[str, Any]]]:
    """What was done to the target, each with the time; and the rows."""
    target = Target()
    player = Player(incidents, target)
    timeline = []
    for tick in range(round(until * 10) + 1):
        before = len(target.done)
        player.play(tick / 10)
        timeline += [(tick / 10, what) for what in target.done[before:]]
    return timeline, player.rows


def test_a_restart_is_over_when_it_accepts_again() -> None:
    done, (row,) = played(Restart(at=2.0, down=1.5, signal="SIGKILL"))
    assert done == [(2.0, ("down", "broadcaster", "SIGKILL")), (3.5, ("up", "broadcaster"))]
    assert (row["began_at"], row["ended_at"]) == (2.0, pytest.approx(3.7))


def test_a_release_takes_both_down_and_its_pages_have_old_assets() -> None:
    done, _ = played(Deploy(at=1.0, down=0.0))
    assert [what for _, what in done] == [
        ("down", "broadcaster", "SIGTERM"),
        ("down", "application", "SIGTERM"),
        ("up", "application"),
        ("up", "broadcaster"),
        {"asset_version": "release 2"},
    ]


def test_outage_and_slowdown_end_after_their_duration() -> None:
    done, rows = played(Slowdown(at=4.0, duration=1.0, factor=5.0), Outage(at=1.0, duration=2.0))
    assert done == [(1.0, {"outage": True}), (3.0, {"outage": False}), (4.0, {"slowdown": 5.0}), (5.0, {"slowdown": 1})]
    assert [(row["kind"], row["began_at"], row["ended_at"]) for row in rows] == [("outage", 1.0, 3.0), ("slowdown", 4.0, 5.0)]


def test_what_was_not_reached_has_no_end() -> None:
    _, rows = played(Outage(at=1.0, duration=20.0), Disconnect(at=3.0, share=0.5), Restart(at=30.0))
    assert [(row["kind"], row["ended_at"]) for row in rows] == [("outage", None), ("disconnect", 3.0)]
    assert rows[1]["dropped"] == 7


def test_a_target_of_ones_own_is_broken_by_a_command_whose_exit_code_is_kept(tmp_path: Path) -> None:
    fails = (sys.executable, "-c", "import sys; print('no such container'); sys.exit(3)")
    player = Player([Restart(at=0.0, command=fails), Outage(at=0.0, command=("/no/such/program",))], None, tmp_path)
    deadline = time.monotonic() + 30
    while len([row for row in player.rows if row["ended_at"] is not None]) < 2 and time.monotonic() < deadline:
        player.play(1.0)
        time.sleep(0.01)
    assert [row["exit_code"] for row in player.rows] == [3, None]
    assert player.rows[1]["said"] == "No such file or directory"
    assert "no such container" in (tmp_path / "incident-1.log").read_text()
    player.close()


def test_a_command_is_for_a_target_of_ones_own_and_needed_there() -> None:
    with_and_without = [Restart(command=("docker", "restart", "reverb")), Outage()]
    with pytest.raises(BadInput, match=r"incidents\[1\]: outage of a target that is not started by this command needs command"):
        require_playable(with_and_without, embedded=False)
    with pytest.raises(BadInput, match=r"incidents\[0\]: restart of the embedded target takes no command: .*'docker' would not"):
        require_playable(with_and_without, embedded=True)
    require_playable(with_and_without[:1], embedded=False)
    require_playable(with_and_without[1:], embedded=True)
