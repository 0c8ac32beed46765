"""What a live application broadcasts, heard without changing anything."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from sim import cli
from sim.commands import doctor, listen, options
from sim.commands.listen import CHANNELS, _rows, _scenario
from sim.errors import BadInput
from sim.live.doctor.checks import Patient
from sim.target import Account, Target
from tests.standin import application
from tests.standin.setup import Setup, standing_in_a_thread

SHOP = Target(
    "h", 1, "http", "1", "k", "s", users=(Account(1, "t", (1, 2), (), (("orders", ("a", "b", "c")),)), Account(2, "t", (2, 3)))
)


@pytest.mark.parametrize(("text", "found"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), (" 5 s", 5)])
def test_times(text: str, found: float) -> None:
    assert options.seconds("--for", text) == found


@pytest.mark.parametrize("text", ["", "0", "-5", "5d", "m", "1e3", "inf"])
def test_no_time(text: str) -> None:
    with pytest.raises(BadInput, match="--for must be a time"):
        options.seconds("--for", text)


def test_a_page_for_each_resource_and_one_for_each_generic_channel() -> None:
    scenario = _scenario(SHOP, 60, [], "")
    assert [(pages.channels, pages.ids, pages.subscribers) for pages in scenario.pages] == [
        (("private-servers.{id}",), "servers", 3),
        (("private-servers",), "servers", 1),
        (("private-sites",), "sites", 1),
    ]
    own = _scenario(SHOP, 60, ["private-orders.{id}", "orders"], "")
    assert [(pages.ids, pages.subscribers) for pages in own.pages] == [("orders", 3), ("orders", 1)]
    assert _scenario(SHOP, 60, ["private-shop.order.{id}"], "orders").pages[0].subscribers == 3
    with pytest.raises(BadInput, match="owns any bikes"):
        _scenario(SHOP, 60, ["private-bikes.{id}"], "")


def test_doctor_and_listen_say_their_channels_alike() -> None:
    said = []
    for command, defaults in ((doctor, Patient.templates), (listen, CHANNELS)):
        parser = argparse.ArgumentParser()
        command.configure(parser)
        channel, ids = ({action.dest: action.help or "" for action in parser._actions}[name] for name in ("channel", "ids"))
        assert all(name in channel for name in defaults)
        said.append(ids)
    assert said[0] == said[1] != ""


def test_its_lines() -> None:
    figures = {"events": 4, "resources": 2, "gap_p50": 0.5, "gap_max": 4.4, "bursts": 3, "burst_mean": 4 / 3, "burst_max": 2}
    assert next(_rows({"server": figures}, 10)) == ("server", "4 events of 2, 0.4/s")


@pytest.mark.loopback
@pytest.mark.slow
def test_a_live_application_is_heard_and_asked_for_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with standing_in_a_thread(Setup(application=application.Switches(keys="uuid")), changes=20) as target:
        target.write(tmp_path / "target.json")
        command = ["listen", "--target", str(tmp_path / "target.json"), "--for", "2", "-o", str(tmp_path / "heard"), "--json"]
        assert cli.main(command) == 0
    found = json.loads(capsys.readouterr().out)["heard"]
    assert set(found) == {"server"}
    assert found["server"]["events"] > 0
    assert found["server"]["resources"] <= 4
    # What was heard is a scenario that can be simulated, and that is not made over another file.
    new = str(tmp_path / "new.toml")
    assert cli.main(["scenario", new, "--from", str(tmp_path / "heard"), "--set", "duration=5"]) == 0
    assert cli.main(["simulate", new]) == 0
    assert cli.main(["scenario", new, "--from", str(tmp_path / "heard")]) == 2
