"""`python -m sim` is `workbench`."""

import sys

from sim.cli import main

sys.exit(main())
