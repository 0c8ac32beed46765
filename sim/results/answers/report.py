"""What a report notebook needs besides figures: its runs, its provenance card, its answer, its tables.

A notebook reads the runs named in the environment variable `RUN_DIR` (paths joined by `os.pathsep`; `workbench report` sets it)
and falls back to committed sample runs in data/runs, so the same file is a report on one's own run and a test.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.clock import SECOND
from sim.errors import BadInput, did_you_mean
from sim.files import read_text
from sim.results import text
from sim.results.answers.choices import describe
from sim.results.answers.compare import differing_keys
from sim.results.answers.conditions import (
    below,
    broken,
    conditions,
    enough,
    hold,
    is_valid,
    mostly_known,
    of_updates,
    same,
    small,
)
from sim.results.answers.standing import paragraphs, state, verdict
from sim.results.ledger.book import ledger_of
from sim.results.ledger.stages import STAGES
from sim.results.run import Manifest, Run
from sim.results.summary import metric_of
from sim.scenario import load_scenario, scenario_names, to_dict, to_text
from sim.shipped import shipped
from sim.workload import RESOURCES, Updates

if TYPE_CHECKING:
    from IPython.display import Markdown

VARIABLE = "RUN_DIR"

# Tables of a report show all of their columns and texts.
pd.set_option("display.max_colwidth", None)
pd.set_option("display.width", 160)
pd.set_option("display.max_columns", None)


def data_dir() -> Path:
    """The project's data directory, wherever the notebook runs."""
    return shipped("data")


def sample(name: str) -> Run:
    """A committed sample run by name; raises `BadInput` with the names there are."""
    directory = data_dir() / "runs" / name
    if not directory.is_dir():
        known = [path.name for path in (data_dir() / "runs").glob("*") if path.is_dir()]
        raise BadInput(f"no sample run {name!r}{did_you_mean(name, known)} (make samples)")
    return Run(directory)


def record(path: str | Path, made_by: str) -> dict[str, Any]:
    """What a command of the project found and wrote down as JSON, as the files in data. Raises `BadInput`."""
    try:
        found: dict[str, Any] = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read: {error} ({made_by} makes it)") from error
    return found


def runs(*samples: str) -> list[Run]:
    """The reader's own runs (`RUN_DIR`), else the named samples. Raises `BadInput` for what is not a bundle."""
    own = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [Run(path) for path in own] if own else [sample(name) for name in samples]


def run(name: str) -> Run:
    """The first of `runs(name)`: for a notebook that is about one run."""
    return runs(name)[0]


def updates_of(found: Run) -> Updates:
    """What a run's workload wanted and the application committed: so that a simulation meets the very same updates.

    What the workbench knows stays what it is, all others (a foreign application may have orders) are servers."""
    rows = found.updates[found.updates["committed_at"].notna()]
    at = (rows["intended_at"] * SECOND).round().astype("int64")
    kind = [RESOURCES.index(name) if name in RESOURCES else RESOURCES.index("server") for name in rows["resource"]]
    return Updates.of(at, kind, rows["resource_id"], 0)


def markdown(*paragraphs: str) -> Markdown:
    """Computed text, shown as Markdown. Texts of a bundle are among it: none of it is HTML."""
    from IPython.display import Markdown

    return Markdown("\n\n".join(paragraphs).replace("&", "&amp;").replace("<", "&lt;"))


def answer(*paragraphs: str, source: str = "") -> Markdown:
    """The answer of a report: the first paragraph stands out, the others say what it stands on; *source* is code to copy."""
    first, *others = paragraphs
    return markdown(f"> **{first}**", *others, *([fenced(source)] if source else []))


def fenced(source: str) -> str:
    return f"```tsx\n{source}\n```"


def code(source: str) -> Markdown:
    """Source to copy, shown as a block of code."""
    from IPython.display import Markdown

    return Markdown(fenced(source))


def labelled(some: Iterable[Run] | Run) -> dict[str, Run]:
    """Runs by what to call them: their directories' names, with the directory above where two have the same."""
    chosen = [some] if isinstance(some, Run) else list(some)
    for parts in (1, 2, 3):
        names = ["/".join(found.directory.resolve().parts[-parts:]) for found in chosen]
        if len(set(names)) == len(chosen):
            return dict(zip(names, chosen, strict=True))
    return {f"{name} ({i})": found for i, (name, found) in enumerate(zip(names, chosen, strict=True), start=1)}


def provenance(some: Iterable[Run] | Run) -> pd.DataFrame:
    """Where the figures come from: one column per run, from its manifest."""
    return pd.DataFrame({name: _card(found) for name, found in labelled(some).items()})


def standing(some: Iterable[Run] | Run) -> Markdown:
    """What a report begins with: how each run stands (`sim.results.answers.standing`)."""
    return markdown(*paragraphs(labelled(some)))


def command_of(found: Run) -> str:
    """The command that makes such a run again: its named scenario, and by `--set` what the run had otherwise."""
    program = "workbench " + ("simulate" if found.manifest.source == "simulated" else "loadtest")
    name, wanted = found.scenario.name, to_dict(found.scenario)
    if name not in scenario_names():
        return f"{program} SCENARIO.toml  # the keys of scenario {name!r} are in manifest.json of {found.name}"
    named = load_scenario(name)
    keys = differing_keys(to_dict(named), wanted)
    try:
        changes = {key: _leaf(wanted, key) for key in keys}
        sufficient = not differing_keys(to_dict(named.replace(changes)), wanted)
    except (BadInput, KeyError, IndexError, TypeError):
        sufficient = False
    if not sufficient:
        changes = {key: wanted[key] for key in dict.fromkeys(key.partition(".")[0] for key in keys)}
    sets = [f"--set {shlex.quote(f'{key}={to_text(value)}')}" for key, value in changes.items()]
    return " ".join([program, name, *sets])


