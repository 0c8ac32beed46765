"""Drops, restarts, releases; pages that come and go: the clock of pusher-js, lost events, and the load of coming back."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim.errors import BadInput
from sim.virtual.reference import run
from sim.virtual.reference.reconnect import attempts, first_attempts
from tests.virtual.scenes import figure, metric, ms, play, scene

S = 1_000_000_000
HANDSHAKE = 4 * 3  # two round trips at 3 ms each way
AUTHORISE = 4 + 10 + 4
SUBSCRIBE = 3
BACK = 1000 + HANDSHAKE + AUTHORISE + SUBSCRIBE


def test_attempts_are_those_measured_with_pusher_js() -> None:
    measured = [11.000, 11.005, 26.005, 56.005, 116.005, 176.005, 236.005]
    assert [at / S for at in islice(attempts(10 * S), 7)] == measured
    assert [at // S for at in islice(first_attempts(0), 5)] == [0, 15, 45, 105, 165]


def test_a_dropped_page_is_subscribed_again_a_second_later() -> None:
    tables = play([], incidents=[{"kind": "disconnect", "at": 2.0}])
    assert ms(tables.subscriptions["subscribed_at"]) == [0.0, 2000.0 + BACK]
    assert ms(tables.subscriptions["ended_at"]) == [2000.0, None]
    assert tables.subscriptions["reason"].tolist() == ["dropped", "end"]
    assert metric(tables, "requests") == 1  # the authorisation


def test_frames_that_were_lost_with_a_connection_hold_up_none_of_the_next() -> None:
    """A connection keeps the order of its frames: one of the first connection would have come after the end of the run."""
    slow = {"kind": "empirical", "values": [0.003] * 30 + [100.0]}
    at = [0.1 * i for i in range(1, 100)]
    tables = play(at, network__to_subscriber=slow, incidents=[{"kind": "disconnect", "at": 5.0}])
    assert tables.notifications["received_at"].between(1, 5).sum() == 0, "one of the first connection takes 100 s"
    assert tables.notifications["received_at"].between(6, 7).any()


def test_authorisations_of_a_crowd_queue_up() -> None:
    """Ten dashboards with two channels each: twenty requests of 10 ms at one worker, all in the same millisecond."""
    tables = play([], pages=[{"page": "dashboard", "subscribers": 10}], incidents=[{"kind": "disconnect", "at": 2.0}])
    again = tables.subscriptions[tables.subscriptions["subscribed_at"] > 0]
    assert len(again) == 20
    assert ms(again["subscribed_at"])[-1] == 2000 + 1000 + HANDSHAKE + 4 + 20 * 10 + 4 + SUBSCRIBE


def test_what_comes_while_a_page_is_away_is_lost_to_it() -> None:
    tables = play([2.5, 4.0], incidents=[{"kind": "disconnect", "at": 2.0}])
    assert tables.notifications["update"].tolist() == [1]
    assert tables.refetches["version"].tolist() == [2]  # the next one brings all


def test_a_page_that_lost_the_last_event_ends_stale_unless_it_refetches_when_it_is_back() -> None:
    lost: dict[str, Any] = {"incidents": [{"kind": "disconnect", "at": 2.0}]}
    tables = play([2.5], **lost)
    assert figure(tables, "pages.stale_at_end") == 1
    tables = play([2.5], pages__0__refetch_on_reconnect=True, **lost)
    assert figure(tables, "pages.stale_at_end") == 0
    assert ms(tables.refetches["due_at"]) == [2000.0 + BACK]


def test_a_frame_that_is_on_its_way_when_the_connection_breaks_is_lost() -> None:
    assert len(play([1.0], incidents=[{"kind": "disconnect", "at": 1.005}]).notifications) == 0
    assert len(play([1.0], incidents=[{"kind": "disconnect", "at": 1.0062}]).notifications) == 1


def test_only_a_share_is_dropped() -> None:
    tables = play([], pages__0__subscribers=400, incidents=[{"kind": "disconnect", "at": 2.0, "share": 0.25}])
    assert 60 < (tables.subscriptions["reason"] == "dropped").sum() < 140


def test_after_a_long_restart_pages_come_back_at_their_slots() -> None:
    """Down for ten seconds: the attempts at 1.000 and 1.005 s are refused, the next is fifteen seconds later."""
    tables = play([], drain=30, incidents=[{"kind": "restart", "at": 2.0, "down": 10.0}])
    assert ms(tables.subscriptions["subscribed_at"]) == [0.0, 2000.0 + 1005 + 15000 + (BACK - 1000)]


def test_an_event_that_finds_no_broadcaster_is_tried_again_by_the_queue_as_often_as_it_may() -> None:
    """Also one that was sent at once: the application hands it to its queue then."""
    down: dict[str, Any] = {"incidents": [{"kind": "restart", "at": 0.9, "down": 0.5}]}
    assert play([1.0], broadcast__tries=1, **down).updates["status"].tolist() == ["not_broadcast"]
    assert ms(play([1.0], broadcast__backoff=0.7, **down).updates["published_at"]) == [1000 + 2 + 700 + 2]
    tables = play([1.0], broadcast__dispatch="queued", broadcast__tries=3, broadcast__backoff=0.3, **down)
    assert ms(tables.updates["published_at"]) == [1000 + 2 + 300 + 2 + 300 + 2]
    tables = play([1.0], broadcast__dispatch="queued", broadcast__tries=2, broadcast__backoff=0.3, **down)
    assert ms(tables.updates["published_at"]) == [None]


def test_a_refused_authorisation_leaves_the_page_deaf() -> None:
    tables = play([5.0], api__rate_limit=0, incidents=[{"kind": "disconnect", "at": 2.0}])
    assert tables.subscriptions["reason"].tolist() == ["dropped", "refused"]
    assert len(tables.notifications) == 0


def test_a_second_drop_during_the_handshake_starts_over() -> None:
    """The broadcaster goes again while pages connect: one second, then the whole way."""
    tables = play([], incidents=[{"kind": "restart", "at": 2.0}, {"kind": "restart", "at": 3.005}])
    assert ms(tables.subscriptions["subscribed_at"]) == [0.0, 2000 + 1000 + HANDSHAKE + BACK]


def test_a_release_makes_every_page_load_anew_at_its_next_refetch() -> None:
    tables = play([5.0], pages__0__subscribers=3, pages__0__inertia=True, incidents=[{"kind": "deploy", "at": 2.0, "down": 0.5}])
    assert tables.refetches["status"].tolist() == [409] * 3
    assert tables.refetches["outcome"].tolist() == ["failed"] * 3
    reasons = tables.subscriptions.groupby("subscriber", observed=True)["reason"].agg(list)
    assert reasons.tolist() == [["dropped", "closed"]] * 3 + [["end"]] * 3
    assert figure(tables, "pages.stale_at_end") == 0  # loaded after the change
    # Authorisations after the restart, refetches, whole pages, authorisations of those.
    assert metric(tables, "requests") == 4 * 3


def test_what_is_asked_of_an_application_that_is_away_is_refused_at_once() -> None:
    """The first change's refetch is due at 1.5 s and a bit, the second change is intended at 1.6 s; the release lasts to 2 s."""
    for retries, outcome in ((0, "failed"), (1, "applied")):
        away = {"incidents": [{"kind": "deploy", "at": 1.2, "down": 0.8}], "api.retries": retries, "api.retry_backoff": 1.0}
        for workers in ("shared", "own"):
            tables = run(scene([1.0, 1.6]).replace(away | {"api.save": 0.001, "api.save_workers": workers}))
            assert tables.updates["status"].tolist() == ["committed", "failed"]
            assert tables.refetches["outcome"].tolist() == [outcome]
            assert tables.refetches["status"].isna().tolist() == [outcome == "failed"]


