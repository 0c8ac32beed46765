"""Replays recorded exchanges with a broadcaster: `python -m tests.replay FILE [--target HOST:PORT]` (see `__main__`)."""
