"""Events that `workbench listen` heard of a live application: figures, and a scenario whose changes come in the same way."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd

from sim.distributions import Constant
from sim.errors import BadInput
from sim.results.run import Run
from sim.scenario import Broadcast, Fleet, Pages, Scenario
from sim.workload import BURST, Superposition, Tasks, Workload
from sim.workload import heard as workload_of

TASKS = "private-tasks."
"""How the channels of tasks begin; each event there is one that has ended."""


def is_heard(run: Run) -> bool:
    """Whether the run is a bundle of `workbench listen`, without updates of its own."""
    return run.scenario.publisher.via == "none"


def _rows(run: Run) -> pd.DataFrame:
    """Events heard in the time of listening, in their order."""
    return run.updates[run.updates["published_at"].between(0, run.scenario.duration)].sort_values("published_at")


def figures(run: Run) -> dict[str, dict[str, Any]]:
    """By resource: events, how many different ones of it, gaps (seconds, of all together), bursts of one resource."""
    found = {}
    rows = _rows(run)
    for resource, mine in rows.groupby(rows["resource"].astype(str)):
        at, one = mine["published_at"].to_numpy(), mine[mine["resource_id"] != 0]
        gaps = np.diff(at)
        bursts = _bursts(one)
        found[str(resource)] = {
            "events": len(mine),
            "resources": int(one["resource_id"].nunique()),
            "gap_p50": float(np.median(gaps)) if len(gaps) else None,
            "gap_max": float(gaps.max()) if len(gaps) else None,
            "bursts": len(bursts),
            "burst_mean": float(bursts.mean()) if len(bursts) else None,
            "burst_max": int(bursts.max()) if len(bursts) else None,
        }
    return found


def _bursts(rows: pd.DataFrame) -> np.ndarray:
    """Events of each burst."""
    if rows.empty:
        return np.array([], dtype=int)
    rows = rows.sort_values(["resource_id", "published_at"])
    begins = (rows["resource_id"].diff() != 0) | (rows["published_at"].diff() > BURST)
    return np.asarray(begins.cumsum().value_counts().to_numpy())


def scenario_of(run: Run) -> Scenario:
    """A scenario whose updates come as those that were heard: the same gaps, bursts and resources, on the same channels.

    How many pages are open cannot be heard: it has one for each resource, and a dashboard for each user. Sites stay sites, and
    tasks tasks, which end at random as often as was heard; all else is a server. Raises `BadInput` where the run is no
    bundle of listening, or too little was heard.
    """
    if not is_heard(run):
        raise BadInput(f"{run.directory} is no bundle of workbench listen: its own scenario is {run.scenario.name}")
    rows = _rows(run)
    of_task = rows["resource"].astype(str) == "task"
    heard, unnamed = _by_resource(rows[~of_task])
    named = [pages for pages in run.scenario.pages if any("{id}" in channel for channel in pages.channels)]
    task_pages = [pages for pages in named if pages.channels[0].startswith(TASKS)]
    others = [pages for pages in named if pages not in task_pages]
    known = {ids: sum(pages.subscribers for pages in others if pages.ids == ids) for ids in ("servers", "sites")}
    users = max(1, int((run.manifest.target or {}).get("users") or 1))
    servers, sites = (max(1, known[ids], 0 if unnamed else len(some)) for ids, some in zip(known, heard, strict=True))
    pages = [Pages("detail", servers), Pages("dashboard", users)]
    if watched := sum(some.subscribers for some in task_pages):
        pages.append(Pages("task", watched))
    return Scenario(
        name=run.name,
        description=f"changes as heard in {run.scenario.duration:g} s; set how many pages are open",
        duration=max(60.0, run.scenario.duration),
        fleet=Fleet(users, math.ceil(servers / users), math.ceil(sites / users)),
        workload=_workload(run, heard, unnamed, int(of_task.sum())),
        pages=tuple(pages),
        broadcast=Broadcast(channels=_channels(run)),
    )


def _by_resource(rows: pd.DataFrame) -> tuple[tuple[list[np.ndarray], list[np.ndarray]], bool]:
    """(instants at which each server changed, and each site; whether some events name no resource).

    What came on a generic channel only names none: each such event is then one of a resource of its own.
    """
    names, number = rows["resource"].astype(str).to_numpy(), rows["resource_id"].to_numpy()
    owners = np.where(number != 0, number, -np.arange(1, len(rows) + 1))
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for (name, _), at in rows.groupby([names, owners])["published_at"]:
        found[str(name) == "site"].append(at.to_numpy())
    return found, bool((owners < 0).any())


def _workload(run: Run, heard: tuple[list[np.ndarray], list[np.ndarray]], unnamed: bool, tasks: int) -> Workload:
    """What servers and sites were heard to change, and as many ends of *tasks*. Raises `BadInput` where that is too little."""
    ends = Tasks(per_minute=60 * tasks / run.scenario.duration, takes=Constant(0.001))
    if tasks and not any(heard):
        return ends
    try:
        workload = workload_of(*heard)
    except ValueError as error:
        raise BadInput(f"{run.directory}: {error} (listen for longer: workbench listen --for 10m)") from error
    if unnamed:  # which were hit is not known: all alike
        workload = dataclasses.replace(workload, weights=(), site_weights=())
    return Superposition((workload, ends)) if tasks else workload


def _channels(run: Run) -> Any:
    """On which kind of channel events came: those that end in a resource's id, those that do not, or both."""
    names = [name for name in run.notifications["channel"].astype(str).unique() if not name.startswith(TASKS)]
    specific = [name.rpartition(".")[2] != name for name in names]
    if any("users." in name for name in names):
        return "per_user"
    return "both" if len(set(specific)) != 1 else "specific" if specific[0] else "generic"
