"""Small runs in memory: tables by the bundle's schemas, hand-written or drawn at random."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sim.results.frames import typed
from sim.results.run import TABLES
from sim.results.upgrade import lives

NAN = float("nan")

DEFAULTS: dict[str, dict[str, Any]] = {
    "updates": {"resource": "server", "resource_id": 1, "status": "committed"},
    "notifications": {"channel": "private-servers.1", "read_at": NAN},
    "refetches": {"resource": "server", "resource_id": 1, "status": 200, "bytes": 100, "answered": 1, "outcome": "applied"},
    "subscriptions": {
        "page": "detail",
        "user": 1,
        "resource": "server",
        "resource_id": 1,
        "channel": "private-servers.1",
        "subscribed_at": -1.0,
        "ended_at": NAN,
        "reason": "end",
        "policy": "debounce",
    },
    "pages": {
        "page": "detail",
        "user": 1,
        "resource": "server",
        "resource_id": 1,
        "opened_at": -1.0,
        "closed_at": NAN,
        "reason": "end",
        "loaded_version": None,
        "policy": "debounce",
        "hidden": False,
        "weight": 1.0,
    },
    "metrics": {"process": "publisher"},
}


def frame(table: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows completed by the defaults, typed as a bundle read back."""
    return typed(table, {name: [(DEFAULTS[table] | row)[name] for row in rows] for name in TABLES[table].names})


@dataclass
class Frames:
    """A run in memory, as a simulator hands it over."""

    updates: pd.DataFrame = field(default_factory=lambda: frame("updates", []))
    notifications: pd.DataFrame = field(default_factory=lambda: frame("notifications", []))
    refetches: pd.DataFrame = field(default_factory=lambda: frame("refetches", []))
    subscriptions: pd.DataFrame = field(default_factory=lambda: frame("subscriptions", []))
    metrics: pd.DataFrame = field(default_factory=lambda: frame("metrics", []))
    pages: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Where none are given: one for each subscriber, from its subscriptions."""

    def __post_init__(self) -> None:
        if self.pages.empty:
            self.pages, _ = lives(self.subscriptions)


def update(serial: int, at: float, version: int | None = None, **other: Any) -> dict[str, Any]:
    version = serial + 1 if version is None else version
    instants = {"intended_at": at, "committed_at": at + 0.01, "published_at": at + 0.02}
    return {"update": serial, "version": version, "sequence": serial + 1} | instants | other


def notification(serial: int | None, subscriber: int, at: float, **other: Any) -> dict[str, Any]:
    return {"update": serial, "subscriber": subscriber, "received_at": at, "read_at": at} | other


def refetch(subscriber: int, due: float, version: int | None, took: float = 0.1, **other: Any) -> dict[str, Any]:
    instants = {"due_at": due, "started_at": due, "finished_at": due + took}
    return {"subscriber": subscriber, "version": version} | instants | other


def random_run(seed: int, updates: int = 60, subscribers: int = 12, rate: float = 10.0) -> Frames:
    """Servers 1-3, half of the pages dashboards; some losses, repeats, failed refetches and pages that come and go."""
    rng = np.random.default_rng(seed)
    at = np.cumsum(rng.exponential(1 / rate, updates))
    server = rng.integers(1, 4, updates)
    version = [int((server[: i + 1] == server[i]).sum()) for i in range(updates)]
    lost = rng.random(updates) < 0.05
    rows = [
        update(i, at[i], version[i], resource_id=server[i], **({"published_at": NAN} if lost[i] else {})) for i in range(updates)
    ]
    pages = []
    for s in range(subscribers):
        board = s % 2 == 0
        mine = 0 if board else int(rng.integers(1, 4))
        pages.append(
            {
                "subscriber": s,
                "page": "dashboard" if board else "detail",
                "resource": "dashboard" if board else "server",
                "resource_id": mine,
                "channel": "private-servers" if board else f"private-servers.{mine}",
                "subscribed_at": float(rng.choice([-1.0, at[updates // 4] + 0.005])),
                "ended_at": float(rng.choice([NAN, at[updates // 2] + 0.015])),
                "reason": "dropped",
            }
        )
    heard, got = [], []
    for page in pages:
        for i in range(updates):
            if page["resource_id"] in (0, server[i]):
                if rng.random() < 0.9:
                    arrival = at[i] + 0.02 + rng.exponential(0.01)
                    heard.append(notification(i, page["subscriber"], arrival, channel=page["channel"]))
                    if rng.random() < 0.05:
                        heard.append(notification(i, page["subscriber"], arrival + 0.001, channel=page["channel"]))
                if rng.random() < 0.3:
                    newest = i + 1 if page["resource"] == "dashboard" else version[i]
                    outcome = str(rng.choice(["applied", "applied", "failed", "superseded"]))
                    got.append(refetch(page["subscriber"], at[i] + 0.03, newest, outcome=outcome))
    return Frames(frame("updates", rows), frame("notifications", heard), frame("refetches", got), frame("subscriptions", pages))
