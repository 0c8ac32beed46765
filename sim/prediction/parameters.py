"""What was fitted: parameters with intervals, their joint draws, and the range in which they were measured. A JSON file.

    fit = read("target.fit.json")
    fit.apply(scenario)                          # the scenario with the point values
    scenario.replace(fit.draw(rng, scenario))    # ... with one joint draw: what was estimated together stays together

A parameter is a key of a scenario (`broadcaster.per_subscriber`), or a cost that no scenario has (`cpu.broadcaster.per_event`,
see `Fit.costs`). What the runs do not identify has no value: the scenario's stands, and `needs` names the run that would tell.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sim.errors import BadInput
from sim.files import read_text
from sim.scenario import Scenario, build

VERSION = 1
"""Of the file: grows when a member changes its meaning."""

PROCESSES = ("cpu.", "memory.")
"""What the keys of costs begin with that are not keys of a scenario."""

REST = "rest."
"""What the key of a power has in front, with which a parameter grows with the time between changes (`Fit.rested`)."""

WHOLE = {"broadcaster.cost": 1.0}
"""What a fitted cost of the broadcaster makes void: it is of this machine as it stands."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its value (as TOML holds it; a distribution is a table), and the 95 % interval of it or of its mean."""

    key: str
    value: Any = None
    """None: not identified."""
    low: float | None = None
    high: float | None = None
    """None: no interval (a choice, or too few events)."""
    unit: str = ""
    identified: bool = True
    needs: str = ""
    """Of one that is not identified: why not, and the run that would tell."""
    made_from: str = ""
    n: int = 0
    """Events (or refetches) that it was fitted to."""

    @property
    def mean(self) -> float | None:
        """The value as a number: of a distribution its mean; None where it has none."""
        if isinstance(self.value, Mapping):
            scenario: Scenario = build(Scenario, {"network": {"to_api": dict(self.value)}}, where=self.key)
            return scenario.network.to_api.mean()
        return float(self.value) if isinstance(self.value, int | float) and not isinstance(self.value, bool) else None


@dataclass(frozen=True, slots=True)
class Residual:
    """One figure of one fitted run: as measured, and as the simulator has it with the fitted point values."""

    run: str
    metric: str
    measured: float
    fitted: float
    subscribers: int = 0

    @property
    def off(self) -> float:
        """fitted / measured - 1."""
        return self.fitted / self.measured - 1


