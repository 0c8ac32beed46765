"""Any sequence of opens, frames, publishes, ticks and closes keeps the hub's invariants, in both profiles."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sim.pusher import messages
from sim.pusher.auth import channel_auth
from tests.pusher.peers import House, Peer

CHANNELS = st.sampled_from(
    ["news", "cache-n", "private-a", "private-cache-a", "presence-r", "presence-cache-r", "private-encrypted-e"]
)
USERS = st.sampled_from(["1", "2", 3])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6
)
EVENTS = st.sampled_from(["pusher:subscribe", "pusher:unsubscribe", "pusher:ping", "pusher:pong", "client-x", "x", "pusher:"])


class HubMachine(RuleBasedStateMachine):
    faithful = False

    def __init__(self) -> None:
        super().__init__()
        self.house = House(faithful=self.faithful)
        self.space = self.house.hub.spaces["1"]
        self.open: list[Peer] = []
        self.serial = 0

    def pick(self, index: int) -> Peer:
        return self.open[index % len(self.open)]

    @rule()
    def connect(self) -> None:
        self.open.append(self.house.open())

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 9), channel=CHANNELS, user=USERS, signed=st.booleans())
    def subscribe(self, index: int, channel: str, user: Any, signed: bool) -> None:
        peer = self.pick(index)
        data = json.dumps({"user_id": user, "user_info": {}}) if channel.startswith("presence") else ""
        auth = channel_auth("key", "secret", peer.socket_id, channel, data) if signed else "key:00"
        before = channel in peer.channels
        self.house.send(peer, messages.subscribe(channel, auth, data or None))
        assert (channel in peer.channels) is (before or signed or channel in ("news", "cache-n"))

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 9), channel=CHANNELS)
    def unsubscribe(self, index: int, channel: str) -> None:
        self.house.send(self.pick(index), messages.unsubscribe(channel))
        assert channel not in self.pick(index).channels

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 9), event=EVENTS, data=TREES, channel=CHANNELS | TREES, nested=st.booleans())
    def noise(self, index: int, event: str, data: Any, channel: Any, nested: bool) -> None:
        body = {"event": event, "data": {"channel": channel, "auth": data} if nested else data, "channel": channel}
        self.house.send(self.pick(index), json.dumps(body).encode())

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 9), payload=st.binary(max_size=30))
    def bytes_(self, index: int, payload: bytes) -> None:
        self.house.send(self.pick(index), payload)

    @precondition(lambda self: self.open)
    @rule(channel=CHANNELS, index=st.integers(0, 9), exclude=st.booleans())
    def publish(self, channel: str, index: int, exclude: bool) -> None:
        for peer in self.open:
            peer.received()
        excluded = self.pick(index)
        members = [p for p in self.open if channel in p.channels and not (exclude and p is excluded)]
        self.serial += 1
        self.house.publish(channel, f"event-{self.serial}", excluded.socket_id if exclude else None)
        for peer in self.open:
            assert peer.events().count(f"event-{self.serial}") == (peer in members)

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 9))
    def close(self, index: int) -> None:
        peer = self.pick(index)
        self.house.hub.closed(peer)
        self.house.outbox.flush()
        self.open.remove(peer)

    @rule(seconds=st.sampled_from([1, 30, 60]))
    def time_passes(self, seconds: int) -> None:
        self.house.wait(seconds)
        self.house.hub.tick(self.house.now)
        self.house.outbox.flush()
        self.open = [peer for peer in self.open if not peer.ended]

    @precondition(lambda self: self.open)
    @rule(user=USERS)
    def terminate(self, user: Any) -> None:
        self.house.hub.terminate(self.space, str(user))
        self.house.outbox.flush()
        self.open = [peer for peer in self.open if not peer.ended]

    @invariant()
    def connections_are_the_open_ones(self) -> None:
        assert set(self.space.connections.values()) == set(self.open)

    @invariant()
    def both_sides_of_a_subscription_agree(self) -> None:
        for channel in self.space.channels.values():
            for peer in channel.subscribers:
                assert peer.channels[channel.name] is channel
        for peer in self.open:
            for name, channel in peer.channels.items():
                assert self.space.channels[name] is channel
                assert peer in channel.subscribers

    @invariant()
    def no_empty_channel_is_kept(self) -> None:
        assert not [c for c in self.space.channels.values() if not c.subscribers]

    @invariant()
    def rosters_are_the_users_of_the_subscriptions(self) -> None:
        for channel in self.space.channels.values():
            users = [str(data["user_id"]) for data in channel.subscribers.values() if data.get("user_id") is not None]
            counts = {key: member.local for key, member in channel.members.items()}
            assert counts == ({key: users.count(key) for key in users} if channel.kind.presence else {})

    @invariant()
    def nothing_waits(self) -> None:
        assert len(self.house.outbox) == 0


class FaithfulHubMachine(HubMachine):
    faithful = True


TestHub = HubMachine.TestCase
TestHub.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestFaithfulHub = FaithfulHubMachine.TestCase
TestFaithfulHub.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
