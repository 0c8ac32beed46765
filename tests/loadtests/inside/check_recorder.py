"""From packed rows to parts, statistics, histograms and listeners; and back by the reader of parts."""

import errno
import os
import time

import numpy as np
import pytest

from loadtests.client.mux import Mux
from loadtests.client.reader import Event, EventReader, EventSeries, FrameShape
from loadtests.recording import writer as writing
from loadtests.recording.listeners import Failed, Listeners
from loadtests.recording.recorder import COUNTERS, HISTOGRAMS, Recorder
from loadtests.recording.rows import ROOM, Rows, Sample
from sim.refetch import Refetch
from sim.results import parts
from sim.results.histogram import Histogram
from sim.results.journal import Journal
from sim.results.run import TABLES
from sim.target.keys import Keys, renamed
from tests.loadtests.inside.fixtures import EVENTS
from tests.loadtests.peer import until

T0 = 1_800_000_000_000_000_000
MS = 1_000_000


def detail_of(recorder):
    return recorder.kind("DetailPage", "detail", "server", "/servers/{id}")


def pages(recorder, kind, count):
    return [recorder.subscriber(kind) for _ in range(count)]


def event(recorder, update=1, sent_at=T0, channel="private-servers"):
    data = {"server_id": 5} if update < 0 else {"update": update, "sent_at": sent_at, "published_at": T0 + 1}
    event = Event("E", channel, data)
    event.code = recorder.event(event) << 2
    return event


def heard(recorder, event, subscriber, arrived=5 * MS, read=7 * MS, stamp=1):
    recorder.notification(event.code | stamp, T0 + arrived, T0 + read, subscriber)


