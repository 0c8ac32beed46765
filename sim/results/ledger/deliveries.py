"""Where every delivery went: one number for each fate, so that no figure leaves out a delivery silently.

    received            arrived
    missing.<reason>    expected, and did not: `matching.REASONS`
    not_connected       the page was open, but not subscribed just then: owed pairs that were missed while away
    duplicate           arrived once more
    unexpected          arrived where nothing was expected
    out_of_order        arrived after a later one

received + missing is what the broadcaster had to deliver. All are of the updates that count, as the summary's are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.results.ledger import matching
from sim.results.ledger.book import Ledger, RunTables
from sim.results.ledger.views import weight_of
from sim.scenario import Scenario


def account(tables: RunTables, scenario: Scenario, unfinished: Sequence[tuple[int, int]] = ()) -> dict[str, int]:
    """The fates above, of a measured run. *unfinished*: first and last subscriber of each load process that was lost."""
    ledger = Ledger(tables, scenario)
    expected, beyond, serials = ledger.deliveries.expected, ledger.beyond, ledger.window_serials
    weight = expected["weight"].to_numpy(float) * np.isin(expected["update"].to_numpy(), serials)
    reason = matching.missing(ledger.deliveries, ledger.window.over, measured=True, unfinished=unfinished)
    extra = beyond["weight"].groupby(beyond["kind"]).sum()
    heard = weight_of(tables.notifications["subscriber"], tables.pages) * tables.notifications["update"].isin(serials).to_numpy(
        bool
    )
    pairs = ledger.pairs
    counts = {
        "received": weight[reason == ""].sum(),
        **{f"missing.{name}": weight[reason == name].sum() for name in matching.REASONS},
        "not_connected": np.sum(pairs["weight"].to_numpy(float) * pairs["missed_while_away"].to_numpy(bool)),
        **{kind: extra.get(kind, 0.0) for kind in ("duplicate", "unexpected")},
        "out_of_order": heard[matching.out_of_order(tables)].sum(),
    }
    return {name: round(float(count)) for name, count in counts.items()}
