"""Scenario: the one frozen configuration of a run, read by the simulator and the load test alike.

Imported by everything that runs.

`model` has the dataclasses, one field per key; `tree` builds them from plain trees; `reading` reads and writes TOML.
"""

from sim.scenario.model import (
    Api,
    Behaviour,
    Broadcast,
    Broadcaster,
    Fleet,
    Load,
    Network,
    PageKind,
    Pages,
    Publisher,
    Scenario,
)
from sim.scenario.reading import SCENARIO_DIR, load_scenario, parse_assignments, parse_value, to_toml
from sim.scenario.tree import build, to_dict

__all__ = [
    "SCENARIO_DIR",
    "Api",
    "Behaviour",
    "Broadcast",
    "Broadcaster",
    "Fleet",
    "Load",
    "Network",
    "PageKind",
    "Pages",
    "Publisher",
    "Scenario",
    "build",
    "load_scenario",
    "parse_assignments",
    "parse_value",
    "to_dict",
    "to_toml",
]