@dataclass(frozen=True, slots=True)
class Fit:
    """The parameters of one target on one machine, from one or several runs."""

    parameters: tuple[Parameter, ...]
    scenario: Mapping[str, Any]
    """Of the first run, as TOML holds it: what a prediction starts from."""
    draws: tuple[Mapping[str, Any], ...] = ()
    """Joint draws (bootstrap of events, or of runs): key -> value, of the identified parameters that are estimated."""
    residuals: tuple[Residual, ...] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Measured, least and most: subscribers, rate (updates/s), receivers (per event), refetch_rate (peak, 1/s)."""
    runs: tuple[Mapping[str, Any], ...] = ()
    """{name, run_id, subscribers, updates, seconds} of each."""
    target: Mapping[str, Any] = field(default_factory=dict)
    """What was measured, without secrets: what the runs share (broadcaster, machine, api.workers)."""
    version: int = VERSION

    @property
    def identified(self) -> dict[str, Any]:
        """Key -> value of what the runs identify."""
        return {parameter.key: parameter.value for parameter in self.parameters if parameter.identified}

    @property
    def costs(self) -> dict[str, float]:
        """Costs of processes: `cpu.<process>.<per>` (s), `memory.<process>.<per>` (bytes)."""
        return {key: float(value) for key, value in self.identified.items() if key.startswith(PROCESSES)}

    def overrides(self, values: Mapping[str, Any], scenario: Scenario) -> dict[str, Any]:
        """Of *values* the keys of a scenario, for *scenario*'s `replace`: those that depend on it as they are at its rate."""
        found = {key: value for key, value in values.items() if not key.startswith((*PROCESSES, REST))}
        rested = self.rested(scenario)
        for key in found:
            if exponent := values.get(REST + key):
                found[key] = _times(found[key], rested**exponent)
        return WHOLE | found if any(key.startswith("broadcaster.") for key in found) else found

    def rested(self, scenario: Scenario) -> float:
        """Mean seconds between the changes of *scenario*, within what was measured: beyond it nothing is known."""
        low, high = self.ranges.get("rate", (1.0, 1.0))
        count = scenario.workload.expected(scenario.duration, scenario.fleet.servers, scenario.fleet.sites)
        return 1 / max(min(max(count / max(scenario.duration, 1e-9), low), high), 1e-9)

    def apply(self, scenario: Scenario) -> Scenario:
        """*scenario* with the point values in place."""
        return scenario.replace(self.overrides(self.identified, scenario))

    def draw(self, rng: np.random.Generator, scenario: Scenario) -> dict[str, Any]:
        """One joint draw: key -> value for *scenario*'s `replace`; the point values where there are no draws."""
        return self.overrides(self.drawn(rng), scenario)

    def drawn(self, rng: np.random.Generator) -> dict[str, Any]:
        """One joint draw of everything that is identified, the costs of processes among it."""
        row = self.draws[int(rng.integers(len(self.draws)))] if self.draws else {}
        return self.identified | dict(row)

    def base(self) -> Scenario:
        """The scenario of the first fitted run, with the point values in place. Raises `BadInput`."""
        scenario: Scenario = build(Scenario, dict(self.scenario), where="the fit's scenario")
        return self.apply(scenario)

    def write(self, path: str | Path) -> None:
        """Raises `BadInput` where that is not possible."""
        tree = asdict(self)
        try:
            Path(path).write_text(json.dumps(tree, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise BadInput(f"cannot write {path}: {error.strerror or error}") from error


def _times(value: Any, factor: float) -> Any:
    """A number or a fitted distribution, as TOML holds it, times *factor*."""
    if isinstance(value, Mapping):
        return {key: _times(member, factor) if key in ("value", "values") else member for key, member in value.items()}
    return [one * factor for one in value] if isinstance(value, list | tuple) else value * factor


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} in the place of a number")


def read(path: str | Path) -> Fit:
    """Raises `BadInput` where it is no such file, or a damaged one."""
    try:
        tree = json.loads(read_text(path), parse_constant=_refuse)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error} (workbench fit RUN -o FIT makes one)") from error
    except ValueError as error:
        raise BadInput(f"{path}: not a fit: {error} (workbench fit RUN -o FIT makes one)") from error
    known = {f.name for f in fields(Fit)}
    whole = isinstance(tree, dict) and {"parameters", "scenario", "version"} <= set(tree) <= known
    if not whole or not isinstance(tree["scenario"], dict):
        raise BadInput(f"{path}: not a fit (workbench fit RUN -o FIT makes one)")
    if tree["version"] != VERSION:
        raise BadInput(f"{path}: version {tree['version']!r} of a fit, this workbench reads {VERSION} (make it anew)")
    try:
        return _sound(
            Fit(
                parameters=tuple(Parameter(**row) for row in tree["parameters"]),
                residuals=tuple(Residual(**row) for row in tree.get("residuals", ())),
                ranges={str(key): (float(low), float(high)) for key, (low, high) in tree.get("ranges", {}).items()},
                scenario=dict(tree["scenario"]),
                draws=tuple(map(dict, tree.get("draws", ()))),
                runs=tuple(map(dict, tree.get("runs", ()))),
                target=dict(tree.get("target", {})),
            )
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise BadInput(f"{path}: damaged fit: {error}") from error


def _sound(fit: Fit) -> Fit:
    """*fit*, where a prediction can be made of it. Raises ValueError, or what a part raises that is of another kind."""
    if bad := next((key for key, (low, high) in fit.ranges.items() if not 0 <= low <= high < math.inf), None):
        raise ValueError(f"its range of {bad} is not two numbers >= 0, the smaller first")
    known = {parameter.key for parameter in fit.parameters}
    if strange := sorted({key for row in fit.draws for key in row} - known):
        raise ValueError(f"it draws {', '.join(strange)}, which is not among its parameters")
    for costs in (fit.identified, *fit.draws):
        for key in filter(lambda key: key.startswith(PROCESSES), costs):
            float(costs[key])
    fit.base()
    return fit
