"""Locust with the settings of its command line only: `python -m loadtests.alone -f locustfile.py --headless ...`

Locust by itself also reads `locust.conf`, `~/.locust.conf`, `[tool.locust]` of a `pyproject.toml` in the working directory, and
variables `LOCUST_*`. A `run-time = 3s` in one of them would end a load test after three seconds.
"""

import os
import sys
from typing import Any


class _WithoutPandas:
    """Arrow imports pandas for its first array, where there is one: of each load process a third of a second and 30 MB."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("a load process has no pandas", name=name)


sys.meta_path.insert(0, _WithoutPandas)

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
