"""What the rows of a run mean: pairs, deliveries, staleness, stages and costs. Frames in, frames out.

Imported by `results.summary` and by what explains a run.
"""