def test_rows_grow_and_come_out_as_they_went_in():
    full = []
    rows = Rows(lambda: full.append(rows), a="q", b="i", c="h")
    count = 2 * ROOM + 1
    for i in range(count):
        rows.add(i << 32, -i, i % 100)
    assert len(full) == 2  # Beyond the room, and beyond twice that.
    taken = rows.take()
    assert taken["a"].tolist() == [i << 32 for i in range(count)]
    assert taken["b"].tolist() == [-i for i in range(count)]
    rows.add(1, 2, 3)
    assert rows.take().tolist() == [(1, 2, 3)]
    assert len(taken) == count  # The next batch has a buffer of its own.
    for first in range(0, 3 * ROOM, ROOM // 4):
        rows.add(first, 1, 1)
        rows.extend(ROOM // 4 - 1, a=np.arange(first + 1, first + ROOM // 4), b=2, c=np.ones(ROOM // 4 - 1))
    assert len(full) == 4
    assert rows.take()["a"].tolist() == list(range(3 * ROOM))


def test_a_run_comes_back_from_its_parts(recorder, stats, tmp_path):
    detail = detail_of(recorder)
    board = recorder.kind("Dashboard", "dashboard", "dashboard", "/dashboard")
    assert detail_of(recorder) is detail
    first, *others = pages(recorder, detail, 10)
    assert first == 2_000_000
    (dash,) = pages(recorder, board, 1)
    channels = [event(recorder, channel=f"private-servers.{i}") for i in range(3)]
    for subscriber in (first, *others):
        heard(recorder, channels[subscriber % 3], subscriber)
    heard(recorder, event(recorder, -1), dash, stamp=2)
    done = Refetch(T0 + 10, 2, T0 + 20, T0 + 5 * MS, 7, 200, 300, "applied")
    recorder.refetch(detail, others[0], 5, done, T0, T0 + MS, "")
    detail.versions.add("counter")
    lost = Refetch(T0 + 10, 1, T0 + 20, T0 + 30, None, None, 0, "failed")
    recorder.refetch(board, dash, 0, lost, -1, -1, "connect: connection refused")
    untold = Refetch(T0, 1, T0, T0 + 4 * MS, 1 << 60, 200, 300, "applied")
    recorder.refetch(board, dash, 0, untold, -1, T0 + MS, "")
    open_end = Refetch(T0, 1, T0, -1, None, None, 0, "running")
    recorder.refetch(board, dash, 0, open_end, T0, T0, "")
    for ended_at, reason in ((-1, "end"), (T0 + 9, "dropped")):
        recorder.subscription(first, "detail", 1, "server", 5, "private-servers.5", T0, ended_at, reason, "debounce")
    recorder.subscription(first, "detail", 1, "server", 5, "private-servers.5", T0 + 20, -1, "end", "debounce")
    recorder.page((first, "detail", 1, "server", 5, T0 - 5, -1, "end", 3, "debounce", False))
    recorder.page((dash, "dashboard", 1, "dashboard", 0, T0 - 5, -1, "end", None, "debounce", True))
    recorder.page((dash, "dashboard", 1, "dashboard", 0, T0 - 5, T0 + 50, "closed", None, "debounce", True))
    recorder.metric("subscribed", 10)
    recorder.timing("WS", "connect", 3 * MS)
    recorder.timing("WS", "connect", None, failed="connection refused")
    recorder.finish()

    folder = tmp_path / "parts"
    notifications = parts.read_table(folder, "notifications").to_pandas()
    assert len(notifications) == 11
    assert notifications.iloc[0].to_dict() == {
        "update": 1, "subscriber": 2_000_000, "channel": "private-servers.2", "received_at_ns": T0 + 5 * MS,
        "read_at_ns": T0 + 7 * MS, "sent_at_ns": T0, "stamp": 1, "event": parts.event_keys([channels[0].facts()[4]])[0],
    }  # fmt: skip
    refetches = parts.read_table(folder, "refetches").to_pylist()
    assert [row["outcome"] for row in refetches] == ["applied", "failed", "applied", "running"]
    assert [row["resource"] for row in refetches] == ["server"] + ["dashboard"] * 3
    assert [row["version"] for row in refetches] == [7, None, 1 << 60, None]
    assert [row["status"] for row in refetches] == [200, None, 200, None]
    subscriptions = parts.read_table(folder, "subscriptions").to_pandas()
    assert subscriptions["reason"].tolist() == ["dropped", "end"]
    assert subscriptions["ended_at_ns"].tolist() == [T0 + 9, -1]
    lives = parts.read_table(folder, "pages").to_pylist()
    assert [(row["subscriber"], row["reason"], row["loaded_version"], row["weight"]) for row in lives] == [
        (first, "end", 3, 1.0),
        (dash, "closed", None, 1.0),
    ]
    assert len(parts.read_table(folder, "events")) == 4
    for table in TABLES:
        if table != "updates":
            columns = parts.run_columns(table, parts.read_table(folder, table), T0)
            assert set(columns) == set(TABLES[table].names)
    (header,) = parts.read_headers(folder)
    assert set(header) - {"directory"} == set(parts.HEADER)
    assert set(header["counters"]) == set(COUNTERS)
    assert set(header["histograms"]) == set(HISTOGRAMS)
    assert header["finished"]
    assert header["process"] == "harness-2"
    assert header["version_kinds"] == {"server": ["counter"]}
    expected = {"notifications": 11, "coalesced": 1, "untimed": 1, "refetches": 4, "failed_refetches": 1, "recording_faults": 0}
    assert header["counters"] | expected == header["counters"]
    assert header["rows"] | {"notifications": 11, "refetches": 4, "events": 4} == header["rows"]
    assert Histogram.from_dict(header["histograms"]["time_to_fresh"]).count == 1

    assert stats.get("DetailPage", "NOTIFY").num_requests == 10
    assert stats.get("DetailPage", "NOTIFY").avg_response_time == 5
    assert stats.get("Dashboard (after the first page)", "NOTIFY").num_requests == 1
    assert stats.get("DetailPage", "FRESH").avg_response_time == 5
    assert stats.get("Dashboard (since notified)", "FRESH").avg_response_time == 3
    assert stats.get("/servers/{id}", "GET").num_requests == 1
    assert stats.get("/servers/{id}", "GET").avg_response_time == pytest.approx(5, rel=1e-3)
    failing = stats.get("/dashboard", "GET")
    assert (failing.num_requests, failing.num_failures) == (2, 1)
    assert stats.total.num_requests == 3
    connect = stats.get("connect", "WS")
    assert (connect.num_requests, connect.num_failures, connect.avg_response_time) == (2, 1, 3)
    assert {error.error for error in stats.errors.values()} == {"connect: connection refused", "connection refused"}


def test_what_is_told_after_the_first_page_counts_from_its_arrival_in_an_earlier_batch_too(recorder, stats):
    kind = detail_of(recorder)
    one, two, three = pages(recorder, kind, 3)
    untimed = event(recorder, -1)
    heard(recorder, untimed, one, arrived=5 * MS)
    heard(recorder, untimed, two, arrived=8 * MS, read=9 * MS)
    recorder.drain()
    heard(recorder, untimed, three, arrived=25 * MS, read=26 * MS)
    recorder.drain()
    entry = stats.get("DetailPage (after the first page)", "NOTIFY")
    assert (entry.num_requests, entry.min_response_time, entry.max_response_time) == (3, 0, 20)
    assert recorder.histograms["time_to_notified"].count == 0


def test_events_forgotten_by_the_ear_are_forgotten_here_and_later_ones_counted_right(recorder):
    kind = detail_of(recorder)
    (page,) = pages(recorder, kind, 1)
    for batch in range(4):
        for update in range(3000):
            heard(recorder, event(recorder, batch * 3000 + update), page)
        recorder.drain()
        assert len(recorder._facts) <= EventReader.REMEMBERED + 3000
    assert recorder.counters["notifications"] == 12_000
    assert recorder.counters["recording_faults"] == 0
    assert recorder._facts["update"][-1] == 11_999


def test_a_series_of_events_has_a_number_for_each_and_one_row_for_those_that_are_alike(recorder, stats, tmp_path):
    kind = detail_of(recorder)
    two = pages(recorder, kind, 2)
    texts = [f'{{"update":{1 + i // 2},"sent_at":{T0 + i // 2}}}' for i in range(8)]
    numbers = [recorder.event(Event("E", "private-servers", texts[0]))]
    written = [b'{"event":"E","data":"%s","channel":"private-servers"}' % text.replace('"', '\\"').encode() for text in texts]
    series = EventSeries(
        FrameShape(written[0], "E", "private-servers", texts[0]), np.array([list(frame) for frame in written], np.uint8)
    )
    numbers += [recorder.event(series), recorder.event(Event("E", "private-sites", texts[0]))]
    assert numbers == [0, 1, 9]
    recorder.notifications(np.arange(10) << 2 | 1, T0 + MS + np.arange(10), T0 + 2 * MS, np.array(two * 5))
    recorder.finish()
    rows, events = (parts.read_table(tmp_path / "parts", name).to_pandas() for name in ("notifications", "events"))
    assert rows["update"].tolist() == [1, 1, 1, 2, 2, 3, 3, 4, 4, 1]
    assert rows["sent_at_ns"].tolist() == [T0 + update - 1 for update in rows["update"]]
    assert rows["subscriber"].tolist() == two * 5
    assert rows["received_at_ns"].tolist() == [T0 + MS + i for i in range(10)]
    assert rows["event"].tolist() == [parts.event_keys([f"E {texts[2 * u - 2]}".encode()])[0] for u in rows["update"]]
    assert list(zip(events["update"], events["channel"], strict=True)) == [
        *((update, "private-servers") for update in (1, 2, 3, 4)),
        (1, "private-sites"),
    ]
    assert stats.get("DetailPage", "NOTIFY").num_requests == 10
    assert recorder.counters["recording_faults"] == 0


def test_more_rows_than_should_wait_are_taken_once_the_page_is_through_with_them(recorder):
    (one,) = pages(recorder, detail_of(recorder), 1)
    known = event(recorder, sent_at=0)  # An instant, though an old one.
    for _ in range(ROOM + 1):
        heard(recorder, known, one)
    assert recorder.counters["notifications"] == 0
    until(lambda: recorder.counters["notifications"] == ROOM + 1)
    assert recorder.counters["untimed"] == recorder.counters["recording_faults"] == 0


def test_pages_are_drawn_at_random_and_all_of_their_rows_are_kept(stats, tmp_path):
    mux = Mux()
    recorder = Recorder(mux, stats, 0, tmp_path / "parts", Sample(seed=3, share=0.25), True)
    kind = detail_of(recorder)
    two = [event(recorder, 1), event(recorder, 2, channel="private-sites")]
    for number, subscriber in enumerate(pages(recorder, kind, 4000)):
        recorder.page((subscriber, "detail", 1, "server", 5, T0, -1, "end", None, "debounce", False))
        for one in two:
            heard(recorder, one, subscriber, arrived=number, read=number + 1)
    recorder.finish()
    mux.close()
    rows = parts.read_table(tmp_path / "parts", "notifications").to_pandas()
    lives = parts.read_table(tmp_path / "parts", "pages").to_pandas()
    kept = lives["subscriber"].to_numpy()
    assert set(lives["weight"]) == {4.0}
    assert rows.groupby("subscriber").size().to_dict() == dict.fromkeys(kept.tolist(), 2)
    # Neither the first ones nor every fourth: as many in each quarter, within four standard deviations.
    quarters = np.bincount(kept // 1000, minlength=4)
    assert np.all(np.abs(quarters - 250) < 4 * np.sqrt(1000 * 0.25 * 0.75))
    assert len(set(np.diff(kept))) > 4
    counts = parts.read_table(tmp_path / "parts", "counts").to_pandas()
    assert counts["received"].sum() + len(rows) == 8000
    others = np.setdiff1d(np.arange(4000), kept)
    assert counts["first_at_ns"].tolist() == [T0 + others[0]] * 2
    assert counts["last_at_ns"].tolist() == [T0 + others[-1]] * 2
    assert recorder.histograms["time_to_notified"].count == 8000
    other = Sample(seed=4, share=0.25).keeps(np.arange(4000))
    assert not np.array_equal(np.flatnonzero(other), kept)
    assert Sample(share=1.0).keeps([5]).all()
    assert not Sample(share=0.0).keeps(np.arange(100)).any()


def test_a_latency_below_zero_is_an_error_and_no_number(recorder):
    (page,) = pages(recorder, detail_of(recorder), 1)
    heard(recorder, event(recorder, sent_at=T0 + 6 * MS), page)
    recorder.finish()
    assert recorder.counters["negative"] == 1
    assert recorder.histograms["time_to_notified"].count == 0


def test_nothing_is_kept_without_a_directory(stats):
    mux = Mux()
    recorder = Recorder(mux, stats, 0, None, Sample(), True)
    (page,) = pages(recorder, detail_of(recorder), 1)
    one = event(recorder)
    for _ in range(100):
        heard(recorder, one, page)
    recorder.drain()
    recorder.write()
    recorder.finish()
    mux.close()
    assert recorder.counters["notifications"] == 100
    assert np.isclose(recorder.histograms["reader_lag"].quantile(0.5), 0.002, rtol=0.02)


def test_what_cannot_be_counted_is_said_and_the_rest_goes_on(recorder, stats, tmp_path, monkeypatch, caplog):
    (page,) = pages(recorder, detail_of(recorder), 1)
    one = event(recorder)
    heard(recorder, one, page)
    recorder.timing("WS", "connect", MS)
    monkeypatch.setitem(recorder.histograms, "reader_lag", None)
    recorder.drain()
    assert "samples could not be recorded" in caplog.text
    assert stats.get("connect", "WS").num_requests == 1
    monkeypatch.undo()
    heard(recorder, one, page)
    recorder.finish()
    (header,) = parts.read_headers(tmp_path / "parts")
    assert (header["counters"]["recording_faults"], header["counters"]["rows_lost"]) == (1, 1)
    assert header["fault"].startswith("AttributeError")
    assert parts.read_table(tmp_path / "parts", "notifications").num_rows == 1


def test_a_disk_that_was_full_for_a_while_costs_nothing_but_time(recorder, tmp_path, monkeypatch):
    kind = detail_of(recorder)
    (page,) = pages(recorder, kind, 1)
    one = event(recorder)
    heard(recorder, one, page)
    recorder.drain()
    recorder.write()
    append, refused = Journal.append, []

    def full(self, columns):
        if len(refused) < 3:
            refused.append(1)
            self.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, columns)

    monkeypatch.setattr(Journal, "append", full)
    for _ in range(5):
        heard(recorder, one, page)
        recorder.drain()
        recorder.write()
    recorder.finish()
    (header,) = parts.read_headers(tmp_path / "parts")
    assert header["finished"]
    assert (header["counters"]["recording_faults"], header["counters"]["rows_lost"]) == (3, 0)
    assert "No space" in header["fault"]
    assert parts.read_table(tmp_path / "parts", "notifications").num_rows == 6


def test_a_disk_that_stays_full_is_said_and_bounded(recorder, tmp_path, monkeypatch):
    def full(self, columns):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    monkeypatch.setattr(writing, "ROWS_WAITING", 40)
    (page,) = pages(recorder, detail_of(recorder), 1)
    one = event(recorder)
    for _ in range(10):
        for _ in range(10):
            heard(recorder, one, page)
        recorder.drain()
        recorder.write()
    recorder.finish()
    (header,) = parts.read_headers(tmp_path / "parts")
    assert not header["finished"]
    assert 60 <= header["counters"]["rows_lost"] < 70, "forty may wait"


def test_what_is_drained_is_on_disk_before_the_end(recorder, tmp_path):
    (page,) = pages(recorder, detail_of(recorder), 1)
    heard(recorder, event(recorder), page)
    recorder.drain()
    recorder.write()
    for _ in range(200):
        if parts.read_headers(tmp_path / "parts") and parts.read_headers(tmp_path / "parts")[0]["rows"]["notifications"]:
            break
        time.sleep(0.02)
    assert parts.read_table(tmp_path / "parts", "notifications").num_rows == 1
    (header,) = parts.read_headers(tmp_path / "parts")
    assert not header["finished"]
    recorder.finish()
    journals = recorder._writer._journals.values()
    assert journals
    assert all(journal._file.closed for journal in journals)


def test_the_second_test_of_a_process_has_a_place_of_its_own(recorder, stats, tmp_path):
    recorder.finish()
    mux = Mux()
    for expected in ("test-2", "test-3"):
        later = Recorder(mux, stats, 2, tmp_path / "parts", Sample(), True)
        pages(later, detail_of(later), 3)
        later.finish()
        (header,) = parts.read_headers(tmp_path / "parts" / expected)
        assert (header["pid"], header["subscribers"]["last"]) == (os.getpid(), 2)
    mux.close()
    (first,) = parts.read_headers(tmp_path / "parts")
    assert first["subscribers"]["last"] == -1


@pytest.fixture
def told():
    samples = []

    def listener(**sample):
        samples.append(sample)

    EVENTS.request.add_listener(listener)
    yield samples
    EVENTS.request.remove_listener(listener)


def test_other_listeners_hear_of_everything_but_not_of_each(recorder, stats, told):
    kind = detail_of(recorder)
    all_pages = pages(recorder, kind, 1000)
    one = event(recorder)
    for number, subscriber in enumerate(all_pages):
        heard(recorder, one, subscriber, arrived=number * MS, read=number * MS)
    for number in range(4):
        outcome, status = ("failed", None) if number == 0 else ("applied", 200)
        refetch = Refetch(T0, 1, T0, T0 + 4 * MS, number or None, status, 300, outcome)
        recorder.refetch(kind, all_pages[0], 5, refetch, T0, T0, "no answer in 5 s" if number == 0 else "")
    recorder.drain()
    notified = [sample for sample in told if sample["request_type"] == "NOTIFY"]
    assert len(notified) == 250
    assert notified[0]["context"] == {"told": 0.25}
    assert (notified[0]["response_time"], notified[-1]["response_time"]) == (0, 999)
    refetched = [sample for sample in told if sample["request_type"] == "GET"]
    assert len(refetched) == 4
    failures = [sample["exception"] for sample in refetched if sample["exception"]]
    assert [str(failure) for failure in failures] == ["no answer in 5 s"]
    assert isinstance(failures[0], Failed)
    assert len([sample for sample in told if sample["request_type"] == "FRESH"]) == 3
    # Locust's own statistics have each of them once.
    assert stats.get("DetailPage", "NOTIFY").num_requests == 1000


def test_how_arrivals_were_stamped_is_counted(recorder):
    (subscriber,) = pages(recorder, detail_of(recorder), 1)
    one = event(recorder)
    for stamp in (0, 0, 1, 2, 2, 2):
        heard(recorder, one, subscriber, stamp=stamp)
    recorder.drain()
    assert (recorder.counters["unstamped"], recorder.counters["coalesced"]) == (2, 3)


def test_a_listener_hears_of_one_sample_of_each_batch_at_least():
    hook, heard = type(EVENTS.request)(), []
    hook.add_listener(lambda **sample: heard.append(sample["response_time"]))
    Listeners(hook, period=1e-4).tell("GET", "/x", {"": np.array([250.0, 1.0, 2.0])}, 3)
    assert heard == [250.0]
    heard.clear()
    Listeners(hook, period=1.0).tell("GET", "/x", {"": np.zeros(600)}, 600)
    assert len(heard) == 500


def test_the_farthest_that_the_wall_clock_was_off_is_kept_whatever_comes_after(recorder, monkeypatch):
    for step, kept in ((0, 0), (5, 5), (-5, 5), (-6, -6), (2, -6)):
        monkeypatch.setattr(recorder._mux, "step", lambda step=step: step)
        assert recorder.header(finished=False)["clock"]["steps_ns"] == kept


def test_a_listener_hears_when_a_sample_began_and_its_share_of_the_bytes():
    hook, heard = type(EVENTS.request)(), []
    hook.add_listener(lambda **sample: heard.append(sample))
    before = time.time()
    Listeners(hook, period=0.01).tell("GET", "/x", {"": np.array([250.0] * 9), "no answer": np.array([np.nan])}, 105)
    assert [sample["context"]["told"] for sample in heard] == [5 / 9] * 5 + [1.0]
    assert {sample["response_length"] for sample in heard} == {10}
    assert [sample["response_time"] for sample in heard] == [250.0] * 5 + [None]
    assert all(before <= sample["start_time"] + 0.25 <= time.time() for sample in heard[:5])
    assert before <= heard[5]["start_time"] <= time.time()


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_pages_are_drawn_by_the_published_hash(seed):
    """SplitMix64, in whole numbers of any size."""

    def drawn(subscriber):
        x = (seed * 0xD1342543DE82EF95 + (subscriber + 1) * 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return ((x ^ (x >> 31)) >> 11) / 2**53

    subscribers = [*range(200), 2_000_003]
    assert Sample(seed, 0.3).keeps(subscribers).tolist() == [drawn(subscriber) < 0.3 for subscriber in subscribers]


def test_locust_s_own_listener_is_not_asked_and_a_broken_one_only_once():
    calls = []

    def own(**sample):
        calls.append("own")

    def broken(**sample):
        calls.append("broken")
        raise ValueError

    own.__module__ = "locust.runners"
    hook = type(EVENTS.request)()
    hook.add_listener(own)
    hook.add_listener(broken)
    for _ in range(2):
        Listeners(hook).tell("GET", "/x", {"": np.array([1.0, 2.0])}, 10)
    assert set(calls) == {"broken"}


def test_channels_in_tables_have_the_numbers_of_foreign_ids(recorder, tmp_path):
    keys = {"servers": Keys(["0193-a"])}
    recorder.named = lambda channel: renamed(channel, keys)
    recorder.subscription(0, "detail", 1, "server", 1, "private-servers.0193-a", 5, 6, "closed", "debounce")
    recorder.event(Event("E", "private-servers.0193-a", {"server_id": "0193-a", "update": 2**70}))
    recorder.finish()
    subscriptions, events = (parts.read_table(tmp_path / "parts", name).to_pandas() for name in ("subscriptions", "events"))
    assert list(subscriptions["channel"]) == list(events["channel"]) == ["private-servers.1"]
    assert events["resource_id"].isna().all()


def test_what_the_target_says_when_it_refuses_is_in_the_header(recorder):
    for _ in range(3):
        recorder.timing("WS", "pusher:error", None, failed="4009 Origin not allowed")
        recorder.timing("WS", "subscribe", 5, failed="")
        recorder.timing("POST", "/broadcasting/auth", 5, http=True, failed="HTTP 403")
    recorder.timing("WS", "subscribe", None, failed="HTTP 403")
    recorder.drain()
    assert recorder.header(finished=False)["refusals"] == {"4009 Origin not allowed": 3, "POST /broadcasting/auth: HTTP 403": 3}
    for number in range(200):
        recorder.timing("WS", "frame", None, failed=f"garbage {number}")
        recorder.drain()
    assert len(recorder.header(finished=False)["refusals"]) == 5
