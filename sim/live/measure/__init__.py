"""A load test from start to verdict: Locust's processes, samples, collection, attribution of losses.

Imported by the commands and by `live.capacity`.
"""
