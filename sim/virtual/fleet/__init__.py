"""The fleet engine: herds of equal pages at once, exact, for up to millions of subscribers.

Imported by `virtual.engines` and by reports.
"""

from sim.virtual.fleet.engine import PROBES, FleetRun, run, sample, supports
from sim.virtual.fleet.result import FleetResult

__all__ = ["PROBES", "FleetResult", "FleetRun", "run", "sample", "supports"]
