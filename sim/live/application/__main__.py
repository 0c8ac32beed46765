"""`python -m sim.live.application`."""

import sys

from sim.live.application.main import main

if __name__ == "__main__":
    sys.exit(main())
