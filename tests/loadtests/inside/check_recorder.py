"""From packed rows to parts, statistics and histograms; and back by the reader of parts."""

import numpy as np

from loadtests.client.echo import Event
from loadtests.recording.recorder import COUNTERS, HISTOGRAMS, Rows
from sim.refetch import Refetch
from sim.results import parts
from sim.results.histogram import Histogram
from sim.results.run import TABLES

T0 = 1_800_000_000_000_000_000


def heard(
    recorder, kind, subscriber, update=1, sent_at=T0, arrived=5_000_000, read=7_000_000, channel="private-servers", stamp=1
):
    recorder.notification(
        update, update + 70, sent_at, T0 + arrived, T0 + read, subscriber, recorder.channel_code(channel), kind.code, stamp
    )


def test_rows_grow_and_come_out_as_they_went_in():
    rows = Rows(a="q", b="i", c="h")
    for i in range(10_000):
        rows.add(i << 40, -i, i % 100)
    taken = rows.take()
    assert taken["a"].tolist() == [i << 40 for i in range(10_000)]
    assert taken["b"].tolist() == [-i for i in range(10_000)]
    rows.add(1, 2, 3)
    assert rows.take().tolist() == [(1, 2, 3)]
    assert len(taken) == 10_000  # The next batch has a buffer of its own.


def test_a_run_comes_back_from_its_parts(recorder, stats, tmp_path):
    detail = recorder.kind("DetailPage", "detail", "server", "/servers/{id}")
    board = recorder.kind("Dashboard", "dashboard", "dashboard", "/dashboard")
    assert recorder.kind("DetailPage", "detail", "server", "/servers/{id}") is detail
    recorder.first, recorder.last = 2_000_000, 2_000_009
    for subscriber in range(2_000_000, 2_000_010):
        heard(recorder, detail, subscriber, channel=f"private-servers.{subscriber % 3}")
    heard(recorder, board, 2_000_003, update=-1, sent_at=-1, stamp=2)
    done = Refetch(T0 + 10, 2, T0 + 20, T0 + 5_000_000, 7, 200, 300, "applied")
    recorder.refetch(detail, 2_000_001, 5, done, T0, done.outcome)
    lost = Refetch(T0 + 10, 1, T0 + 20, T0 + 30, -1, 0, 0, "failed")
    recorder.refetch(board, 2_000_002, 0, lost, -1, lost.outcome)
    recorder.subscription(2_000_001, "detail", 1, "server", 5, "private-servers.5", T0, T0 + 9, "end", "debounce")
    recorder.metric("subscribed", 10)
    recorder.event(Event("E", "private-servers.5", {"update": 1, "sent_at": T0, "published_at": T0 + 1}, key=71))
    recorder.timing("WS", "connect", 3_000_000)
    recorder.failure("WS", "connect", "connection refused")
    recorder.finish()

    notifications = parts.read_table(tmp_path, "notifications").to_pandas()
    assert len(notifications) == 11
    assert notifications.iloc[0].to_dict() == {
        "update": 1, "subscriber": 2_000_000, "channel": "private-servers.2", "received_at_ns": T0 + 5_000_000,
        "read_at_ns": T0 + 7_000_000, "event": 71, "sent_at_ns": T0, "stamp": 1,
    }  # fmt: skip
    refetches = parts.read_table(tmp_path, "refetches").to_pandas()
    assert refetches["outcome"].tolist() == ["applied", "failed"]
    assert refetches["resource"].tolist() == ["server", "dashboard"]
    assert refetches["answered"].tolist() == [2, 1]
    assert parts.read_table(tmp_path, "subscriptions").to_pandas()["reason"].tolist() == ["end"]
    assert len(parts.read_table(tmp_path, "events")) == 1
    for table in ("notifications", "refetches", "subscriptions", "metrics"):
        columns = parts.run_columns(table, parts.read_table(tmp_path, table), T0)
        assert set(columns) == set(TABLES[table].names)
    (header,) = parts.read_headers(tmp_path)
    assert set(header) - {"directory"} == set(parts.HEADER)
    assert set(header["counters"]) == set(COUNTERS)
    assert set(header["histograms"]) == set(HISTOGRAMS)
    assert header["finished"]
    assert header["process"] == "harness-2"
    assert header["counters"] | {"notifications": 11, "coalesced": 1, "refetches": 2, "failed_refetches": 1} == header["counters"]
    assert header["rows"] | {"notifications": 11, "refetches": 2, "events": 1} == header["rows"]
    assert Histogram.from_dict(header["histograms"]["time_to_fresh"]).count == 1

    assert stats.get("DetailPage", "NOTIFY").num_requests == 10
    assert stats.get("DetailPage", "NOTIFY").avg_response_time == 5
    assert (stats.get("Dashboard", "NOTIFY").num_requests, stats.get("Dashboard", "NOTIFY").num_none_requests) == (1, 1)
    assert stats.get("DetailPage", "FRESH").avg_response_time == 5
    assert stats.get("/servers/{id}", "GET").num_requests == 1
    assert stats.get("/dashboard", "GET").num_failures == 1
    assert stats.total.num_requests == 1  # The one HTTP answer.


def test_who_is_no_probe_is_counted(recorder, tmp_path):
    kind = recorder.kind("DetailPage", "detail", "server", "/servers/{id}")
    recorder.first, recorder.last, recorder.probes = 0, 9, 2
    for subscriber in range(10):
        heard(recorder, kind, subscriber, update=1, arrived=1_000_000 * (subscriber + 1))
        heard(recorder, kind, subscriber, update=2, channel="private-sites")
    recorder.finish()
    rows = parts.read_table(tmp_path, "notifications").to_pandas()
    assert sorted(set(rows["subscriber"])) == [0, 1]
    counts = parts.read_table(tmp_path, "counts").to_pandas()
    assert counts["received"].sum() + len(rows) == 20
    first = counts[(counts["update"] == 1) & (counts["channel"] == "private-servers")].iloc[0]
    assert (first["received"], first["first_at_ns"] - T0, first["last_at_ns"] - T0) == (8, 3_000_000, 10_000_000)
    assert recorder.histograms["time_to_notified"].count == 20


def test_a_latency_below_zero_is_an_error_and_no_number(recorder):
    kind = recorder.kind("DetailPage", "detail", "server", "/servers/{id}")
    recorder.first = recorder.last = 0
    heard(recorder, kind, 0, sent_at=T0 + 6_000_000)
    recorder.finish()
    assert recorder.counters["negative"] == 1
    assert recorder.histograms["time_to_notified"].count == 0


def test_nothing_is_kept_without_a_directory(recorder):
    recorder._directory = None
    kind = recorder.kind("DetailPage", "detail", "server", "/servers/{id}")
    recorder.first = recorder.last = 0
    for _ in range(100):
        heard(recorder, kind, 0)
    recorder.drain()
    assert not any(recorder._kept.values())
    assert recorder.counters["notifications"] == 100
    assert np.isclose(recorder.histograms["reader_lag"].quantile(0.5), 2_000_000, rtol=0.02)
