"""Fit files that were damaged: `predict` and `plan` end in a documented code and at most one line."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sim.experiments import scale
from tests.commands.test_hostile_bundles import Executed, _damage_bytes, _damage_tree, ends_well
from tests.prediction.test_predict import FIT

KNOWN = (20, 136, 444)
"""Seeds that found a range of inf, a cost that is a list, and a range of forty digits."""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_damaged_fit_is_read_or_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `predict`, whose simulations are run, and by `plan`, which gets as far as its own."""

    def largest(*_: Any, **__: Any) -> NoReturn:
        raise Executed("it would be searched")

    monkeypatch.setattr(scale, "largest", largest)
    path, wrong = tmp_path / "target.fit.json", []
    for seed in (-1, *KNOWN, *range(70)):
        FIT.write(path)
        drawn = random.Random(seed)
        done = drawn.choice([_damage_bytes, _damage_tree, _damage_tree, _damage_tree])(path, drawn) if seed >= 0 else "nothing"
        predict = ["predict", "--fit", str(path), "--draws", "2", "--json"]
        for argv in (predict, ["plan", "--fit", str(path), "--objective", "time_to_fresh.p99 < 2"]):
            if said := ends_well(argv, capsys):
                wrong.append((seed, argv[0], done, said))
        if seed < 0:
            assert wrong == [], "without damage"
        if path.is_dir():
            path.rmdir()
    assert wrong == []
