"""What each page shows, and whose each resource is."""

from __future__ import annotations

import numpy as np
import pytest

from sim.results.ledger.views import owner, with_payloads
from sim.scenario import Fleet, Scenario
from tests.results.frames import Frames, frame, notification, refetch, update


def test_users_own_equal_runs_of_ids_and_none_owns_nothing() -> None:
    site, number = np.array([True, True, True, False, False]), np.array([2, 3, 4, 3, 4])
    assert owner(site, number, Scenario(fleet=Fleet(users=2, servers_per_user=3, sites_per_user=2))).tolist() == [1, 2, 2, 1, 2]
    assert owner(site, number, Scenario(fleet=Fleet(users=2, servers_per_user=3, sites_per_user=0))).tolist() == [2, 3, 4, 1, 2]


@pytest.mark.parametrize(
    ("heard", "version", "outcome", "found"),
    [
        ([(1, 3.0)], 2, "applied", "not_newer"),  # The payload of update 1 had brought version 2.
        ([(0, 3.0)], 2, "applied", "applied"),
        ([(1, 3.0), (0, 3.5)], 2, "not_newer", "applied"),  # An older payload came late, and was shown last.
        ([(None, 3.0)], 2, "not_newer", "applied"),  # Nobody knows what that payload brought.
        ([(1, 3.0)], None, "applied", "applied"),
        ([(1, 3.0)], 2, "failed", "failed"),
        ([], 0, "not_newer", "not_newer"),  # As loaded.
    ],
)
def test_what_a_page_shows_by_a_payload_decides_what_is_newer(
    heard: list[tuple[int | None, float]], version: int | None, outcome: str, found: str
) -> None:
    run = Frames(
        updates=frame("updates", [update(0, 1.0), update(1, 2.0)]),
        notifications=frame("notifications", [notification(serial, 7, at) for serial, at in heard]),
        refetches=frame("refetches", [refetch(page, 5.0, version, outcome=outcome) for page in (7, 8)]),
        pages=frame(
            "pages", [{"subscriber": 7, "policy": "full_payload", "loaded_version": 0}, {"subscriber": 8, "loaded_version": 0}]
        ),
    )
    assert with_payloads(run, Scenario(), 10.0)["outcome"].tolist() == [found, outcome], "and of no other page"
