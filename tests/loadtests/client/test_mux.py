"""The mux as a clock that rings, and as a loop that survives what it runs."""

from __future__ import annotations

import gc
import logging
import select
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from loadtests.client.mux import BATCH, READ, TICK, Mux, Polled, Slot, SlotEntry, clock_pair, readiness
from sim.clock import SECOND
from sim.errors import WorkbenchError

pytestmark = pytest.mark.loopback


@pytest.fixture(params=["io_uring", "epoll", "poll"])
def mux(request: pytest.FixtureRequest) -> Iterator[Mux]:
    mux = Mux(Polled() if request.param == "poll" else None, ring=request.param == "io_uring")
    assert mux.waits_by == request.param
    yield mux
    mux.close()


def wait_for(rung: list[Any], count: int) -> None:
    """However busy the machine is."""
    with gevent.Timeout(30):
        while len(rung) < count:
            gevent.sleep(0.005)


def test_timers_ring_in_the_order_of_their_times_and_not_before(mux: Mux) -> None:
    rung: list[tuple[str, int]] = []
    start = mux.now()
    for name, milliseconds in (("c", 30), ("a", 10), ("b", 20), ("past", -50)):
        mux.call_at(start + milliseconds * 1_000_000, lambda name: rung.append((name, mux.now() - start)), name)
    assert rung == []  # Never re-entrantly, although one was past.
    wait_for(rung, 4)
    assert [name for name, _ in rung] == ["past", "a", "b", "c"]
    for (_, at), milliseconds in zip(rung[1:], (10, 20, 30), strict=True):
        assert at >= milliseconds * 1_000_000


def test_entries_of_one_instant_ring_in_the_order_in_which_they_were_made(mux: Mux) -> None:
    rung: list[int] = []
    at = mux.now() + 5_000_000
    for i in range(3 * BATCH):
        mux.call_at(at, rung.append, i)
    wait_for(rung, 3 * BATCH)
    assert rung == list(range(3 * BATCH))


def test_a_cancelled_timer_does_not_ring(mux: Mux) -> None:
    rung: list[int] = []
    mux.call_at(mux.now() + 1_000_000, rung.append, 1).cancel()
    mux.call_at(mux.now() + 2_000_000, rung.append, 2)
    wait_for(rung, 1)
    assert rung == [2]


def test_timers_that_were_cancelled_wake_nobody_and_others_of_their_time_ring(mux: Mux) -> None:
    rung: list[int] = []
    start = mux.now() + SECOND
    entries = [mux.call_at(start + (i // 2) * 20_000_000, rung.append, i) for i in range(6)]
    gone = [mux.call_at(start - 10_000_000 + i * TICK, rung.append, -1) for i in range(30)]
    for entry in (*gone, *gone, *entries[:4], entries[4]):
        entry.cancel()
    mux.call_at(mux.now(), rung.append, 6)
    wait_for(rung, 1)
    # What is waited for is what has not been cancelled: the hub is not woken for the rest.
    assert min(mux._ticks) == (start + 40_000_000) // TICK + 1
    mux.call_at(start, rung.append, 7).cancel()
    mux.call_at(start, rung.append, 8)  # Where there was a slot of cancelled ones.
    wait_for(rung, 3)
    assert rung == [6, 8, 5]
    entries[5].cancel()  # It has rung.
    assert not mux._ticks


def test_the_alarm_is_set_once_for_each_batch_and_for_at_once_while_there_is_more(
    mux: Mux, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung, waits, timer = list[int](), list[float](), mux._loop.timer
    at = mux.now() - SECOND  # Over, whenever it rings.
    for i in range(2 * BATCH):
        mux.call_at(at, rung.append, i)
    mux.call_at(at, mux.post, 0, rung.append, -1)  # While it rings, and due before anything else.
    monkeypatch.setattr(mux, "_loop", SimpleNamespace(timer=lambda wait: waits.append(wait) or timer(wait)))
    wait_for(rung, 2 * BATCH + 1)
    assert waits == [0.0, 0.0]


def test_a_socket_is_ready_once_for_what_has_come(mux: Mux) -> None:
    if mux.waits_by == "poll":
        pytest.skip("poll says it again and again")
    near, far = socket.socketpair()
    calls = list[int]()
    with near, far:
        mux.watch(near.fileno(), SimpleNamespace(ready=calls.append), READ)
        far.send(b"x")
        wait_for(calls, 1)
        for _ in range(5):
            gevent.sleep(0.001)
        assert calls == [READ]
        mux.forget(near.fileno())


def test_a_callback_that_fails_is_counted_and_the_rest_goes_on(mux: Mux, caplog: pytest.LogCaptureFixture) -> None:
    rung: list[int] = []
    at = mux.now()
    mux.call_at(at, lambda: 1 // 0)
    mux.call_at(at, rung.append, 2)
    with caplog.at_level(logging.ERROR):
        wait_for(rung, 1)
    assert rung == [2]
    assert mux.errors == 1
    assert "ZeroDivisionError" in caplog.text


def test_other_greenlets_run_between_batches_of_a_herd(mux: Mux) -> None:
    """A thousand sockets that are ready at once are served in batches."""
    order: list[str] = []

    class Reader:
        def __init__(self, end: socket.socket) -> None:
            self.end = end

        def ready(self, events: int) -> None:
            self.end.recv(10)
            order.append("read")

    pairs = [socket.socketpair() for _ in range(2 * BATCH + 10)]
    for near, far in pairs:
        mux.watch(near.fileno(), Reader(near), READ)
        far.send(b"x")

    def other() -> None:
        for _ in range(3):
            gevent.sleep(0)
            order.append("other")

    greenlet = gevent.spawn(other)
    greenlet.join()
    wait_for(order, len(pairs) + 3)
    assert order.count("read") == len(pairs)
    if mux.waits_by == "epoll":
        assert "other" in order[: order.index("read") + BATCH + 3]
    for near, far in pairs:
        mux.forget(near.fileno())
        near.close()
        far.close()
    assert mux.watched == 0


def test_its_clock_is_wall_time_that_does_not_jump(mux: Mux) -> None:
    wall, _ = clock_pair()
    assert abs(mux.now() - wall) < SECOND
    assert abs(mux.step()) < SECOND // 10
    readings = [mux.now() for _ in range(1000)]
    assert readings == sorted(readings)


def test_a_system_without_epoll_polls_and_one_without_either_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"epoll", "poll"}

    def original(module: str, name: str) -> Any:
        if name not in there:
            raise AttributeError(name)
        return getattr(select, name)

    monkeypatch.setattr("loadtests.client.mux.monkey.get_original", original)
    assert isinstance(readiness(), select.epoll)
    there.remove("epoll")
    assert isinstance(readiness(), Polled)
    there.clear()
    with pytest.raises(WorkbenchError, match="epoll or poll"):
        readiness()


def test_timers_that_are_over_are_freed_at_once(mux: Mux) -> None:
    """Rung, and cancelled: a collector that comes once in minutes would find hundreds of thousands."""

    def left() -> int:
        return sum(isinstance(one, Slot | SlotEntry) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before, rung = left(), list[int]()
        mux.call_at(mux.now() + 20_000_000, lambda: None).cancel()
        mux.call_at(mux.now() + 40_000_000, rung.append, 1)
        mux.call_at(mux.now() + 60_000_000, rung.append, 2)
        wait_for(rung, 2)
        assert left() == before
    finally:
        gc.enable()
