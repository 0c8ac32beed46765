"""The reference engine: the whole pattern, event by event. Imported by `virtual.engines` and by reports."""

from sim.virtual.reference.engine import Simulation, run

__all__ = ["Simulation", "run"]
