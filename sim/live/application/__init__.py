"""The application as a process: HTTP edge, queues, running jobs and publishing around `sim.brokeforge`.

Imported by `live.serve` only.
"""
