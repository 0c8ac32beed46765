"""Fixtures: a forge per test on its own SQLite file; PostgreSQL and MariaDB once per session, where they are installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.brokeforge import clusters
from tests.brokeforge.forge import Forge

MakeForge = Callable[..., Forge]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample database, made once; tests get copies of it."""
    path = tmp_path_factory.mktemp("sample") / "forge.sqlite"
    Forge(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def make_forge(tmp_path: Path, sample: Path) -> Iterator[MakeForge]:
    """`make_forge(broadcast=..., api=..., fleet_=...)`; each call has a database of its own."""
    made: list[Forge] = []

    def make(**options: Any) -> Forge:
        path = tmp_path / f"forge-{len(made)}.sqlite"
        if "fleet_" not in options:
            shutil.copy(sample, path)
        made.append(Forge(f"sqlite:///{path}", prepared=path.exists(), **options))
        return made[-1]

    yield make
    for forge in made:
        forge.close()


@pytest.fixture
def forge(make_forge: MakeForge) -> Forge:
    return make_forge()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a running PostgreSQL; skips where its programs are not installed."""
    with clusters.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    with clusters.mariadb() as url:
        yield url
