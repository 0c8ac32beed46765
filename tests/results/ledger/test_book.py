"""What of a run counts."""

from __future__ import annotations

import pytest

from sim.policy import Polling
from sim.results.ledger.book import Ledger
from sim.scenario import Pages, Scenario
from tests.results.frames import Frames, frame, refetch, update

SCENARIO = Scenario(
    warmup=1.0,
    duration=4.0,
    cooldown=1.0,
    drain=2.0,
    pages=(Pages(page="detail", subscribers=1), Pages(page="dashboard", subscribers=1, policy=Polling(1.0))),
)


@pytest.mark.parametrize(
    ("subscriber", "last"),
    [(1, 8.0), (2, 5.0), (9, 8.0)],
    ids=["a page", "one that polls", "one that is not recorded"],
)
def test_refetches_from_the_window_s_begin_to_the_end_of_the_run_count_and_polls_to_the_window_s(
    subscriber: int, last: float
) -> None:
    subscriptions = [{"subscriber": 1}, {"subscriber": 2, "page": "dashboard", "resource": "dashboard", "policy": "polling"}]
    started = [0.99, 1.0, 4.9, last - 0.01, last]
    run = Frames(
        frame("updates", [update(0, 1.0)]),
        refetches=frame("refetches", [refetch(subscriber, at, 1) for at in started]),
        subscriptions=frame("subscriptions", subscriptions),
    )
    found = Ledger(run, SCENARIO).refetches
    assert found["started_at"].tolist() == sorted(at for at in started if 1.0 <= at < last)
    assert set(found["polled"]) == {subscriber == 2}


def test_a_page_without_a_subscription_missed_every_update_however_few_the_others_are() -> None:
    subscriptions = [{"subscriber": 1}, {"subscriber": 5}]
    run = Frames(frame("updates", [update(i, 1.0 + i) for i in range(3)]), subscriptions=frame("subscriptions", subscriptions))
    run.subscriptions = run.subscriptions[:1]
    found = Ledger(run, SCENARIO).pairs
    assert found["missed_while_away"].tolist() == [number == 5 for number in run.pages["subscriber"].to_numpy()[found["page"]]]
