"""Notify, full payload or polling: costs by hand, maps, crossings; the simulator moves the same bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim.experiments import alternatives
from sim.experiments.alternatives import BODY, Prices, cost

PRICE = Prices(envelope=100.0, head=150.0, delivery=1e-5, per_byte=1e-10, refetch=3e-4)


def test_costs_by_hand() -> None:
    found = cost(2.0, 1000.0, 1.0, PRICE)
    assert found["full payload"]["bytes"] == pytest.approx(2 * (100 + 1000))
    assert found["polling"]["bytes"] == pytest.approx(0.95 * 1150)
    assert found["notify"]["bytes"] == pytest.approx(2 * (100 + BODY) + 2 / 3 * 1150)
    assert found["polling"]["broadcaster"] == 0
    assert found["full payload"]["application"] == 0
    assert found["full payload"]["cpu"] == pytest.approx(2 * (1e-5 + (1000 - BODY) * 1e-10))
    assert alternatives.least(found) == {"bytes": "notify", "cpu": "full payload"}


def test_break_even_is_where_both_send_the_same() -> None:
    table = alternatives.break_even(2.0, [0.5, 5.0], PRICE)
    for target, row in table.iterrows():
        found = cost(2.0, row["size"], float(str(target)), PRICE)
        assert found["notify"]["bytes"] == pytest.approx(found["full payload"]["bytes"])
    assert table["size"].is_monotonic_decreasing


def test_maps_hold_the_cheapest_and_shares_add_up() -> None:
    rates, sizes = np.geomspace(0.01, 10, 7), np.geomspace(100, 1e5, 5)
    table = alternatives.cheapest(rates, sizes, PRICE, what="bytes", vary="payload", target=2.0)
    assert table.shape == (5, 7)
    for size in sizes:
        for rate in rates:
            assert table.loc[size, rate] == alternatives.least(cost(rate, size, 2.0, PRICE))["bytes"]
    assert alternatives.shares(table).sum(axis=1).tolist() == pytest.approx([1.0])


def test_polling_overtakes_where_both_take_the_same_cpu() -> None:
    turn = alternatives.overtakes(2.0, PRICE)
    assert turn is not None
    found = cost(turn, 0.0, 2.0, PRICE)
    assert found["polling"]["cpu"] == pytest.approx(found["notify"]["cpu"], rel=0.02)


def test_capacity_is_of_the_busier_core() -> None:
    served = alternatives.capacity((0.1, 100.0), 4096, 1.0, PRICE).set_index(["group", "rate"])
    assert served.loc[("polling", 0.1), "limited_by"] == "application"
    assert served.loc[("full payload", 100.0), "limited_by"] == "broadcaster"
    assert served.loc[("notify", 0.1), "subscribers"] > served.loc[("polling", 0.1), "subscribers"]
    table = alternatives.at_rates(alternatives.capacity((0.1, 100.0), 4096, 1.0, PRICE), (0.09, 90.0))
    assert table.index.tolist() == [0.1, 100.0]


def test_the_simulator_moves_the_same_bytes() -> None:
    curves = alternatives.over_targets(
        2.0, {"notify": 1000.0, "full payload": 500.0, "polling": 700.0}, [0.5, 0.7, 0.9, 1.1, 2.0], PRICE
    )
    assert {"theory", "simulated"} == set(curves["source"])
    assert alternatives.agree(curves)[0]
    full = curves[curves["group"] == "full payload"]["cost"]
    assert full.tolist() == pytest.approx([2.0 * (PRICE.envelope + 500)] * 5)
    off = curves.assign(cost=np.where(curves["source"] == "theory", curves["cost"] * 1.5, curves["cost"]))
    assert not alternatives.agree(off)[0]


def point(setting: str, group: str, target: float, cost: float, spread: float = 0.01) -> dict[str, Any]:
    return {"target": target, "cost": cost, "low": cost * (1 - spread), "high": cost * (1 + spread), "group": group} | {
        "source": "measured",
        "setting": setting,
        "updates": 9,
        "rate": 2.0,
        "payload": 1000.0,
    }


def test_measured_runs_are_set_beside_their_closed_form() -> None:
    points = pd.DataFrame([point("every 1 s", "polling", 1.0, 1092.5), point("full", "full payload", 0.01, 2200.0)])
    found = alternatives.beside(points, PRICE)
    assert found["off"].tolist() == pytest.approx([0.0, 0.0])
    curves = alternatives.over_targets(2.0, 1000.0, [1.0], PRICE)
    together = alternatives.together(curves, points)
    assert len(together) == len(curves) + 3  # the line of a full payload begins where it was measured
    assert together["target"].min() == 0.01


def test_runs_are_in_order_where_some_lie_apart_and_none_is_swapped() -> None:
    right = alternatives.beside(
        pd.DataFrame([point("every 1 s", "polling", 1.0, 1100.0), point("full", "full payload", 0.01, 2000.0)]), PRICE
    )
    assert alternatives.ordered(right) == (True, "1 pairs of runs have intervals apart, all in the order of the closed form")
    swapped = right.assign(
        bytes=right["bytes"][::-1].to_numpy(), low=right["low"][::-1].to_numpy(), high=right["high"][::-1].to_numpy()
    )
    assert alternatives.ordered(swapped) == (False, "full before every 1 s")
    unsure = swapped.assign(low=0.0, high=1e9)
    assert not alternatives.ordered(unsure)[0]  # No two lie apart, so nothing was seen of an order;
    assert alternatives.ordered(unsure.head(1))[0]  # of one run there is none to see.


def test_a_price_that_was_not_measured_is_said() -> None:
    assert alternatives.known(PRICE)[0]
    assert "lower bound" not in alternatives.known(PRICE)[1]
    assert not alternatives.known(replace(PRICE, refetch=0.0))[0]
    held, words = alternatives.known(replace(PRICE, per_byte=0.0))
    assert held
    assert words.endswith("lower bound")
