"""A batch merged is the same as its samples logged one by one."""

import types

import locust  # noqa: F401
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from locust.stats import RequestStats, bucket_response_time

from loadtests.recording import statistics
from loadtests.recording.statistics import bucket, merge_samples

durations = st.lists(st.floats(0, 1e6, allow_nan=False), max_size=50)


@given(batches=st.lists(durations, max_size=5))
def test_a_batch_is_what_its_samples_are(batches):
    merged, logged = RequestStats(), RequestStats()
    for batch in batches:
        merge_samples(merged, "GET", "/x", np.array(batch), size=10 * len(batch))
        for sample in batch:
            logged.log_request("GET", "/x", sample, 10)
    for entry, reference in ((merged.get("/x", "GET"), logged.get("/x", "GET")), (merged.total, logged.total)):
        for name in (
            "num_requests",
            "num_none_requests",
            "num_failures",
            "response_times",
            "min_response_time",
            "total_content_length",
        ):
            assert getattr(entry, name) == getattr(reference, name), name
        assert entry.max_response_time == reference.max_response_time
        assert entry.total_response_time == pytest.approx(reference.total_response_time)
        assert sum(entry.num_reqs_per_sec.values()) == entry.num_requests


@given(st.lists(st.floats(0, 1e7, allow_nan=False), min_size=1))
def test_buckets_are_locusts_own(values):
    assert bucket(np.array(values)).tolist() == [bucket_response_time(value) for value in values]


def test_failures_are_counted_and_listed():
    stats, reference = RequestStats(), RequestStats()
    merge_samples(stats, "GET", "/x", np.array([5.0, 6.0, np.nan, 7.0]), failures={"HTTP 500": 2, "no answer": 1})
    for took, reason in ((5.0, "HTTP 500"), (6.0, "HTTP 500"), (None, "no answer"), (7.0, "")):
        reference.log_request("GET", "/x", took, 0)
        if reason:
            reference.log_error("GET", "/x", reason)
    for entry, logged in ((stats.get("/x", "GET"), reference.get("/x", "GET")), (stats.total, reference.total)):
        assert (entry.num_requests, entry.num_failures, entry.num_none_requests) == (4, 3, 1)
        assert (entry.fail_ratio, entry.avg_response_time) == (logged.fail_ratio, logged.avg_response_time)
    assert {k: e.occurrences for k, e in stats.errors.items()} == {k: e.occurrences for k, e in reference.errors.items()}


def test_what_is_not_http_leaves_the_aggregated_row_alone():
    stats = RequestStats()
    merge_samples(stats, "NOTIFY", "Page", np.array([1.0, np.nan, 2.0]), failures={"x": 1}, aggregated=False)
    assert stats.total.num_requests == stats.total.num_failures == 0
    entry = stats.get("Page", "NOTIFY")
    assert (entry.num_requests, entry.num_none_requests) == (3, 1)
    assert entry.avg_response_time == 1.5
    merge_samples(stats, "NOTIFY", "nothing", np.empty(0))
    assert ("nothing", "NOTIFY") not in stats.entries


def test_percentiles_of_the_last_seconds_know_merged_samples(monkeypatch):
    """As Locust: with the first sample of a second, what was counted until the one before is kept under that."""
    at = [1000.2]
    monkeypatch.setattr(statistics, "time", types.SimpleNamespace(time=lambda: at[0]))
    stats = RequestStats()
    for at[0], took in ((1000.2, 1.0), (1000.9, 2.0), (1001.5, 3.0), (1003.0, 4.0)):
        merge_samples(stats, "GET", "/x", np.array([took]))
    cache = stats.total.response_times_cache
    assert {second: sum(cache[second].response_times.values()) for second in (1000, 1002)} == {1000: 2, 1002: 3}
    assert len(cache) == 3, "and that of the beginning"
    assert stats.get("/x", "GET").last_request_timestamp == 1003.0
    assert dict(stats.total.num_reqs_per_sec) == {1000: 2, 1001: 1, 1003: 1}
