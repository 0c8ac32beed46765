"""Figures: frames in, axes out. Every function titles itself with what its frame shows, and accepts empty frames.

Nothing here computes a result: the frame that is plotted is the table to print beside the figure.
"""

from sim.results.plots.agreement import plot_agreement, plot_forest
from sim.results.plots.basic import plot_bars, plot_lines, plot_over_time, plot_regions
from sim.results.plots.journeys import plot_stages, plot_stations, plot_worst
from sim.results.plots.latency import plot_drift, plot_ecdf, plot_offsets, plot_percentiles
from sim.results.plots.policies import plot_pareto, plot_starvation
from sim.results.plots.style import Axis
from sim.results.plots.timeline import plot_run
