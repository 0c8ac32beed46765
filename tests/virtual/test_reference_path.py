"""The way of an update to the screen, instant by instant: what the reference engine says happens."""

from __future__ import annotations

import numpy as np
import pytest

from sim.distributions import Constant
from sim.incidents import Disconnect
from sim.results.ledger.book import Ledger
from sim.scenario import Fleet, Pages, Scenario
from sim.virtual.reference import run
from sim.workload import Tasks
from tests.virtual.scenes import figure, metric, ms, play, scene


def test_one_update_from_commit_to_screen() -> None:
    tables = play([1.0])
    (update,) = tables.updates.to_dict("records")
    assert (update["resource"], update["resource_id"], update["version"], update["sequence"]) == ("server", 1, 1, 1)
    assert update["status"] == "committed"
    assert ms(tables.updates["intended_at"]) == ms(tables.updates["committed_at"]) == [1000.0]
    assert ms(tables.updates["published_at"]) == [1002.0]  # 2 ms to the broadcaster
    assert ms(tables.notifications["received_at"]) == [1006.1]  # 1 ms begin, 0.1 ms write, 3 ms network
    assert ms(tables.notifications["read_at"]) == [1006.1]
    assert ms(tables.refetches["due_at"]) == ms(tables.refetches["started_at"]) == [1506.1]  # 500 ms of silence
    assert ms(tables.refetches["finished_at"]) == [1524.1]  # 4 ms there, 10 ms service, 4 ms back
    (refetch,) = tables.refetches.to_dict("records")
    assert (refetch["version"], refetch["status"], refetch["answered"], refetch["bytes"]) == (1, 200, 1, 1500)
    assert refetch["outcome"] == "applied"


def test_subscribers_are_told_one_after_the_other() -> None:
    tables = play([1.0], pages__0__subscribers=4)
    assert ms(tables.notifications["received_at"]) == [1006.1, 1006.2, 1006.3, 1006.4]
    assert tables.notifications["subscriber"].tolist() == [0, 1, 2, 3]


def test_the_specific_channel_is_told_before_the_generic_one() -> None:
    tables = play([1.0], pages=[{"page": "dashboard", "subscribers": 1}, {"page": "detail", "subscribers": 1}])
    assert tables.notifications["channel"].tolist() == ["private-servers.1", "private-servers"]
    assert tables.notifications["subscriber"].tolist() == [1, 0]
    assert ms(tables.notifications["received_at"]) == [1006.1, 1006.2]


def test_an_event_waits_for_the_fan_out_before_it() -> None:
    """100 subscribers take 11 ms; the second event comes 5 ms after the first and is begun when that is done."""
    tables = play([1.0, 1.005], pages__0__subscribers=100)
    second = tables.notifications[tables.notifications["update"] == 1]
    assert ms(second["received_at"])[0] == 1002 + 11 + 1 + 0.1 + 3


def test_nodes_share_the_subscribers_and_each_pays_the_fixed_part() -> None:
    tables = play([1.0], pages__0__subscribers=4, broadcaster__nodes=2)
    assert ms(tables.notifications["received_at"]) == [1006.1, 1006.1, 1006.2, 1006.2]
    assert sorted(tables.notifications["subscriber"].tolist()[:2]) == [0, 1]
    assert metric(tables, "frames.0") == metric(tables, "frames.1") == 2


def test_a_network_that_varies_keeps_the_frames_of_a_connection_in_order() -> None:
    tables = play([1.0, 1.001, 1.002], pages__0__subscribers=20, network__to_subscriber={"kind": "exponential", "scale": 0.05})
    for _, rows in tables.notifications.groupby("subscriber"):
        assert rows["update"].is_monotonic_increasing


# --- pages and channels ------------------------------------------------------------------------------------------------


def test_pages_are_dealt_to_the_servers_in_turn() -> None:
    tables = play([1.0], fleet__users=2, pages__0__subscribers=5)
    assert tables.subscriptions["resource_id"].tolist() == [1, 2, 1, 2, 1]
    assert tables.subscriptions["user"].tolist() == [1, 2, 1, 2, 1]
    assert tables.notifications["subscriber"].tolist() == [0, 2, 4]


