"""What a load process writes down: parts, histograms, Locust's statistics, clock offsets.

Imported by the client and by the Locust events.
"""
