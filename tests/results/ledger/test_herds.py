"""Herds counted by hand."""

from __future__ import annotations

import pandas as pd

from sim.results.ledger.herds import herds


def test_a_herd_s_size_span_drain_and_latency() -> None:
    nan = float("nan")
    # A start exactly one gap after the last still belongs to its herd.
    started, finished = [10.0, 10.5, 10.25, 20.0, 21.0, nan], [11.0, 12.5, nan, 20.5, 21.25, nan]
    table = herds(pd.DataFrame({"started_at": started, "finished_at": finished}), gap=1.0)
    assert table[["at", "size", "span", "drain"]].to_numpy().tolist() == [[10.0, 3, 0.5, 2.5], [20.0, 2, 1.0, 1.25]]
    assert 1.0 < table["p99"].iloc[0] <= 2.0
    assert table["p99"].iloc[1] == 0.5
