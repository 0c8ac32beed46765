"""Run bundles: write, read, summarise, compare, plot, report."""
