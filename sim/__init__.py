"""Simulation half of the notify-then-refetch workbench: the pattern in virtual time, its real servers, and the results."""
