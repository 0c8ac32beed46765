"""A calibration for load tests among the tests: none of them measures this machine first, which is busy with them all, nor keeps
what it finds among the files of whoever runs them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from sim.live.capacity.calibration import Calibration, machine_key

KNOWN = Calibration(1, 1e-6, 2e-6, 1e-4, 1e-3, 1e5, 1e-5, 1e3, 1e4, 1e8, "kernel", "2026-01-01T00:00:00Z", machine_key())


def known_in(cache: Path) -> dict[str, str]:
    """The variables with which a command finds `KNOWN`, which is written below *cache*."""
    place = cache / "notify-refetch-workbench"
    place.mkdir(parents=True, exist_ok=True)
    (place / "calibration.json").write_text(json.dumps(asdict(KNOWN)))
    return {"XDG_CACHE_HOME": str(cache)}