def _leaf(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree


def require(frame: pd.DataFrame, otherwise: str) -> None:
    """Raise `BadInput` where a notebook has no rows to work on."""
    if frame.empty:
        raise BadInput(otherwise)


def _card(found: Run) -> dict[str, str]:
    manifest, scenario = found.manifest, found.scenario
    window, git, host = manifest.window, manifest.git, manifest.host
    length = text.seconds(window.get("end", 0) - window.get("start", 0))
    return {
        "run": f"{manifest.run_id}, {manifest.source}, {manifest.created_at}",
        "scenario": f"{scenario.name}, seed {manifest.seed}",
        "subscribers": text.number(scenario.subscribers),
        "policy": describe(scenario.policy),
        "window": f"{length} after {text.seconds(window.get('warmup', 0))} warm-up",
        "updates": _updates(found),
        "target": _target(manifest),
        "code": f"{git.get('commit', 'unknown')[:10]}{' with local changes' if git.get('dirty') else ''}",
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
        "machine": f"{host.get('system', '?')}, {host.get('machine', '?')}, {host.get('cores', '?')} cores",
        "clock": _clock(manifest.clock),
        "harness floor": _floor(manifest.harness),
        "verdict": verdict(found),
    } | ({"left out": "; ".join(left_out)} if (left_out := manifest.extra.get("left_out")) else {})


def _updates(found: Run) -> str:
    """`193 in the window, of 214`: those that figures are of, and all."""
    counted, every = text.number(len(ledger_of(found).counted)), text.number(len(found.updates))
    return every if counted == every else f"{counted} in the window, of {every}"


def _target(manifest: Manifest) -> str:
    """Where it was; the embedded one is called so."""
    if not manifest.target:
        return "none: virtual time"
    ws = manifest.target.get("ws", {})
    url = f"{ws.get('scheme', '?')}://{ws.get('host', '?')}:{ws.get('port', '?')}, API {manifest.target.get('api') or 'none'}"
    return f"embedded target, {url}" if manifest.extra.get("embedded") else url


def _clock(clock: Mapping[str, Any]) -> str:
    if not clock:
        return text.NONE
    return f"offset {text.seconds(clock.get('offset'))} ± {text.seconds(clock.get('error'))} ({clock.get('method', 'unknown')})"


def _floor(harness: Mapping[str, Any]) -> str:
    if harness.get("floor_p99") is None:
        return text.NONE
    return f"p50 {text.seconds(harness.get('floor_p50'))}, p99 {text.seconds(harness['floor_p99'])}"


def windows(frame: pd.DataFrame) -> pd.DataFrame:
    """`timeline.windows` as a table to read."""
    return shown(frame.rename(index=lambda at: f"{at:.1f} s"))


def unless_empty(frame: pd.DataFrame, otherwise: str) -> pd.DataFrame | Markdown:
    """The table, or in words that there is nothing in it."""
    return frame if len(frame) else markdown(f"*{otherwise}*")


SECONDS = re.compile(
    rf"({'|'.join(STAGES)}|mean|first|median|last|total|theory|at|span|drain|intended_at|(\w+_)?(mean|p\d+(\.\d+)?)|wait_\w+)"
)
SHARES = ("share", "never_share", "wasted", "off")
RATES = ("peak", "answered", "offered")
"""Columns of this project's tables that hold durations, shares, and rates; all others hold counts or texts."""


def shown(frame: pd.DataFrame, **units: Any) -> pd.DataFrame:
    """A frame as a table to read: durations, shares and numbers as texts, by the names of the columns or as *units* says.

    *units*: column -> formatter of `sim.results.text`.
    """

    def unit(name: str) -> Any:
        known = text.seconds if SECONDS.fullmatch(name) else text.percent if name in SHARES else text.number
        return units.get(name, text.per_second if name in RATES else known)

    def column(name: str) -> list[str]:
        return [
            unit(name)(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
            for value in frame[name].tolist()
        ]

    return pd.DataFrame({name: column(name) for name in frame.columns}, index=frame.index)


def side_by_side(summaries: Mapping[str, text.Summary], metrics: Iterable[str]) -> pd.DataFrame:
    """The named metrics of several summaries and what they mean, as texts: a column per summary, `figure (95 % interval)`."""

    def cell(summary: text.Summary, metric: str) -> str:
        row = summary.get(metric, {})
        return text.with_interval(text.value(summary, metric), row.get("ci_low"), row.get("ci_high"), text.unit_of(metric))

    known = [metric for metric in metrics if any(metric in summary for summary in summaries.values())]
    cells = {name: {metric: cell(summary, metric) for metric in known} for name, summary in summaries.items()}
    return pd.DataFrame(cells, index=pd.Index(known, name="metric")).join(glossary(known))


def glossary(metrics: Iterable[str]) -> pd.DataFrame:
    """What the named metrics mean."""
    known = {metric: metric_of(metric) for metric in metrics}
    return pd.Series({metric: found.meaning if found else "" for metric, found in known.items()}, name="meaning").to_frame()
