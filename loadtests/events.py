"""What a load test does when a Locust run begins, stops and ends."""

from __future__ import annotations

import csv
import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gevent
from locust import events, runners
from locust.env import Environment
from locust.html import get_html_report, process_html_filename
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV

from loadtests.client.plant import Plant
from loadtests.recording import clocks, shipping
from loadtests.screen import figures, otlp, prometheus, tab
from loadtests.settings import Settings
from loadtests.shapes import STORM
from sim.errors import BadInput, InvalidRun
from sim.files import replace_text
from sim.signals import REPEATED, end_with_parent

logger = logging.getLogger(__name__)

WORKER_PATIENCE, LAST_PATIENCE = 60, 10
"""Seconds of silence after which a master gives a worker up: as long as a worker waits for its master; and while a run is being
stopped, what closing thousands of pages may take, for a worker that has died does not stop. With Locust's own 3 a worker is lost
while it opens thousands of pages on a busy machine, and with the last one the master stops every page of the run."""


def register() -> None:
    """Listen to Locust's events. `loadtests.users` calls it when it is imported, so a locustfile need not."""
    clocks.register()
    shipping.register()
    _be_patient()
    events.test_start.add_listener(_be_patient)
    events.init.add_listener(_end_with_master)
    events.init.add_listener(_handle_interrupts)
    events.init.add_listener(_drop_idle_classes)
    events.init.add_listener(_show)
    events.init.add_listener(_expect_storms)
    events.test_stopping.add_listener(_mark_over)
    events.test_stop.add_listener(_finish)
    events.quitting.add_listener(_quit)


def _handle_interrupts(**_: Any) -> None:
    """Ctrl-C ends the main greenlet's wait, and not the work of the page that happens to run; a second one within `REPEATED`
    seconds is ignored: Locust would die of it, with what is not written yet."""
    asked_at = float("-inf")

    def interrupt() -> None:
        nonlocal asked_at
        if time.monotonic() - asked_at > REPEATED:
            asked_at = time.monotonic()
            gevent.get_hub().parent.throw(KeyboardInterrupt)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler and threading.current_thread() is threading.main_thread():
        gevent.signal_handler(signal.SIGINT, interrupt)


def _end_with_master(environment: Environment, **_: Any) -> None:
    """A worker that `--processes` has forked ends, with its rows written, when its parent was killed. Else it would go on for a
    minute."""
    options = environment.parsed_options
    if isinstance(environment.runner, WorkerRunner) and options is not None and options.processes:
        end_with_parent(signal.SIGTERM)


def _own_plant() -> Plant | None:
    """This process's plant; a master has none."""
    plant = Plant.current
    return plant if plant is not None and plant.pid == os.getpid() else None


def _drop_idle_classes(environment: Environment, **_: Any) -> None:
    """Remove the user classes that `--tags` or `--exclude-tags` leave without a task. Locust would try to start them, and log a
    traceback for each user. A page without tasks of its own has no tags."""
    options = environment.parsed_options
    tags, excluded = (set(getattr(options, name, None) or ()) for name in ("tags", "exclude_tags"))
    if not (tags or excluded):
        return
    given = " and ".join(
        [f"--tags {' '.join(sorted(tags))}"] * bool(tags) + [f"--exclude-tags {' '.join(sorted(excluded))}"] * bool(excluded)
    )
    idle = [cls for cls in environment.user_classes if not _has_task(cls.tasks, tags, excluded)]
    if len(idle) == len(environment.user_classes):
        print(f"locust: {given} leaves no task of any page", file=sys.stderr)
        sys.exit(BadInput.exit_code)
    for cls in idle:
        logger.warning("%s leaves no task of %s: it is not started", given, cls.__name__)
        environment.user_classes.remove(cls)


def _has_task(tasks: Iterable[Any], tags: set[str], excluded: set[str]) -> bool:
    """By Locust's rule: a task passes with at least one of the tags and none of those excluded."""

    def passes(task: Any) -> bool:
        if hasattr(task, "tasks"):
            return _has_task(task.tasks, tags, excluded)
        own: set[str] = getattr(task, "locust_tag_set", set())
        return (not tags or not own.isdisjoint(tags)) and own.isdisjoint(excluded)

    return any(map(passes, tasks))


def _show(environment: Environment, **_: Any) -> None:
    """Show the run while it goes on: tab, endpoint, export."""
    shown = figures.register(environment)
    if shown is None:
        return
    settings = Plant.configured or Settings.from_environment(need_target=False)
    try:
        prometheus.register(shown, settings.prometheus)
        otlp.register(shown, settings.otlp)
    except BadInput as error:
        print(f"locust: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    tab.register(shown)


def _expect_storms(environment: Environment, **_: Any) -> None:
    if not isinstance(environment.runner, MasterRunner) and environment.runner is not None:
        environment.runner.register_message(STORM, _storm)


def _storm(msg: Any, **_: Any) -> None:
    plant = _own_plant()
    if plant is not None:
        plant.storm(float(msg.data["share"]))


def _be_patient(**_: Any) -> None:
    runners.HEARTBEAT_LIVENESS = WORKER_PATIENCE


def _mark_over(environment: Environment, **_: Any) -> None:
    plant = _own_plant()
    if plant is not None:
        plant.over = True
    if isinstance(environment.runner, MasterRunner):
        silent = [worker for worker in environment.runner.clients.all if worker.heartbeat < WORKER_PATIENCE - LAST_PATIENCE]
        _note_lost(environment, len(silent))
        runners.HEARTBEAT_LIVENESS = LAST_PATIENCE
        for worker in environment.runner.clients.all:
            worker.heartbeat = min(worker.heartbeat, LAST_PATIENCE)


def _note_lost(environment: Environment, workers: int) -> None:
    if workers:
        logger.error("%d workers went missing: their figures are not in these", workers)
        environment.process_exit_code = InvalidRun.exit_code


def _quit(environment: Environment, **_: Any) -> None:
    """After a signal Locust fires `quitting` while its users still run. Stop them first: each page's end is a row."""
    runner = environment.runner
    if runner is not None:
        runner.stop()
    if isinstance(runner, MasterRunner):
        _note_lost(environment, len(runner.clients.missing))
    _finish()
    _write_html(environment)
    _write_csv(environment)


def _write_html(environment: Environment) -> None:
    """Write the page of `--html`. Locust itself writes it on SIGINT, but not on SIGTERM."""
    options = environment.parsed_options
    if options is None or not options.html_file or isinstance(environment.runner, WorkerRunner):
        return
    process_html_filename(options)
    path = Path(options.html_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(get_html_report(environment, show_download_link=False), encoding="utf-8")


def _write_csv(environment: Environment) -> None:
    """Write the tables of `--csv` once more. Locust writes them once a second, so they lack what came last. New files take the
    place of the old ones, which Locust still has open."""
    options = environment.parsed_options
    if options is None or not options.csv_prefix or isinstance(environment.runner, WorkerRunner):
        return
    tables = StatsCSV(environment, PERCENTILES_TO_REPORT)
    for name, rows in (("stats", tables.requests_csv), ("failures", tables.failures_csv)):
        text = io.StringIO(newline="")
        rows(csv.writer(text))
        replace_text(Path(f"{options.csv_prefix}_{name}.csv"), text.getvalue())


def _finish(**_: Any) -> None:
    plant = _own_plant()
    if plant is not None:
        plant.finish()
        shipping.ship()