def test_a_dashboard_listens_to_all_servers_and_all_sites() -> None:
    tables = play([1.0], pages__0__page="dashboard")
    assert tables.subscriptions["channel"].tolist() == ["private-servers", "private-sites"]
    assert tables.refetches["resource"].tolist() == ["dashboard"]
    shared = play([], fleet__users=2, pages__0__page="dashboard", pages__0__subscribers=5)
    assert shared.pages["user"].tolist() == [1, 2, 1, 2, 1], "dealt to the users in turn"
    assert tables.refetches["version"].tolist() == [1]


@pytest.mark.parametrize(
    ("channels", "heard"),
    [("both", {0, 1, 2}), ("specific", {0}), ("generic", {1, 2}), ("per_user", {0, 1})],
)
def test_which_pages_hear_by_the_channels_of_the_event(channels: str, heard: set[int]) -> None:
    """Subscriber 0 shows server 1, 1 and 2 are the dashboards of its owner and of another user."""
    pages = [{"page": "detail", "subscribers": 1}, {"page": "dashboard", "subscribers": 2}]
    tables = play([1.0], fleet__users=2, pages=pages, broadcast__channels=channels)
    assert set(tables.notifications["subscriber"]) == heard


def test_dashboards_cost_more_with_their_rows() -> None:
    tables = play([1.0], fleet__servers_per_user=20, pages__0__page="dashboard", api__service_per_row=0.001)
    duration = tables.refetches["finished_at"] - tables.refetches["started_at"]
    assert ms(duration) == [4 + 10 + 20 + 4]
    assert tables.refetches["bytes"].tolist() == [1500 + 20 * 300]


def test_a_page_that_never_subscribes_hears_nothing() -> None:
    tables = play([1.0], pages__0__behaviour="never_subscribe")
    assert len(tables.notifications) == len(tables.refetches) == 0


def test_a_page_that_stops_reading_is_written_to_and_hears_nothing() -> None:
    tables = play([1.0], pages__0__behaviour="stop_reading")
    assert len(tables.notifications) == 0
    assert metric(tables, "frames") == 1


def test_full_payloads_are_not_refetched() -> None:
    tables = play([1.0], policy={"kind": "full_payload"}, broadcast__payload="full", broadcast__payload_bytes=1000)
    assert len(tables.notifications) == 1
    assert len(tables.refetches) == 0
    assert metric(tables, "bytes") > metric(play([1.0]), "bytes") + 999


@pytest.mark.parametrize(
    ("at", "moment", "outcomes"),
    [
        # What a payload showed already is nothing new after a reconnect; what was missed is, the first time.
        ([1.0, 2.0, 12.0], "after_commit", ["not_newer", "applied", "not_newer"]),
        ([], "after_commit", ["not_newer"] * 3),
        # The page shows version 1 before it is committed; the refetch after the reconnect at 6 s brings version 0 back.
        ([4.5], "on_save", ["applied", "applied", "not_newer"]),
    ],
)
@pytest.mark.parametrize("page", ["detail", "dashboard"])
def test_what_a_payload_showed_is_not_newer(page: str, at: list[float], moment: str, outcomes: list[str]) -> None:
    tables = play(
        at,
        duration=30,
        pages=[{"page": page, "subscribers": 1, "policy": {"kind": "full_payload"}, "refetch_on_reconnect": True}],
        broadcast={"payload": "full", "moment": moment, "commit_delay": 3.0 if moment == "on_save" else 0.0, "channels": "both"},
        incidents=[{"kind": "disconnect", "at": at} for at in (5.0, 11.9, 20.0)],
    )
    assert tables.refetches["outcome"].tolist() == outcomes


def test_a_task_is_shown_as_its_event_arrives_and_fetched_after_a_reconnect_only() -> None:
    """Beside a notified page of the same server, which hears of its progress only; dashboards hear of neither."""
    tables = run(
        Scenario(
            duration=20,
            fleet=Fleet(users=1, servers_per_user=1),
            workload=Tasks(takes=Constant(1.0), per_minute=60, parts=1),
            pages=(Pages("task", 2, refetch_on_reconnect=True), Pages("detail", 1), Pages("dashboard", 1)),
            incidents=(Disconnect(at=10.0, share=1.0),),
        )
    )
    ends = tables.updates[tables.updates["resource"] == "task"]
    assert len(ends) > 5
    assert ends["version"].tolist() == list(range(1, len(ends) + 1))
    pages = tables.pages.set_index("subscriber")
    kind = pages["page"].astype(str).reindex(tables.notifications["subscriber"]).to_numpy()
    of_task = tables.notifications["update"].isin(ends["update"]).to_numpy()
    assert ((kind == "task") == of_task).all()
    assert set(tables.notifications["channel"].astype(str)[of_task]) == {"private-tasks.1"}
    mine = tables.refetches[tables.refetches["resource"] == "task"]
    assert sorted(mine["subscriber"]) == [0, 1], "once each, after the disconnection"
    journeys = Ledger(tables).journeys
    shown = journeys[(journeys["page"] == "task") & journeys["started_at"].isna() & journeys["received_at"].notna()]
    assert len(shown) > 8
    assert (shown["fresh_at"] == shown["received_at"]).all()
    assert set(journeys["page"][journeys["update"].isin(ends["update"])]) == {"task"}


