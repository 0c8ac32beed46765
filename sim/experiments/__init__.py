"""Experiments of the reports: each takes runs or scenarios, simulates what it needs, and hands back frames to plot and print."""
