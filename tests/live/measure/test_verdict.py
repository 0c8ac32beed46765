"""What makes a run invalid: the harness, never the target."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sim.live.measure.verdict import Evidence, judge

GOOD = {
    "deliveries.received": {"value": 10_000, "n": 100},
    "deliveries.missing": {"value": 500, "n": 100},
    "time_to_notified.p50": {"value": 0.01, "n": 100},
    "time_to_notified.p99": {"value": 0.1, "n": 100},
    "time_to_fresh.p99": {"value": 1.0, "n": 100},
    "reader_lag.p99": {"value": 0.02, "n": 100},
    "refetch_delay.p99": {"value": 0.02, "n": 100},
}


def evidence(changed: dict[str, float | None] | None = None, **members: Any) -> Evidence:
    summary = GOOD | {name: {"value": value, "n": 100} for name, value in (changed or {}).items()}
    return dataclasses.replace(Evidence(summary, 2, 2, heard=10_000, floor=1e-5), **members)


def test_a_target_that_loses_deliveries_is_a_result() -> None:
    assert not judge(evidence()).reasons
    assert judge(evidence()).remarks == ()
    assert not judge(evidence(refetches=90, unsent=10)).reasons


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (evidence(finished_workers=1), "1 of 2 load processes"),
        (evidence(incidents=["harness-0 went missing"]), "harness-0 went missing"),
        (evidence(heard=99), "only 99 deliveries"),
        (evidence(heard=0, finished_refetches=99), "only 99 refetches were finished, 100 are needed"),
        (evidence({"reader_lag.p99": 0.11}), "read late: 110.0 ms in the p99, limit 100.0 ms"),
        (evidence({"reader_lag.p99": 0.02}, kernel_stamps=False), "limit 10.0 ms (10% of time_to_notified.p99)"),
        (evidence({"refetch_delay.p99": 0.11}), "sent refetches late: 110.0 ms"),
        (evidence({"refetch_delay.p99": 0.11}, queued=7), "sent refetches late (up to 7 requests waited for a connection"),
        (evidence(publisher_added=0.011), "publisher was late: 11.0 ms in the p99, limit 10.0 ms"),
        (evidence({"time_to_notified.p50": 5e-5}), "(0.050 ms) is near the harness floor (p99 0.010 ms)"),
        (evidence(refetches=89, unsent=11, queued=7), "11 of 100 refetches were never sent by the load client (up to 7 requests"),
        (evidence({"time_to_notified.p50": 5e-5}), "calibrate again"),
        (evidence(cpu_share=0.9), "used 90% of a core"),
        (evidence(negative=3), "3 notifications arrived before they were sent"),
        (evidence(clock_step=0.5), "a clock was set during the run, by 500.0 ms"),
        (evidence(clock_error=0.002), "known to 2.00 ms only, for a median time to notified of 10.00 ms"),
        (evidence(clock_error=float("inf")), "could not compare its clock"),
        (evidence(lost_by_harness=1), "whether 1 deliveries arrived is unknown"),
        (evidence(waiting=0.11), "11% of the pages at a time waited for the load client to open them (limit 10%)"),
    ],
)
def test_each_rule_says_what_it_found(found: Evidence, said: str) -> None:
    (reason,) = judge(found).reasons
    assert said in reason


def test_a_run_that_heard_nothing_says_how_far_its_updates_came() -> None:
    def reason(**counts: float | None) -> str:
        (found,) = judge(evidence({name.replace("__", "."): count for name, count in counts.items()}, heard=0)).reasons
        return found

    silent = reason(updates=9, updates__failed=2, updates__unknown=7, deliveries__expected=0)
    assert "(9 updates in the window, 2 failed, 7 of unknown fate, 0 not broadcast; 0 deliveries were expected" in silent
    assert "(9 updates in the window; 4500 deliveries were expected" in reason(updates=9, deliveries__expected=4500)
    assert "(0 updates in the window; 0 deliveries" in reason()


def test_where_no_page_subscribes_refetches_are_the_evidence() -> None:
    assert not judge(evidence(heard=0, finished_refetches=100)).reasons
    assert judge(evidence(heard=0)).reasons


def test_below_a_time_slice_the_harness_is_never_to_blame() -> None:
    fast: dict[str, float | None] = {"time_to_notified.p99": 0.002, "time_to_fresh.p99": 0.002}
    late: dict[str, float | None] = {"reader_lag.p99": 0.004, "refetch_delay.p99": 0.004}
    assert not judge(evidence(fast | late, publisher_added=0.004)).reasons


def test_a_listener_is_valid_when_events_arrived() -> None:
    """Nobody tells when updates were wanted, so there is no time to notified and none to fresh that a late reader could spoil."""
    silent: dict[str, float | None] = {
        f"{name}.{p}": None for name in ("time_to_notified", "time_to_fresh") for p in ("p50", "p99")
    }
    late: dict[str, float | None] = {"reader_lag.p99": 0.02, "refetch_delay.p99": 0.02}
    assert not judge(evidence(silent | late, passive=True)).reasons
    assert judge(evidence(silent | late)).reasons
    assert judge(evidence(silent | late, passive=True, kernel_stamps=False)).reasons, "then the arrivals themselves are late"


def test_a_late_reader_spoils_nothing_where_no_page_fetches() -> None:
    alone: dict[str, float | None] = {"time_to_fresh.p99": None, "refetch_delay.p99": None, "reader_lag.p99": 0.5}
    found = judge(evidence(alone))
    assert not found.reasons
    assert any("read late (500.0 ms in the p99), which no figure of this run contains" in remark for remark in found.remarks)
    assert judge(evidence(alone, kernel_stamps=False)).reasons, "then the arrivals themselves are late"


def test_pages_that_never_became_fresh_do_not_excuse_a_late_publisher() -> None:
    never = GOOD | {"time_to_fresh.p99": {"value": None, "never": True, "n": 100}}
    late = never | {"reader_lag.p99": {"value": 0.5, "n": 100}}
    assert not judge(dataclasses.replace(evidence(), summary=late)).reasons
    assert judge(dataclasses.replace(evidence(publisher_added=0.5), summary=never)).reasons


def test_remarks_limit_what_a_valid_run_says() -> None:
    verdict = judge(evidence(kernel_stamps=False, coalesced=0.5, passive=True, floor=None, unchanged=4, **{}))
    assert len(verdict.remarks) == 5
