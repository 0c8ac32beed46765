"""What a load process has once: who it is among the others, whom it admits, and what it notes of itself."""

import gc
import os
import resource
import sys
import types
from functools import partial

import pytest

from loadtests.client import plant as plant_module
from loadtests.client.mux import Mux, Polled
from loadtests.client.plant import BRISK, CALM, HANDSHAKES, HUB_GAP, PROBE_EVERY, YOUNG, Plant
from loadtests.settings import Settings
from sim.clock import SECOND
from sim.scenario import Pages, Scenario
from tests.loadtests.inside.fixtures import EVENTS
from tests.loadtests.peer import listening, until


def environment(stats, worker=None, workers=None, users=None):
    runner = None if worker is None else types.SimpleNamespace(worker_index=worker)
    options = types.SimpleNamespace(expect_workers=workers, num_users=users)
    return types.SimpleNamespace(runner=runner, parsed_options=options, stats=stats, events=EVENTS)


@pytest.fixture
def calls(plant, monkeypatch):
    """What the plant has the mux call, in place of that: (when, what, with what). Time stands still."""
    calls, now = [], plant.mux.now()
    monkeypatch.setattr(plant.mux, "now", lambda: now)
    monkeypatch.setattr(plant.mux, "call_at", lambda when, what, *arguments: calls.append((when, what, *arguments)))
    return calls


def test_a_process_has_one_and_its_fork_another(stats, monkeypatch):
    monkeypatch.setattr(Plant, "current", None)
    monkeypatch.setattr(Plant, "configured", Settings())
    one = Plant.of(environment(stats))
    assert Plant.of(environment(stats)) is one
    assert one.pid == os.getpid()
    assert one.settings is Plant.configured
    one.pid = -1  # As its child finds it.
    other = Plant.of(environment(stats))
    assert other is not one
    one.finish()
    assert Plant.current is other
    other.finish()
    assert Plant.current is None


@pytest.mark.parametrize(
    ("index", "expected", "worker", "workers"), [(None, None, 0, 1), (-1, 1, 0, 1), (0, 4, 0, 4), (2, None, 2, 3), (2, 8, 2, 8)]
)
def test_numbers_of_its_pages_are_its_own_and_it_records_its_share_of_the_probes(stats, index, expected, worker, workers):
    scenario = Scenario(pages=(Pages("detail", 800),))
    for users, probes, share in ((1000, 10, 0.01 * workers), (None, 10, 0.0125 * workers), (1000, None, 1.0), (5, 10, 1.0)):
        plant = Plant(environment(stats, index, expected, users), Settings(scenario, probes=probes))
        kind = plant.recorder.kind("DetailPage", "detail", "server", "/x")
        assert [plant.recorder.subscriber(kind) for _ in range(2)] == [worker * 1_000_000, worker * 1_000_000 + 1]
        assert (plant.worker, plant.workers) == (worker, workers)
        assert plant.recorder.sample.share == pytest.approx(share)
        plant.finish()


def test_garbage_is_looked_for_less_often_while_it_lives(stats):
    before, callbacks = gc.get_threshold(), list(gc.callbacks)
    plant = Plant(environment(stats), Settings())
    assert gc.get_threshold() == (YOUNG, *before[1:])
    plant.garbage.observe("start", {"generation": 1})
    plant.garbage.observe("stop", {"generation": 1})
    assert plant.recorder.counters["gc_collections"] == 0
    gc.disable()  # No other than this one:
    gc.collect()
    gc.enable()
    assert plant.recorder.counters["gc_collections"] == plant.recorder.histograms["gc_pause"].count == 1
    plant.finish()
    assert (gc.get_threshold(), gc.callbacks) == (before, callbacks)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS calls its hard limit endless, and does not grant it")
def test_a_process_may_have_all_descriptors_that_it_can(plant):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard


def test_where_sockets_are_looked_at_by_turns_it_is_said(stats, monkeypatch, caplog):
    monkeypatch.setattr(plant_module, "Mux", lambda: Mux(Polled()))
    plant = Plant(environment(stats), Settings())
    assert "sockets are looked at every 2 ms" in caplog.text
    plant.finish()


def test_so_many_connect_at_once_and_others_as_those_are_through(plant, calls):
    releases, started = [], []

    def start(number):
        def begin(release):
            started.append(number)
            releases.append(release)

        return begin

    starts = [start(number) for number in range(HANDSHAKES + 3)]
    for begin in starts:
        plant.admit(begin)
    assert started == list(range(HANDSHAKES))
    plant.withdraw(starts[HANDSHAKES])
    plant.withdraw(starts[0])  # It has been admitted.
    assert not calls
    releases[5]()
    (_, admit), *_ = calls
    assert len(started) == HANDSHAKES, "not within the call"
    admit()
    assert started[HANDSHAKES:] == [HANDSHAKES + 1]
    for release in releases[6:8]:
        release()
        admit()
    assert started[HANDSHAKES:] == [HANDSHAKES + 1, HANDSHAKES + 2]
    assert len(calls) == 2, "nobody waits any more"


