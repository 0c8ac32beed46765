"""What each page shows, and whose each resource is."""

from __future__ import annotations

import numpy as np

from sim.results.ledger.views import owner
from sim.scenario import Fleet, Scenario


def test_users_own_equal_runs_of_ids_and_none_owns_nothing() -> None:
    site, number = np.array([True, True, True, False, False]), np.array([2, 3, 4, 3, 4])
    assert owner(site, number, Scenario(fleet=Fleet(users=2, servers_per_user=3, sites_per_user=2))).tolist() == [1, 2, 2, 1, 2]
    assert owner(site, number, Scenario(fleet=Fleet(users=2, servers_per_user=3, sites_per_user=0))).tolist() == [2, 3, 4, 1, 2]
