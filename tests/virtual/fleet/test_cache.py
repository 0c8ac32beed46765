"""Compiled loops where nothing can be kept."""

from __future__ import annotations

import pytest

caching = pytest.importorskip("numba.core.caching")


def doubled(value: int) -> int:
    return 2 * value


def test_without_a_place_for_its_cache_a_loop_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from sim.virtual.fleet import loops

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert loops.compiled(doubled)(21) == 42
