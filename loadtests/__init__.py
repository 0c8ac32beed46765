"""Locust users that are pages of the pattern: connect, authorise, subscribe, hear, wait, refetch."""
