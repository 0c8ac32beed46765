"""The fleet engine: herds of equal pages at once, exact, for up to millions of subscribers.

Imported by `virtual.engines` and by reports.
"""

from sim.virtual.fleet.engine import PROBES, Fleet, FleetResult, run, sample, spacing, supports

__all__ = ["PROBES", "Fleet", "FleetResult", "run", "sample", "spacing", "supports"]