# --- pages that come and go --------------------------------------------------------------------------------------------


def test_who_leaves_is_replaced_and_the_newcomer_loads_connects_and_subscribes() -> None:
    tables = play([], pages__0__session={"kind": "constant", "value": 6.0})
    first, second = tables.subscriptions.iloc[0], tables.subscriptions.iloc[1]
    assert first["reason"] == "closed"
    assert second["subscriber"] == 1
    opening = AUTHORISE + HANDSHAKE + AUTHORISE + SUBSCRIBE  # loading takes as long as authorising
    assert round((second["subscribed_at"] - first["ended_at"]) * 1000, 6) == opening
    assert round((second["ended_at"] - first["ended_at"]) * 1000, 6) == 6000


def test_each_life_of_a_page_has_a_row_from_its_first_load_on() -> None:
    """A page is open from when its first load is applied, 18 ms after the one before it has left."""
    tables = play([1.0, 4.0], pages__0__session={"kind": "constant", "value": 6.0}, pages__0__refetch_on_reconnect=True)
    pages = tables.pages
    assert pages["subscriber"].tolist() == list(range(len(pages)))
    assert pages["opened_at"].iloc[0] == 0
    closed, opened = ms(pages["closed_at"]), ms(pages["opened_at"])
    assert opened[1:] == [closing + AUTHORISE for closing in closed[:-1]]  # type: ignore[operator]
    assert (pages["closed_at"] - pages["opened_at"]).iloc[1] == pytest.approx(6.0 - AUTHORISE / 1000)
    assert closed[-1] is None
    assert pages["reason"].tolist() == ["closed"] * (len(pages) - 1) + ["end"]
    committed = tables.updates["committed_at"].to_numpy()
    read_at = pages["opened_at"].to_numpy() - 0.014  # 10 ms of work, 4 ms back
    assert pages["loaded_version"].tolist() == [0, *np.searchsorted(committed, read_at[1:], side="right")]
    assert (pages["weight"] == 1).all()
    assert not pages["hidden"].any()
    assert len(tables.subscriptions) == len(pages)
    assert len(tables.refetches) <= 2, "to subscribe for the first time is no reconnect"


