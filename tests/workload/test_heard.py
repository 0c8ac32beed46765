"""A workload of what was heard: as many bursts, as large, of the same resources."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.distributions import Constant, Empirical
from sim.workload import BURST, Heard, heard, streams
from sim.workload.heard import MOST

LONG = 20_000.0


def drawn(workload: Heard, duration: float = LONG, servers: int = 3, sites: int = 0, seed: int = 1) -> object:
    return workload.updates(streams(seed)["workload"], duration, servers, sites)


def of(rows: object, servers: int) -> list[np.ndarray]:
    return [rows.at[rows.resource_id == server] / 1e9 for server in range(1, servers + 1)]  # type: ignore[attr-defined]


def test_bursts_sizes_and_resources_by_hand() -> None:
    found = heard([np.array([0.0, 0.4, 10.0]), np.array([4.0, 4.1, 4.2])], [])
    assert found.sizes == (1, 2, 3)
    assert found.between == Empirical((4.0, 6.0))
    assert found.within == Empirical((0.1, 0.1, 0.4))
    assert (found.weights, found.site_weights, found.site_share) == ((2.0, 1.0), (), 0.0)
    assert found.expected(100.0, 2) == pytest.approx(100 / 5 * 2)
    assert heard([np.array([0.0])], [np.array([3.0])]).site_share == 0.5


@pytest.mark.parametrize("at", [[], [1.0], [1.0, 1.0 + BURST / 2]])
def test_too_little_is_no_workload(at: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two are needed"):
        heard([np.array(at)], [])


@settings(deadline=None, max_examples=40)  # a machine may be busy
@given(
    st.lists(st.floats(0.0, 60.0), min_size=1, max_size=6).filter(lambda gaps: sum(gaps) > 1.0),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.floats(0.1, 20.0),
)
def test_it_has_the_rate_that_it_says(gaps: list[float], sizes: list[int], rate: float) -> None:
    workload = Heard(rate=rate, between=Empirical(tuple(gaps)), within=Constant(0.01), sizes=tuple(sizes))
    duration = 4000 * workload.between.mean() / rate
    rows = drawn(workload, duration)
    assert (np.diff(rows.at) >= 0).all()  # type: ignore[attr-defined]
    assert rows.at.max(initial=0) < duration * 1e9  # type: ignore[attr-defined]
    spread = np.sqrt(4000.0) * (np.std(sizes) + np.mean(sizes) * (1 + np.std(gaps) / np.mean(gaps)))
    assert abs(len(rows) - workload.expected(duration, 3)) < 6 * spread + max(sizes) * 2  # type: ignore[arg-type]


def test_what_it_draws_is_heard_as_it_was() -> None:
    workload = Heard(between=Empirical((5.0, 15.0)), within=Constant(0.2), sizes=(1, 4), weights=(3.0, 1.0, 0.0))
    again = heard(of(drawn(workload), 3), [])
    assert again.between.mean() == pytest.approx(10.0, rel=0.05)
    assert again.within.mean() == pytest.approx(0.2, rel=0.01)
    assert np.mean(again.sizes) == pytest.approx(2.5, rel=0.05)
    assert len(again.sizes) <= MOST
    assert again.weights[0] / again.weights[1] == pytest.approx(3.0, rel=0.2)
    assert again.weights[2] == 0


def test_a_smaller_fleet_has_its_first_resources_hit() -> None:
    workload = Heard(sizes=(1,), weights=(0.0, 0.0, 1.0))
    assert set(drawn(workload, 100.0, servers=5).resource_id) == {3}  # type: ignore[attr-defined]
    assert set(drawn(workload, 100.0, servers=2).resource_id) <= {1, 2}  # type: ignore[attr-defined]
    both = drawn(Heard(site_share=0.5, site_weights=(0.0, 1.0)), 200.0, servers=2, sites=2)
    assert set(both.resource_id[both.resource == 1]) == {2}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"per": "server"}, "per does not apply"),
        ({"between": Constant(0.0)}, "between must have a mean"),
        ({"sizes": ()}, "sizes must be"),
        ({"sizes": (0,)}, "sizes must be"),
        ({"weights": (-1.0,)}, "weights must be"),
        ({"site_weights": (0.0, 0.0)}, "site_weights must be"),
    ],
)
def test_what_cannot_be(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Heard(**changes)  # type: ignore[arg-type]
