"""The small corpus of the fuzzing, replayed: as it is, and each file changed in a few ways that are always the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.torture import targets
from tests.torture.fuzzing import CORPUS, LONGEST, inputs, mutated

CHANGED = 25


def test_every_target_has_a_corpus_that_is_small() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(targets.TARGETS)
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert all(path.stat().st_size <= LONGEST for path in files)
    assert sum(path.stat().st_size for path in files) < 100_000


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_corpus_of(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "SCRATCH", tmp_path)
    known, draw = inputs(name), random.Random(name)
    for data in known:
        for tried in (data, *(mutated(data, draw, known) for _ in range(CHANGED))):
            try:
                targets.TARGETS[name](tried)
            except Exception as error:
                raise AssertionError(f"{name}: {tried!r}") from error
