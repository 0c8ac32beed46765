"""`python -m sim.live.broadcaster`."""

import sys

from sim.live.broadcaster.main import run

if __name__ == "__main__":
    sys.exit(run())