def test_polling_pages_subscribe_to_nothing() -> None:
    tables = play([1.0], policy={"kind": "polling", "interval": 2}, pages__0__subscribers=3)
    assert len(tables.notifications) == 0
    assert tables.subscriptions["channel"].tolist() == ["", "", ""]
    gaps = tables.refetches.groupby("subscriber")["started_at"].diff().dropna()
    assert set(gaps.round(9)) == {2.0}
    applied = tables.refetches[tables.refetches["outcome"] == "applied"]
    assert applied["subscriber"].tolist() == sorted(applied["subscriber"]) or len(applied) == 3


def test_a_hidden_polling_page_asks_a_tenth_as_often() -> None:
    tables = play([1.0], policy={"kind": "polling", "interval": 0.5}, pages__0__subscribers=2, pages__0__hidden=0.5)
    counts = tables.refetches["subscriber"].value_counts()
    assert counts[0] in (39, 40, 41)
    assert counts[1] == 4


# --- what is read, and when --------------------------------------------------------------------------------------------


def test_the_state_is_read_when_the_request_is_begun() -> None:
    """Refetch at 1.5061 s is begun at 1.5101 s: a change committed just then is in it, one a microsecond later is not."""
    assert play([1.0, 1.5101]).refetches["version"].tolist()[0] == 2
    assert play([1.0, 1.510101]).refetches["version"].tolist()[0] == 1


def test_an_update_that_is_seen_early_makes_its_own_refetch_not_newer() -> None:
    tables = play(
        [1.0, 1.505], policy={"kind": "immediate"}, api__service={"kind": "constant", "value": 0.0}, network__to_api=0.01
    )
    assert tables.refetches["outcome"].tolist() == ["applied", "applied"]
    tables = play([1.0, 1.005], policy={"kind": "immediate"})
    assert tables.refetches["version"].tolist() == [2, 2]
    assert tables.refetches["outcome"].tolist() == ["applied", "not_newer"]


def test_a_broadcast_on_save_may_be_quicker_than_the_commit() -> None:
    """The race: the event leaves at once, the refetch reads the old state, and nobody tells the page again."""
    race = {"policy": {"kind": "immediate"}, "broadcast__commit_delay": 0.1}
    tables = play([1.0], broadcast__moment="on_save", **race)
    assert ms(tables.updates["committed_at"]) == [1100.0]
    assert ms(tables.updates["published_at"]) == [1002.0]
    assert tables.refetches["outcome"].tolist() == ["not_newer"]
    assert figure(tables, "pages.stale_at_end") == 1
    tables = play([1.0], broadcast__moment="after_commit", **race)
    assert ms(tables.updates["published_at"]) == [1102.0]
    assert tables.refetches["outcome"].tolist() == ["applied"]
    assert figure(tables, "pages.stale_at_end") == 0


def test_an_old_answer_that_comes_late_stays_on_the_screen() -> None:
    """Two workers; the first request takes 300 ms, the second 10 ms: the page ends on the older state."""
    overlap = {
        "policy": {"kind": "immediate"},
        "api__workers": 2,
        "incidents": [{"kind": "slowdown", "at": 1.0, "duration": 0.03, "factor": 30}],
    }
    tables = play([1.0, 1.05], **overlap)
    assert tables.refetches["version"].tolist() == [2, 1]
    assert tables.refetches["outcome"].tolist() == ["applied", "applied"]
    assert figure(tables, "pages.regressions") == 1
    assert figure(tables, "pages.stale_at_end") == 1
    for rule, outcomes in (("cancel", ["superseded", "applied"]), ("single_flight", ["applied", "applied"])):
        tables = play([1.0, 1.05], in_flight=rule, **overlap)
        assert tables.refetches["outcome"].tolist() == outcomes
        assert figure(tables, "pages.stale_at_end") == figure(tables, "pages.regressions") == 0


