"""The broadcaster as processes: sockets and nodes around `sim.pusher.server`.

Imported by `live.serve` and by the tests.
"""
