"""What the load processes say of themselves, added up; and the tables made from their parts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim.clock import SECOND
from sim.live.measure import collect
from sim.live.measure.attribution import tell_apart
from sim.live.measure.collect import Notifications
from sim.live.measure.harness import Harness, cpu_shares, offset_of, pages_waiting, polled, publisher_added, requests_queued
from sim.live.measure.swarm import progress_of
from sim.results import parts
from sim.results.histogram import Histogram
from sim.results.run import Run, RunWriter
from sim.scenario import Scenario
from tests.results.raw import write_part

EPOCH = 1_700_000_000 * SECOND
CHANNEL = "private-servers"


def header(worker: int = 0, lag: int = 1_000_000, finished: bool = True, **clock: int) -> dict[str, Any]:
    histogram = Histogram()
    histogram.add([lag] * 100)
    return {
        "part_version": parts.PART_VERSION,
        "pid": 100 + worker,
        "worker": worker,
        "finished": finished,
        "share": 1.0,
        "clock": {"wall_ns": 0, "monotonic_ns": 0, "steps_ns": -3_000, **clock},
        "subscribers": {"first": worker * 10, "last": worker * 10 + 4, "opened": 5, "lives": 5, "subscribed": 4, "wanted": 5},
        "counters": {"notifications": 100, "coalesced": 10, "unstamped": 0, "negative": worker, "callback_errors": 0},
        "histograms": {"reader_lag": histogram.to_dict(), "time_to_fresh": histogram.to_dict()},
    }


def test_a_run_that_ends_early_ends_with_the_first_load_process_that_had_ended() -> None:
    """What was sent afterwards nobody could hear: it is no loss of the target."""
    headers = [header(0), header(1, offset_ns=5), header(2, finished=False)]
    for one, at in zip(headers, (900, 700, 100), strict=True):
        one["written_at_ns"] = at
    assert [Harness(headers).heard_until(at) for at in (1000, 600)] == [705, 600]
    assert Harness(headers[2:]).heard_until(1000) == 1000


def test_sums_over_workers() -> None:
    harness = Harness([header(0), header(1, lag=9_000_000, finished=False)])
    assert harness.counters["notifications"] == 200
    assert harness.coalesced == 0.1
    assert harness.finished == 1
    assert harness.unfinished == [(10, 14)]
    assert harness.kernel_stamps
    assert harness.clock_step == pytest.approx(3e-6)
    assert harness.manifest()["lag_p99"] == pytest.approx(0.009, rel=0.02)
    assert harness.live_summary()["time_to_fresh.p50"] == {"value": pytest.approx(0.001, rel=0.02), "n": 200}
    assert harness.live_summary()["time_to_notified.p99"] == {"value": None, "n": 0}
    assert progress_of([header(0), header(1)]).subscribed == 8


def test_exceptions_inside_the_client_are_named() -> None:
    broken = header()
    broken["counters"]["callback_errors"] = 2
    assert Harness([broken]).complaints == ["2 exceptions inside the load client (see its log)"]
    assert Harness([header()]).complaints == []


def test_rows_that_could_not_be_recorded_are_named() -> None:
    """A run without the rows of its subscriptions expected nothing, missed nothing, and was called valid."""
    full = header(1)
    full["counters"]["rows_lost"] = 240
    full["fault"] = "OSError: No space left on device"
    said = ["240 rows of samples could not be recorded (OSError: No space left on device)"]
    assert Harness([header(), full]).complaints == said


def test_one_machine_has_one_clock() -> None:
    harness = Harness([header(0), header(1)])
    assert harness.clock_error == 0.0
    assert harness.clock()["method"].startswith("one clock")


def test_the_largest_offset_and_error_of_several_machines() -> None:
    far = header(1, offset_ns=-5_000_000, error_ns=200_000, round_trips=40)
    harness = Harness([header(0), far, header(2, offset_ns=1_000, error_ns=900, round_trips=40)])
    assert harness.clock() == {"offset": -0.005, "error": 0.0002, "method": harness.clock()["method"]}
    assert offset_of(far) == -5_000_000
    silent = Harness([header(1, offset_ns=0, error_ns=-1, round_trips=0)])
    assert silent.clock_error == float("inf")
    assert silent.clock()["error"] is None


def test_cpu_shares_are_of_one_core_between_two_instants() -> None:
    samples = [(n * SECOND, "harness-0", "cpu_seconds", used) for n, used in enumerate([100.0, 100.5, 101.5, 101.5])]
    assert cpu_shares(samples, SECOND, 3 * SECOND) == {"harness-0": pytest.approx(0.5)}
    assert cpu_shares(samples, 4 * SECOND, 5 * SECOND) == {}
    # One that was restarted counts from zero again.
    restarted = [(n * SECOND, "broadcaster", "cpu_seconds", used) for n, used in enumerate([7.0, 8.0, 0.5, 1.5])]
    assert cpu_shares(restarted, 0, 3 * SECOND) == {"broadcaster": pytest.approx(2.5 / 3)}


def test_lateness_counts_only_where_it_reaches_the_tail() -> None:
    def frames(late: list[float], took: list[float]) -> SimpleNamespace:
        n = len(late)
        at = np.arange(n, dtype=float)
        return SimpleNamespace(
            metrics=pd.DataFrame({"at": at, "metric": "lateness", "value": late}),
            updates=pd.DataFrame({"update": range(n), "intended_at": at}),
            notifications=pd.DataFrame({"update": range(n), "received_at": at + took}),
        )

    assert publisher_added(frames([0.0, 0.009], [0.5, 0.010])) == pytest.approx(0.0, abs=1e-4)
    assert publisher_added(frames([0.4, 0.0], [0.5, 0.010])) == pytest.approx(0.4, rel=0.05)
    assert publisher_added(frames([], [])) == 0.0


def test_refetches_count_as_evidence_where_no_page_subscribes() -> None:
    # Before, at and inside the beginning of the window; at its end; and one that never finished.
    frames = SimpleNamespace(refetches=pd.DataFrame({"finished_at": [0.5, 1.0, 3.0, 5.0, np.nan]}))
    polling = {"kind": "polling", "interval": 5}
    scenario = Scenario().replace({"warmup": 1.0, "duration": 4.0})
    assert polled(frames, scenario) is None
    assert polled(frames, scenario.replace({"policy": polling})) == 2
    silent = [{"page": "detail", "subscribers": 1, "behaviour": "never_subscribe"}]
    listening = [*silent, {"page": "dashboard", "subscribers": 1, "policy": {"kind": "immediate"}}]
    assert polled(frames, scenario.replace({"pages": silent})) == 2
    assert polled(frames, scenario.replace({"policy": polling, "pages": listening})) is None


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Parts of two workers, the second on a machine whose clock is 5 ms ahead."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for worker, ahead in ((0, 0), (1, 5_000_000)):
        parts.write_header(folder, header(worker, offset_ns=-ahead, error_ns=10) if ahead else header(worker))
        at = EPOCH + SECOND + 2_000_000 + ahead
        common = {"subscriber": [worker * 10], "channel": [CHANNEL]}
        times = {"received_at_ns": [at], "read_at_ns": [at + 1000], "sent_at_ns": [EPOCH + SECOND]}
        columns = times | {"update": [0], "event": [7], "stamp": [1]}
        write_part(folder, "notifications", 100 + worker, 0, common | columns)
        times = {"subscribed_at_ns": [EPOCH - SECOND + ahead], "ended_at_ns": [parts.NEVER], "reason": ["end"]}
        page = {"page": ["dashboard"], "user": [1], "resource": ["dashboard"], "resource_id": [0], "policy": ["debounce"]}
        write_part(folder, "subscriptions", 100 + worker, 0, common | times | page)
        told = {
            "update": [0],
            "event": [7],
            "channel": [CHANNEL],
            "resource_id": [1],
            "sent_at_ns": [EPOCH + SECOND],
            "published_at_ns": [EPOCH + SECOND + 1_000_000],
        }
        write_part(folder, "events", 100 + worker, 0, told)
    return folder


def collected(directory: Path, tmp_path: Path) -> Run:
    """The tables of a run in which we only listened."""
    heard = Notifications.read(directory, offset_of, tell_apart)
    with RunWriter(tmp_path / "run", Scenario(), "measured") as run:
        collect.append_parts(run, directory, EPOCH, heard, offset_of)
        collect.append_passive(run, heard, EPOCH)
    return Run(tmp_path / "run")


def test_times_are_seconds_by_the_master_s_clock(directory: Path, tmp_path: Path) -> None:
    run = collected(directory, tmp_path)
    assert run.notifications["received_at"].tolist() == pytest.approx([1.002, 1.002], abs=1e-9)
    assert run.subscriptions["subscribed_at"].tolist() == pytest.approx([-1.0, -1.0], abs=1e-9)


def test_what_is_counted_stands_beside_the_rows_of_a_share(directory: Path, tmp_path: Path) -> None:
    for worker in (0, 1):
        parts.write_header(directory, header(worker) | {"share": 0.2})
        counted = {
            "update": [0],
            "event": [7],
            "channel": [CHANNEL],
            "received": [4],
            "first_at_ns": [EPOCH],
            "last_at_ns": [EPOCH],
        }
        write_part(directory, "counts", 100 + worker, 0, counted)
    run = collected(directory, tmp_path)
    assert run.manifest.sampling == {"method": "subscribers", "share": 0.2, "counted": 8}


def test_rows_of_a_share_add_up_to_all_pages() -> None:
    """77 of 1,000 pages were drawn with a chance of a tenth: each stands for as many as there are."""
    drawn = header(0)
    drawn = drawn | {"share": 0.1, "subscribers": drawn["subscribers"] | {"opened": 0, "lives": 1000}}
    assert collect.share_recorded([drawn], 77) == 0.077
    assert collect.share_recorded([drawn], 0) == pytest.approx(0.1)
    assert collect.share_recorded([drawn | {"share": 1.0}], 1000) == 1.0


def test_a_listener_takes_the_updates_from_what_it_heard(directory: Path, tmp_path: Path) -> None:
    run = collected(directory, tmp_path)
    update = run.updates.iloc[0]
    assert len(run.updates) == 1
    assert (update["resource"], update["resource_id"], update["status"]) == ("server", 1, "committed")
    assert update["intended_at"] == 1.0, "as the payload says, whatever the clock of who heard it"
    assert update["published_at"] == pytest.approx(1.001, abs=1e-9)
    assert np.isnan(update["committed_at"])
    assert run.notifications["update"].tolist() == [0, 0]


def test_a_listener_needs_no_members_for_measuring(directory: Path, tmp_path: Path) -> None:
    """Payload {server_id, timestamp}, a second event with the same bytes at one page, and nobody says when it was wanted."""
    for worker in (0, 1):
        at = EPOCH + 2 * SECOND + worker * 7_000_000
        common = {"update": [-1, -1], "event": [8, 8], "subscriber": [worker * 10] * 2, "stamp": [1, 1]}
        times = {"received_at_ns": [at, at + SECOND], "read_at_ns": [at, at + SECOND], "sent_at_ns": [-1, -1]}
        write_part(
            directory, "notifications", 100 + worker, 1, common | times | {"channel": ["private-sites.5", "private-sites.5"]}
        )
        said = {"update": [-1], "event": [8], "channel": ["private-sites.5"], "resource_id": [None]}
        write_part(directory, "events", 100 + worker, 1, said | {"sent_at_ns": [-1], "published_at_ns": [-1]})
    run = collected(directory, tmp_path)
    assert run.notifications["update"].tolist() == [0, 1, 2, 0, 1, 2]
    assert run.updates["resource"].tolist() == ["server", "site", "site"]
    assert run.updates["resource_id"].tolist() == [1, 5, 5]
    assert run.updates["published_at"].tolist()[1:] == pytest.approx([2.0, 3.0]), "when the first of them heard of it"
    assert run.updates["intended_at"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("private-servers.5", ("server", 5)),
        ("private-servers", ("server", 0)),
        ("private-users.3.sites", ("site", 0)),
        ("orders.7", ("order", 7)),
        ("7", ("7", 7)),
        ("orders.99999999999999999999", ("order", 0)),
        ("orders.\N{SUPERSCRIPT TWO}", ("\N{SUPERSCRIPT TWO}", 0)),
    ],
)
def test_what_a_channel_says(channel: str, expected: tuple[str, int]) -> None:
    assert collect.resource_named(channel) == expected


def test_pages_that_wait_to_be_opened_are_a_share_of_those_wanted() -> None:
    """Two processes; what was before the window, while all pages were opened, does not count."""
    rows = [
        (0.5, "harness-0", 100.0),
        (1.0, "harness-0", 6.0),
        (2.0, "harness-0", 2.0),
        (1.0, "harness-1", 1.0),
        (2.0, "harness-1", 3.0),
    ]
    metrics = pd.DataFrame(rows, columns=["at", "process", "value"]).assign(metric="pages_waiting")
    assert pages_waiting(SimpleNamespace(metrics=metrics), 1.0, 2.0, wanted=60) == pytest.approx(0.1)
    assert pages_waiting(SimpleNamespace(metrics=metrics[:0]), 1.0, 2.0, wanted=60) == 0.0
    queues = metrics.assign(metric="requests_waiting")
    applications = queues.assign(process="application", value=99.0)
    assert requests_queued(SimpleNamespace(metrics=pd.concat([metrics, queues, applications])), 1.0, 2.0) == 9
    assert requests_queued(SimpleNamespace(metrics=metrics), 1.0, 2.0) == 0
