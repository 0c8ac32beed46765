"""The scenario's pages, against the target, in the shape of the command line or of WORKBENCH_SHAPE:

    WORKBENCH_TARGET=target.json locust --headless -u 1000 -r 500 -t 60s

Variables: loadtests/settings.py. Pages of your own: loadtests/users.py.
"""

import sys

from loadtests.client.plant import Plant
from loadtests.pages import user_classes
from loadtests.settings import Settings
from loadtests.shapes import chosen
from sim.errors import WorkbenchError

try:
    Plant.configured = Settings.from_environment()
    globals().update(user_classes(Plant.configured))
    shape = chosen(Plant.configured)
except WorkbenchError as error:
    print(f"locust: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
