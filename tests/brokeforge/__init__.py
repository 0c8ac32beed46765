"""Tests of the application of the pattern."""
