"""Locust with the settings of its command line only: `python -m loadtests.alone -f locustfile.py --headless ...`

Locust by itself also reads `locust.conf`, `~/.locust.conf`, `[tool.locust]` of a `pyproject.toml` in the working directory, and
variables `LOCUST_*`. A `run-time = 3s` in one of them would end a load test after three seconds.
"""

import os
from typing import Any

for name in [name for name in os.environ if name.startswith("LOCUST_")]:
    del os.environ[name]

from locust import argument_parser  # noqa: E402 (it reads the environment when it is imported)


class CommandLineOnly(argument_parser.LocustArgumentParser):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"default_config_files": []})


argument_parser.LocustArgumentParser = CommandLineOnly  # type: ignore[misc]

from locust.main import main  # noqa: E402

if __name__ == "__main__":
    main()