def test_a_reconnect_is_the_same_page() -> None:
    tables = play([], incidents=[{"kind": "disconnect", "at": 2.0}])
    assert len(tables.pages) == 1
    assert tables.pages["closed_at"].isna().all()


def test_a_first_load_that_fails_is_tried_again_and_opens_no_page_before() -> None:
    """The limiter takes each user's first request of a minute: two seats of one user, of which one loads at once."""
    session = {"kind": "constant", "value": 30.0}
    tables = play([], duration=100, api__rate_limit=1, pages__0__subscribers=2, pages__0__session=session)
    later = tables.pages[tables.pages["opened_at"] > 0]
    assert len(later)
    assert (later["opened_at"].diff().dropna() > 20).all(), "never two in a minute of the limiter's"
    assert tables.pages["loaded_version"].notna().all()
    assert (tables.pages.groupby("subscriber").size() == 1).all()


@pytest.mark.parametrize("sent", ["running", "cancelled"])
def test_a_request_without_an_answer_is_running_or_its_page_left(sent: str) -> None:
    """A service of 30 s: at the end of the run the page is still open, or it left at 6 s at the latest."""
    changes: dict[str, Any] = {"api__service": {"kind": "constant", "value": 30.0}}
    if sent == "cancelled":
        changes |= {"pages__0__session": {"kind": "constant", "value": 6.0}, "policy": {"kind": "immediate"}}
    tables = play([0.001], **changes)
    (refetch,) = tables.refetches.to_dict("records")
    assert refetch["outcome"] == sent
    assert np.isnan(refetch["finished_at"])
    assert pd.isna(refetch["version"])
    assert pd.isna(refetch["status"])


def test_what_was_not_sent_has_no_row() -> None:
    tables = play([9.0], drain=0, policy={"kind": "debounce", "wait": 60.0})
    assert tables.refetches.empty
    single = play([1.0, 1.1], in_flight="single_flight", policy={"kind": "immediate"}, api__service=60.0)
    assert single.refetches["outcome"].tolist() == ["running"]


@pytest.mark.parametrize(
    "session",
    [
        {"kind": "exponential", "scale": 20.0},
        {"kind": "lognormal", "scale": 20.0, "sigma": 1.0},
        {"kind": "uniform", "low": 5.0, "high": 35.0},
        {"kind": "constant", "value": 20.0},
    ],
    ids=lambda session: session["kind"],
)
def test_sessions_are_stationary_from_the_start(session: dict[str, Any]) -> None:
    """A renewal process in equilibrium: 4,000 seats at a mean of 20 s close 200 pages a second, in the first ten seconds too."""
    tables = play([], duration=10, drain=0, api__workers=50, pages__0__subscribers=4000, pages__0__session=session)
    assert (tables.pages["closed_at"] <= 10).sum() == pytest.approx(2000, abs=4 * 2000**0.5)


def test_the_number_of_open_pages_stays() -> None:
    scenario = scene([], duration=60, pages__0__subscribers=20, pages__0__session={"kind": "exponential", "scale": 5.0})
    tables = run(scenario)
    assert figure(tables, "pages.open_at_end") == 20
    assert tables.subscriptions["subscriber"].nunique() > 150


def test_a_page_that_closed_neither_hears_nor_refetches() -> None:
    scenario = scene([], pages__0__subscribers=30, pages__0__session={"kind": "exponential", "scale": 1.0})
    tables = run(scenario.replace({"workload": {"kind": "poisson", "rate": 20.0}}))
    life = tables.subscriptions[["subscriber", "subscribed_at", "ended_at"]]
    heard = tables.notifications.merge(life, on="subscriber")
    assert len(heard) > 1000
    assert (heard["received_at"] >= heard["subscribed_at"]).all()
    assert (heard["received_at"] <= heard["ended_at"].fillna(1e9)).all()
    sent = tables.refetches.merge(life, on="subscriber")
    assert (sent["started_at"].dropna() <= sent["ended_at"].fillna(1e9)).all()


def test_timers_of_hidden_pages_ring_once_a_second_each_at_a_phase_of_its_own() -> None:
    at = [1.3, 2.9, 5.05, 8.6]
    tables = play(at, pages__0__subscribers=400, pages__0__hidden=0.5)
    hidden = tables.pages.set_index("subscriber")["hidden"]
    assert hidden.sum() == 200
    started = tables.refetches["started_at"].groupby(tables.refetches["subscriber"])
    for subscriber, instants in started:
        phases = {round(instant % 1, 6) for instant in instants}
        assert (len(phases) == 1) == hidden[subscriber]
    first = started.min()
    assert (first - first[~hidden].mean())[hidden].between(-0.03, 1.03).all(), "held back by up to a second"
    assert np.histogram(first[hidden], bins=4, range=(1.8, 2.8))[0].min() > 25, "and not all to the same instant"


def test_a_session_without_length_is_refused() -> None:
    with pytest.raises(BadInput, match=r"pages\[0\].session must have a mean > 0 s"):
        play([], pages__0__session={"kind": "constant", "value": 0.0})
