"""The scenario's pages, against the target, in the scenario's or the command line's shape:

    WORKBENCH_TARGET=target.json locust --headless -u 1000 -r 500 -t 60s

Variables: loadtests/settings.py. Pages of your own: loadtests/users.py.
"""

import sys

from loadtests.events import register
from loadtests.pages import user_classes
from loadtests.plant import Plant
from loadtests.settings import Settings
from sim.errors import WorkbenchError

try:
    Plant.settings = Settings.from_environment()
    globals().update(user_classes(Plant.settings))
except WorkbenchError as error:
    print(f"locust: {error}", file=sys.stderr)
    sys.exit(error.exit_code)

register()