def test_a_storm_meets_its_share_of_the_pages(plant):
    lost = []
    plant.pages = [types.SimpleNamespace(lose=lambda number=number: lost.append(number)) for number in range(3)]
    for share, drawn, meets in ((1.0, [], [0, 1, 2]), (0.5, [0.2, 0.5, 0.7], [0]), (0.0, [0.0, 0.0, 0.0], [])):
        lost.clear()
        plant.draws = types.SimpleNamespace(random=iter(drawn).__next__)
        plant.storm(share)
        assert lost == meets
    plant.pages = set()


def test_pages_of_one_origin_share_its_address_and_connections(plant):
    with listening(lambda connection, number: None) as port:
        url = f"http://127.0.0.1:{port}"
        origin = plant.origin(url)
        assert plant.origin(url) is origin
        assert plant.origin(url, verify=False) is not origin
    pool = plant.pool(origin, 6)
    assert plant.pool(origin, 6) is pool
    assert (plant.pool(origin, 64).limit, pool.limit) == (64, 6)
    assert plant.pool(plant.origin(f"{url}/elsewhere"), 6) is pool
    assert plant.pool(plant.origin(url.replace("http:", "https:")), 6) is not pool
    given_up, waiting = (types.SimpleNamespace(done=done) for done in (None, print))
    pool._line.extend([given_up, waiting, waiting])
    assert plant.requests_waiting == 2
    pool._line.clear()
    assert [plant.number(page) for page in (int, int, str, int)] == [0, 1, 0, 2]


def test_the_rhythm_goes_on_whatever_fails_and_rests_when_all_are_there(plant, calls, monkeypatch):
    recorder, now = plant.recorder, plant.mux.now()
    plant._drain(now)
    plant._report(now)
    assert calls == [
        (now + BRISK, plant._drain, now + BRISK),
        (now + SECOND, plant._report, now + SECOND),
    ]
    recorder.opened = recorder.wanted = recorder.subscribed = 1
    plant._drain(now + SECOND)
    plant._drain(now + SECOND)
    assert [when - now - SECOND for when, *_ in calls[2:]] == [BRISK, CALM]
    calls.clear()
    monkeypatch.setattr(recorder, "drain", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        plant._drain(now - 100 * SECOND)
    assert calls == [(now, plant._drain, now)], "what was missed is not made up for"


def test_what_was_recorded_is_written_once_garbage_is_settled(plant, calls, monkeypatch):
    """Whoever reads that all pages are subscribed begins to publish."""
    acts = []
    for owner, name in ((plant.recorder, "drain"), (plant.garbage, "settle"), (plant.recorder, "write")):
        monkeypatch.setattr(owner, name, partial(acts.append, name))
    plant._drain(plant.mux.now())
    assert acts == ["drain", "settle", "write"]


def test_a_hub_that_goes_round_late_is_counted(plant, calls):
    recorder, now = plant.recorder, plant.mux.now()
    for late, gaps in ((0, 0), (HUB_GAP, 0), (HUB_GAP + 1, 1), (3 * HUB_GAP, 2)):
        plant._probe(now - late)
        assert recorder.counters["hub_gaps"] == gaps
        assert calls.pop() == (now + PROBE_EVERY, plant._probe, now + PROBE_EVERY)
    plant._drain(now)
    assert recorder.histograms["hub_gap"].count == 4
    assert recorder.histograms["hub_gap"].largest == 3 * HUB_GAP


def test_a_process_says_how_it_fares(stats, monkeypatch):
    monkeypatch.setattr(plant_module, "PROBE_EVERY", 1_000_000)
    plant, said = Plant(environment(stats), Settings()), {}
    monkeypatch.setattr(plant.recorder, "metric", said.__setitem__)
    plant._admitted = HANDSHAKES
    plant.admit(print)
    until(lambda: len(plant._gaps) > 2 and len(said) == 8)
    assert said["cpu_seconds"] > 0
    assert said["rss_bytes"] > 1 << 20
    assert said["pages_waiting"] == 1
    assert said["receive_ring"] == (plant.mux.ring is not None)
    assert said.keys() >= {"sockets", "subscribed", "requests_running", "requests_waiting"}
    assert plant.mux.errors == 0
    plant.finish()