@pytest.mark.parametrize(("shows", "versions", "outcome"), [("user", [1, 1], "not_newer"), ("everyone", [1, 2], "applied")])
def test_a_dashboards_version_is_the_newest_change_of_what_it_shows(shows: str, versions: list[int], outcome: str) -> None:
    """On the generic channel it hears of another user's server too, and refetches: for nothing, unless it shows everyone's."""
    workload = {"kind": "constant", "rate": 1.0}
    scenario = scene(fleet__users=2, duration=3, pages__0__page="dashboard", api__dashboard_of=shows)
    tables = run(scenario.replace({"workload": workload}))
    assert tables.updates["resource_id"].tolist() == [1, 2]
    assert tables.pages["user"].tolist() == [1]
    assert tables.refetches["version"].tolist() == versions
    assert tables.refetches["outcome"].tolist() == ["applied", outcome]


def test_the_sequence_counts_everyones_changes() -> None:
    """The other user's change came first: the dashboard's version jumps."""
    workload = {"kind": "constant", "rate": 1.0}
    scenario = scene(fleet__users=2, duration=4, pages=[{"page": "dashboard", "subscribers": 2}])
    tables = run(scenario.replace({"workload": workload}))
    mine = tables.refetches[tables.refetches["outcome"] == "applied"]
    assert mine.groupby("subscriber")["version"].agg(list).tolist() == [[1, 3], [2]]


# --- the window and what follows it --------------------------------------------------------------------------------------


def test_updates_go_on_through_the_cool_down_so_that_the_end_rescues_no_starving_page() -> None:
    """Updates every 0.4 s, a trailing debounce of 0.5 s: the page shows nothing, also not after the window."""
    starving = scene(duration=10, drain=5).replace({"workload": {"kind": "constant", "rate": 2.5}, "cooldown": None})
    tables = run(starving)
    assert tables.updates["intended_at"].max() > 14.5
    assert tables.refetches.empty
    rescued = run(starving.replace({"cooldown": 0.0}))
    assert rescued.updates["intended_at"].max() < 10
    assert len(rescued.refetches) == 1
    both = run(starving.replace({"cooldown": 2.0}))
    assert 11.5 < both.updates["intended_at"].max() < 12
    assert both.notifications["received_at"].max() < 12.1


def test_a_policy_with_a_cool_down_meets_the_same_updates_as_one_without() -> None:
    scenario = scene(duration=20, drain=5).replace({"workload": {"kind": "poisson", "rate": 3.0}, "cooldown": None})
    starving = run(scenario)
    throttled = run(scenario.replace({"policy": {"kind": "throttle", "wait": 0.5}}))
    mine = throttled.updates["intended_at"].tolist()
    assert mine == starving.updates["intended_at"].tolist()[: len(mine)]
    assert max(mine) < 20 < starving.updates["intended_at"].max()


def test_load_is_that_of_the_window() -> None:
    """Two refetches, one after the window: 10 ms of 10 s; the second of a herd of two waits 10 ms."""
    tables = play([1.0, 9.8], pages__0__subscribers=2, broadcaster__per_subscriber=0.0)
    assert metric(tables, "utilisation") == pytest.approx(0.002)
    assert metric(tables, "queue_wait.mean") == pytest.approx(0.005)
    assert metric(tables, "queue_wait.max") == pytest.approx(0.01)
    assert np.isnan(metric(play([]), "queue_wait.mean"))


def test_a_dashboard_owes_nothing_for_what_it_does_not_show() -> None:
    """Told of its own user's servers only, it is not stale because another user's server has changed."""
    other = {"fleet__users": 2, "pages": [{"page": "dashboard", "subscribers": 2}], "broadcast__channels": "per_user"}
    assert figure(play([1.0], **other), "pages.stale_at_end") == 0
    assert figure(play([1.0], policy={"kind": "debounce", "wait": 60.0}, **other), "pages.stale_at_end") == 1


# --- publishing --------------------------------------------------------------------------------------------------------


