"""What was heard of a live application, in figures and as a scenario."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from sim.errors import BadInput
from sim.results.answers.heard import figures, scenario_of
from sim.scenario import Pages, Publisher, Scenario
from sim.workload import Superposition, Tasks

ROWS = [("server", 1, 0.0), ("server", 1, 0.5), ("server", 2, 0.6), ("server", 1, 5.0), ("site", 0, 1.0), ("site", 0, -2.0)]


def listened(rows: list[tuple[str, int, float]], channels: list[str] | None = None, via: str = "none") -> Any:
    pages = (Pages(subscribers=7, channels=("private-servers.{id}",), ids="servers"), Pages(1, channels=("private-servers",)))  # type: ignore[arg-type]
    return SimpleNamespace(
        name="heard",
        directory="runs/heard",
        updates=pd.DataFrame(rows, columns=["resource", "resource_id", "published_at"]),
        notifications=pd.DataFrame({"channel": channels or ["private-servers.1", "private-servers"]}),
        manifest=SimpleNamespace(target={"users": 3}),
        scenario=Scenario(name="listen", duration=10, pages=pages, publisher=Publisher(via=via)),  # type: ignore[arg-type]
    )


def test_gaps_and_bursts() -> None:
    found = figures(listened(ROWS))
    burst = {"bursts": 3, "burst_mean": pytest.approx(4 / 3), "burst_max": 2}
    gaps = {"gap_p50": 0.5, "gap_max": pytest.approx(4.4)}
    assert found["server"] == {"events": 4, "resources": 2} | gaps | burst
    assert (found["site"]["events"], found["site"]["resources"], found["site"]["bursts"]) == (1, 0, 0)


def test_a_scenario_has_what_was_heard() -> None:
    found = scenario_of(listened(ROWS[:4]))
    assert (found.fleet.users, found.fleet.servers, found.fleet.sites) == (3, 9, 3)
    assert (found.workload.sizes, found.workload.weights) == ((1, 1, 2), (2.0, 1.0))
    assert [(pages.page, pages.subscribers) for pages in found.pages] == [("detail", 7), ("dashboard", 3)]


def test_what_names_no_resource_hits_all_alike() -> None:
    found = scenario_of(listened([("server", 0, 0.0), ("server", 0, 0.1), ("server", 0, 5.0)], ["private-servers"]))
    assert (found.workload.sizes, found.workload.weights) == ((1, 1, 1), ())
    assert found.broadcast.channels == "generic"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["private-servers.1"], "specific"),
        (["private-servers"], "generic"),
        (["private-servers", "private-sites.1"], "both"),
        (["private-users.3.servers"], "per_user"),
    ],
)
def test_on_which_channels(names: list[str], kind: str) -> None:
    assert scenario_of(listened(ROWS, names)).broadcast.channels == kind


def test_the_ends_of_tasks_are_no_changes_of_servers() -> None:
    ends = [("task", 3, 2.0), ("task", 3, 7.0)]
    run = listened(ROWS[:4] + ends, ["private-servers.1", "private-tasks.3"])
    tasks_page = Pages(subscribers=7, channels=("private-tasks.{id}",), ids="servers")
    run.scenario = dataclasses.replace(run.scenario, pages=(*run.scenario.pages, tasks_page))
    found, without = scenario_of(run), scenario_of(listened(ROWS[:4], ["private-servers.1"]))
    assert isinstance(found.workload, Superposition)
    heard, tasks = found.workload.parts
    assert (heard, found.fleet, found.broadcast) == (without.workload, without.fleet, without.broadcast)
    assert isinstance(tasks, Tasks)
    assert tasks.expected(10, found.fleet.servers) == pytest.approx(2)
    assert [(pages.page, pages.subscribers) for pages in found.pages] == [("detail", 7), ("dashboard", 3), ("task", 7)]
    assert isinstance(scenario_of(listened(ends)).workload, Tasks)


def test_not_enough_or_no_listening_is_said() -> None:
    with pytest.raises(BadInput, match=r"runs/heard: 1 bursts were heard.*--for 10m"):
        scenario_of(listened(ROWS[:2]))
    with pytest.raises(BadInput, match="no bundle of workbench listen"):
        scenario_of(listened(ROWS, via="routes"))
