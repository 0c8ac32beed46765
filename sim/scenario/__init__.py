"""Scenario: the one frozen configuration of a run, read by the simulator and the load test alike.

Imported by everything that runs.

`model` has the dataclasses, one field per key; `tree` builds them from plain trees; `reading` reads and writes TOML; `keys` lists
every key and refuses what a program cannot honour.
"""

from sim.scenario.keys import Key, keys, kinds, not_honoured, of_the_target, require_honoured
from sim.scenario.model import (
    Api,
    Broadcast,
    Broadcaster,
    Fleet,
    Load,
    Network,
    Pages,
    Publisher,
    Scenario,
)
from sim.scenario.reading import (
    SCENARIO_DIR,
    find_scenario,
    load_scenario,
    parse_assignments,
    parse_value,
    scenario_names,
    to_text,
    to_toml,
)
from sim.scenario.tree import build, to_dict
