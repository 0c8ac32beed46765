"""What a load test does at the turning points of a Locust run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from locust import events
from locust.env import Environment
from locust.html import get_html_report, process_html_filename
from locust.runners import MasterRunner, WorkerRunner

from loadtests.client.plant import Plant
from loadtests.recording import clocks, shipping
from loadtests.shapes import STORM


def register() -> None:
    """Listen to Locust's events. `loadtests.users` calls it when it is imported, so a locustfile need not."""
    clocks.register()
    shipping.register()
    events.init.add_listener(_expect_storms)
    events.spawning_complete.add_listener(_freeze)
    events.test_stopping.add_listener(_be_over)
    events.test_stop.add_listener(_finish)
    events.quitting.add_listener(_quit)


def _here() -> Plant | None:
    """This process's plant; a master has none."""
    plant = Plant.current
    return plant if plant is not None and plant.pid == os.getpid() else None


def _expect_storms(environment: Environment, **_: Any) -> None:
    if not isinstance(environment.runner, MasterRunner) and environment.runner is not None:
        environment.runner.register_message(STORM, _storm)


def _storm(msg: Any, **_: Any) -> None:
    plant = _here()
    if plant is not None:
        plant.storm(float(msg.data["share"]))


def _freeze(**_: Any) -> None:
    plant = _here()
    if plant is not None:
        plant.freeze()


def _be_over(**_: Any) -> None:
    plant = _here()
    if plant is not None:
        plant.over = True


def _quit(environment: Environment, **_: Any) -> None:
    """A signal makes Locust say that it quits while its users still run: they go first, so that how each page ended is a row."""
    if environment.runner is not None:
        environment.runner.stop()
    _finish()
    _write_html(environment)


def _write_html(environment: Environment) -> None:
    """The page of `--html`, which Locust itself writes when it is interrupted, not when it is asked to end (SIGTERM)."""
    options = environment.parsed_options
    if options is None or not options.html_file or isinstance(environment.runner, WorkerRunner):
        return
    process_html_filename(options)
    path = Path(options.html_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(get_html_report(environment, show_download_link=False), encoding="utf-8")


def _finish(**_: Any) -> None:
    plant = _here()
    if plant is not None:
        plant.finish()
        shipping.ship()
