"""Ages integrated exactly, against a sum over many small steps of time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sim.results.ledger.staleness import saw_tooth, staleness


def journeys(rows: list[tuple], ended: float = float("inf")) -> pd.DataFrame:
    """(subscriber, committed_at, fresh_at) each; intended when committed."""
    frame = pd.DataFrame(rows, columns=["subscriber", "committed_at", "fresh_at"]).astype(float)
    return frame.assign(intended_at=frame["committed_at"], ended_at=ended)


def test_a_page_is_stale_from_the_commit_until_the_refetch() -> None:
    (page,) = staleness(journeys([(1, 1.0, 3.0), (1, 5.0, 6.0)]), 0.0, 10.0).to_dict("records")
    assert page["stale"] == pytest.approx(3.0)
    assert page["age_of_synchronisation"] == pytest.approx((2.0 + 0.5) / 10)
    # Shown: the first from 3 to 6 (ages 2 to 5), the second from 6 to 10 (ages 1 to 5).
    assert page["age_of_information"] == pytest.approx((3 * 3.5 + 4 * 3.0) / 7)
    assert page["peak_age"] == pytest.approx(5.0)


def test_an_update_never_shown_is_stale_to_the_end() -> None:
    (page,) = staleness(journeys([(1, 4.0, float("nan"))]), 0.0, 10.0).to_dict("records")
    assert page["stale"] == pytest.approx(6.0)
    assert np.isnan(page["age_of_information"])


def test_only_the_window_and_the_time_that_a_page_was_open_count() -> None:
    (page,) = staleness(journeys([(1, 1.0, 9.0)], ended=6.0), 2.0, 10.0).to_dict("records")
    assert page["observed"] == pytest.approx(4.0)
    assert page["stale"] == pytest.approx(4.0)


def test_nothing_in_nothing_out() -> None:
    assert staleness(journeys([]), 0.0, 1.0).empty
    assert saw_tooth(journeys([]), 1, 0.0, 1.0).empty


@pytest.mark.parametrize("seed", range(4))
def test_integrals_equal_sums_over_small_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    committed = np.sort(rng.uniform(0, 10, 12))
    fires = np.sort(rng.uniform(0, 10, 5))
    fresh = np.array([min((f for f in fires if f >= c), default=np.nan) for c in committed])
    found = staleness(journeys([(0, c, f) for c, f in zip(committed, fresh, strict=True)]), 1.0, 9.0).iloc[0]
    steps = np.arange(1.0, 9.0, 0.0005) + 0.00025
    behind, age = [], []
    for t in steps:
        pending = committed[(committed <= t) & ~(fresh <= t)]
        behind.append(t - pending.min() if len(pending) else 0.0)
        shown = committed[fresh <= t]
        age.append(t - shown.max() if len(shown) else np.nan)
    assert found["stale"] == pytest.approx(np.mean(np.array(behind) > 0) * 8, abs=0.01)
    assert found["age_of_synchronisation"] == pytest.approx(np.mean(behind), abs=0.01)
    assert found["age_of_information"] == pytest.approx(np.nanmean(age), abs=0.01)


def test_a_saw_tooth_rises_one_second_per_second_and_falls_when_something_is_shown() -> None:
    teeth = saw_tooth(journeys([(1, 1.0, 3.0), (1, 5.0, 6.0)]), 1, 0.0, 10.0)
    assert teeth["at"].tolist() == [3.0, 6.0, 6.0, 10.0]
    assert teeth["age"].tolist() == [2.0, 5.0, 1.0, 5.0]
