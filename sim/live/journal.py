"""The journal, by the name that processes of `live` know it by."""

from sim.results.journal import Journal, read

__all__ = ["Journal", "read"]