def test_a_queue_delays_and_its_worker_is_busy_until_the_broadcaster_answers() -> None:
    """Poll 100 ms; a job takes 2 ms on the way and 1.1 ms of fan-out. Each waits for the one before."""
    queued = {"broadcast__dispatch": "queued", "broadcast__queue_latency": 0.1}
    tables = play([1.0, 1.0, 1.0], broadcaster__answer="after", **queued)
    assert ms(tables.updates["published_at"]) == [1102.0, 1105.1, 1108.2]
    tables = play([1.0, 1.0], broadcaster__answer="before", broadcaster__compose_per_subscriber=0.005, **queued)
    assert ms(tables.updates["published_at"]) == [1102.0, 1102 + 1 + 5 + 2]
    tables = play([1.0, 1.0], broadcast__queue_workers=2, **queued)
    assert ms(tables.updates["published_at"]) == [1102.0, 1102.0]


def test_a_unique_event_is_dropped_while_one_of_its_resource_waits() -> None:
    tables = play([1.0, 1.05, 2.0], broadcast__dispatch="queued", broadcast__queue_latency=0.1, broadcast__unique=True)
    assert tables.updates["status"].tolist() == ["committed", "not_broadcast", "committed"]


def test_the_lock_of_a_unique_event_ends_by_itself() -> None:
    unique = {"broadcast__dispatch": "queued", "broadcast__queue_latency": 0.1, "broadcast__unique": True}
    tables = play([1.0, 1.04, 1.05], broadcast__unique_for=0.05, **unique)
    assert tables.updates["status"].tolist() == ["committed", "not_broadcast", "committed"]


def test_a_unique_event_that_is_tried_again_leaves_the_lock_to_the_one_that_waits() -> None:
    """The first is lost at 1.502 s and sent again at 1.602 s; the second waits from 1.55 to 2.05 s, so the third is dropped."""
    down = {"incidents": [{"kind": "restart", "at": 0.9, "down": 0.65}], "broadcast__backoff": 0.1}
    unique = {"broadcast__dispatch": "queued", "broadcast__queue_latency": 0.5, "broadcast__unique": True}
    tables = play([1.0, 1.55, 1.7], **unique, **down)
    assert ms(tables.updates["published_at"]) == [1604.0, 2052.0, None]


def test_a_change_that_comes_while_a_unique_event_is_sent_has_an_event_of_its_own() -> None:
    """The lock is released before the send begins: at 1.1 s, and the way to the broadcaster takes 2 ms."""
    unique = {"broadcast__dispatch": "queued", "broadcast__queue_latency": 0.1, "broadcast__unique": True}
    assert play([1.0, 1.099], **unique).updates["status"].tolist() == ["committed", "not_broadcast"]
    tables = play([1.0, 1.101], **unique)
    assert tables.updates["status"].tolist() == ["committed", "committed"]
    assert tables.refetches["version"].max() == 2


def test_unique_is_for_queued_dispatch_only() -> None:
    assert play([1.0, 1.0], broadcast__unique=True).updates["status"].tolist() == ["committed", "committed"]


def test_a_debounced_dispatch_sends_the_last_of_a_series() -> None:
    tables = play([1.0, 1.2, 1.4], broadcast__debounce=0.3)
    assert ms(tables.updates["published_at"]) == [None, None, 1702.0]
    assert tables.refetches["version"].tolist() == [3]


@pytest.mark.parametrize(
    ("at", "latency", "published"),
    [
        ([1.0, 1.2, 1.4, 1.6], 0.0, [None, None, 1402.0, 1902.0]),  # 1.4 is 0.4 s after the first: at once
        ([1.0, 1.2], 0.0, [None, 1502.0]),  # the maximum is looked at when an event is dispatched
        ([1.0, 2.0, 2.2], 0.0, [1302.0, None, 2502.0]),  # what was sent ends its series
        ([1.0, 1.2, 1.4, 1.401], 0.002, [None, None, None, 1705.0]),  # overtaken while it waits for a worker
    ],
)
def test_a_debounced_dispatch_with_a_maximum(at: list[float], latency: float, published: list[float | None]) -> None:
    """As Laravel 13's DebounceFor; through the queue, also with dispatch = "now"."""
    tables = play(at, broadcast__debounce=0.3, broadcast__debounce_max_wait=0.4, broadcast__queue_latency=latency)
    assert ms(tables.updates["published_at"]) == published


def test_policies_meet_the_same_updates() -> None:
    random = {"workload": {"kind": "poisson", "rate": 3.0}, "fleet__servers_per_user": 5}
    one = run(scene().replace({key.replace("__", "."): value for key, value in random.items()}))
    other = run(one.scenario.replace({"policy": {"kind": "window", "wait": 2.0}}))
    assert one.updates["intended_at"].tolist() == other.updates["intended_at"].tolist()
    assert len(one.updates) > 10
