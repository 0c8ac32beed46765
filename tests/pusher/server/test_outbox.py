"""Fan-out: order, coalescing, bounded steps."""

from __future__ import annotations

from sim.pusher.server.channels import kind_of
from sim.pusher.server.outbox import RUN_BYTES, Outbox
from sim.pusher.server.state import Channel
from tests.pusher.peers import Peer


def channel(name: str, *peers: Peer) -> Channel:
    made = Channel(name, kind_of(name))
    for peer in peers:
        made.add(peer, {})
    return made


def test_frames_that_wait_together_leave_in_one_write() -> None:
    writes = []

    class Counting(Peer):
        def write(self, frame: bytes) -> None:
            writes.append(frame)

    outbox, news = Outbox(), channel("news", Counting(), Counting())
    for frame in (b"a", b"b", b"c"):
        outbox.publish(news, frame)
    assert not outbox.flush()
    assert writes == [b"abc", b"abc"]
    assert (outbox.taken, outbox.writes, outbox.delivered) == (6, 2, 6)
    assert outbox.bytes == 6


def test_it_wakes_its_owner_once() -> None:
    woken = []
    outbox, news = Outbox(lambda: woken.append(1)), channel("news", Peer())
    outbox.publish(news, b"a")
    outbox.publish(news, b"b")
    outbox.publish(channel("other", Peer()), b"c")
    assert woken == [1]
    outbox.flush()
    outbox.publish(news, b"d")
    assert woken == [1, 1]


def test_a_large_fan_out_is_sent_in_steps_and_keeps_the_order() -> None:
    peers = [Peer() for _ in range(10)]
    outbox, news = Outbox(), channel("news", *peers)
    outbox.publish(news, b"1")
    assert outbox.flush(4)
    outbox.publish(news, b"2")  # after the first has begun: a run of its own
    assert [peer.sent for peer in peers] == [b"1"] * 4 + [b""] * 6
    assert outbox.flush(7)
    assert [peer.sent for peer in peers] == [b"12"] + [b"1"] * 9
    assert not outbox.flush(100)
    assert {peer.sent for peer in peers} == {b"12"}


def test_who_comes_later_does_not_get_what_was_published_before() -> None:
    early, late = Peer(), Peer()
    outbox, news = Outbox(), channel("news", early)
    outbox.publish(news, b"1")
    news.add(late, {})
    outbox.publish(news, b"2")
    outbox.flush()
    assert (early.sent, late.sent) == (b"12", b"2")


def test_who_leaves_gets_nothing_that_is_published_afterwards() -> None:
    stays, leaves = Peer(), Peer()
    outbox, news = Outbox(), channel("news", stays, leaves)
    outbox.publish(news, b"1")
    news.remove(leaves)
    outbox.publish(news, b"2")
    outbox.flush()
    assert (stays.sent, leaves.sent) == (b"12", b"1")


def test_exclusion_keeps_the_order() -> None:
    a, b = Peer(), Peer()
    outbox, news = Outbox(), channel("news", a, b)
    for frame, excluded in ((b"1", None), (b"2", a), (b"3", None), (b"4", b)):
        outbox.publish(news, frame, excluded)
    outbox.flush()
    assert (a.sent, b.sent) == (b"134", b"123")


def test_a_barrier_keeps_the_order_across_channels() -> None:
    peer = Peer()
    outbox, one, two = Outbox(), channel("1", peer), channel("2", peer)
    for name, target in ((b"a", one), (b"b", two), (b"c", one)):
        outbox.barrier()
        outbox.publish(target, name)
    outbox.flush()
    assert peer.sent == b"abc"


def test_a_run_stays_small_enough_for_a_subscribers_buffer() -> None:
    sizes = []

    class Counting(Peer):
        def write(self, frame: bytes) -> None:
            sizes.append(len(frame))

    outbox, news = Outbox(), channel("news", Counting())
    for _ in range(100):
        outbox.publish(news, b"x" * 10_000)
    outbox.flush()
    assert sum(sizes) == 1_000_000
    assert max(sizes) <= RUN_BYTES + 10_000
