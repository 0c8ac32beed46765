"""Answers from run bundles: report, explain, compare, fit. Imported by the commands and the notebooks."""
