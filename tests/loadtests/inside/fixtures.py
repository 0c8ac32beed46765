"""Locust first, before anything that it has to patch. These files are run by tests/loadtests/test_inside.py."""

import types
from collections.abc import Iterator
from pathlib import Path

import locust  # noqa: F401
import pytest
from locust.event import Events
from locust.stats import RequestStats

from loadtests.client.mux import Mux
from loadtests.client.plant import Plant
from loadtests.recording.listeners import Listeners
from loadtests.recording.recorder import Recorder
from loadtests.recording.rows import Sample
from loadtests.settings import Settings

EVENTS = Events()


@pytest.fixture
def stats() -> RequestStats:
    return RequestStats()


@pytest.fixture
def recorder(stats: RequestStats, tmp_path: Path) -> Iterator[Recorder]:
    mux = Mux()
    yield Recorder(mux, stats, 2, tmp_path / "parts", Sample(), True, first=2_000_000, listeners=Listeners(EVENTS.request))
    mux.close()


@pytest.fixture
def plant(stats: RequestStats, tmp_path: Path) -> Iterator[Plant]:
    """A plant without a network: pages can be made, and opened against nobody."""
    environment = types.SimpleNamespace(runner=None, parsed_options=None, stats=stats, events=EVENTS)
    Plant.configured = Settings(parts=tmp_path / "parts")
    plant = Plant.of(environment)  # type: ignore[arg-type]
    yield plant
    plant.finish()
