"""Every way through the queue gives the integers of the plain definition."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.virtual.fleet import compiled
from sim.virtual.fleet.queueing import Fifo


def plain(arrivals: list[int], service: list[int], workers: int) -> list[int]:
    """Kiefer and Wolfowitz, literally."""
    free = [-(1 << 62)] * workers
    begins = []
    for at, needs in zip(arrivals, service, strict=True):
        begins.append(max(at, min(free)))
        free[free.index(min(free))] = begins[-1] + needs
    return begins


@pytest.fixture(params=[True, False], ids=["numba", "numpy"])
def way(request, monkeypatch):
    """With compiled loops and without."""
    if request.param and not compiled.INSTALLED:
        pytest.skip("Numba is not installed")
    monkeypatch.setattr(compiled, "ENABLED", request.param)


gaps = st.lists(st.integers(0, 50), max_size=60)


@settings(deadline=None)
@given(gaps, st.integers(1, 5), st.integers(0, 40), st.randoms(use_true_random=False), st.booleans())
def test_any_requests_in_any_pieces(gaps, workers, service, random, constant):
    arrivals = np.cumsum(np.array(gaps, np.int64))
    needs = np.array([service if constant else random.randint(0, 60) for _ in gaps], np.int64)
    expected = plain(arrivals.tolist(), needs.tolist(), workers)
    for available in {compiled.INSTALLED, False}:
        queue, begins, at = Fifo(workers), [], 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "ENABLED", available)
            while at < len(gaps):
                size = random.randint(1, 20)
                piece = slice(at, at + size)
                begins += queue.serve(arrivals[piece], service if constant else needs[piece]).tolist()
                at += size
        assert begins == expected
        wait = np.array(expected, np.int64) - arrivals
        assert (queue.count, queue.busy, queue.waited) == (len(gaps), needs.sum(), wait.sum())
        assert queue.longest == wait.max(initial=0)


@pytest.mark.parametrize("spread", [5, 60, 4000], ids=["chained", "mixed", "idle"])
@pytest.mark.parametrize("workers", [1, 3, 8])
def test_herds_at_once_are_herds_one_by_one(way, workers, spread):
    """Lockstep is right also where herds run into each other, for as long as chains are."""
    rng = np.random.default_rng(spread + workers)
    herds, size = 400, 12
    first = np.cumsum(20 * size + rng.integers(0, spread, herds))
    arrivals = first[:, None] + np.sort(rng.integers(0, 20 * size, (herds, size)), axis=1)
    arrivals = np.sort(arrivals.ravel()).reshape(herds, size)
    service = rng.integers(1, 40 * workers, (herds, size))
    at_once, one_by_one = Fifo(workers), Fifo(workers)
    begins = at_once.serve_herds(arrivals, service) if workers == 1 else at_once._lockstep(arrivals, service)
    expected = [one_by_one.serve(row, needs) for row, needs in zip(arrivals, service, strict=True)]
    np.testing.assert_array_equal(begins, expected)
    last = arrivals[-1, -1]
    np.testing.assert_array_equal(np.maximum(at_once.free, last), np.maximum(one_by_one.free, last))


def test_herds_carry_over_what_the_queue_was_left_with(way):
    arrivals = np.array([[100, 110], [5000, 5001]])
    service = np.array([[7, 9], [8, 8]])
    queue = Fifo(2)
    queue.serve(np.array([0, 0]), np.array([300, 120]))
    begins = queue.serve_herds(arrivals, service)
    np.testing.assert_array_equal(begins, [[120, 127], [5000, 5001]])


def test_a_large_set_of_herds_goes_in_step_without_numba(monkeypatch):
    monkeypatch.setattr(compiled, "ENABLED", False)
    rng = np.random.default_rng(3)
    arrivals = np.arange(500)[:, None] * 10_000 + np.arange(100)
    service = rng.integers(1, 900, arrivals.shape)
    queue = Fifo(8)
    begins = queue.serve_herds(arrivals, service)
    assert begins.ravel().tolist() == heap_begins(arrivals.ravel(), service.ravel(), 8)


def heap_begins(arrivals: np.ndarray, service: np.ndarray, workers: int) -> list[int]:
    free = [-(1 << 62)] * workers
    begins = []
    for at, needs in zip(arrivals.tolist(), service.tolist(), strict=True):
        begins.append(max(at, free[0]))
        heapq.heapreplace(free, begins[-1] + needs)
    return begins


@settings(deadline=None)
@given(gaps, st.sampled_from([1, 3, 32, 40]), st.randoms(use_true_random=False), st.booleans())
def test_a_packed_herd_is_served_as_its_requests_are(gaps, workers, random, constant):
    """Members, begins, answers and what the window sees, the herd counted from its own base."""
    base, way, bits = 1000, 7, len(gaps).bit_length()
    instants = np.cumsum(np.array(gaps, np.int64))
    needs = np.array([30 if constant else random.randint(0, 900) for _ in gaps], np.int64)
    members = np.array(random.sample(range(len(gaps)), len(gaps)), np.int64)
    before = np.full(workers, base)
    window = (base + random.randint(0, 500), base + random.randint(500, 2000))
    for available in {compiled.INSTALLED, False}:
        plain, packed = Fifo(workers, window), Fifo(workers, window)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "ENABLED", available)
            for queue in (plain, packed):
                queue.serve(before, np.arange(workers) * 9)
            sent = instants << bits | members
            order, begun, heard = packed.serve_packed(sent, bits, [30 if constant else needs][: len(gaps)], way, base)
            begins = plain.serve(instants + (base + way), needs)
        assert (sent.tolist(), order.tolist()) == (instants.tolist(), members.tolist())
        assert (begun + base).tolist() == begins.tolist()
        assert heard.values.tolist() == (begins - base + needs + way).tolist()
        assert not gaps or (heard.least, heard.largest) == (heard.values.min(), heard.values.max())
        assert packed.free.tolist() == plain.free.tolist()
        observed = [(queue.busy, queue.count, queue.waited, queue.longest) for queue in (plain, packed)]
        assert observed[0] == observed[1]


@pytest.mark.parametrize("workers", [1, 3, 17, 18, 33, 34])
def test_instants_that_fit_into_32_bits_and_others(way, workers):
    """Bursts and pauses, short and long requests, from nanoseconds to hours: in one row and by a heap, one after the other."""
    rng = np.random.default_rng(workers)
    queue, arrivals, service, begins = Fifo(workers), [], [], []
    at = 0
    for unit in (1, 10**5, 10**7, 10**9, 10**11, 10**3):
        for size in (700, 256, 1):
            instants = at + np.cumsum(rng.integers(0, 2 * unit, size) * rng.integers(0, 2, size))
            needs = rng.integers(0, 2 * workers * unit, size)
            begins += queue.serve(instants.copy(), needs).tolist()
            arrivals, service, at = [*arrivals, *instants], [*service, *needs], int(instants[-1])
    assert begins == heap_begins(np.array(arrivals), np.array(service), workers)


def test_short_requests_pass_a_long_one_that_is_still_served(way):
    """Each kind of page has a service time of its own, all constant."""
    queue = Fifo(2)
    queue.serve(np.array([0]), 100)
    assert queue.serve(np.array([1, 1, 1]), 5).tolist() == [1, 6, 11]


def test_nothing_to_serve():
    assert Fifo(3).serve(np.empty(0, np.int64), 5).size == 0
    assert Fifo(3).serve_herds(np.empty((0, 4), np.int64), 5).shape == (0, 4)


def test_a_repeat_is_the_same_again_later():
    template, queue, other = Fifo(2), Fifo(2), Fifo(2)
    arrivals = np.array([3, 4, 4, 9])
    template.serve(arrivals, 10)
    for at in (0, 1000, 2000):
        assert queue.repeat(template, at, 3)
        other.serve(arrivals + at, 10)
    np.testing.assert_array_equal(queue.free, other.free)
    assert (queue.count, queue.busy, queue.waited, queue.longest) == (other.count, other.busy, other.waited, other.longest)
