"""Several hubs on a bus that is a list: each event once, global presence, merged answers, nodes that die."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sim.pusher import messages
from sim.pusher.server.api import HttpApi
from sim.pusher.server.cluster import BEAT_SECONDS, NODE_SECONDS, QUERY_SECONDS, SECOND, Cluster
from tests.pusher.peers import House, Peer


class Node(House):
    def __init__(self, bus: Bus, name: str) -> None:
        super().__init__()
        self.bus = bus
        numbers = iter(range(bus.serial * 1000 + 1, 10**9))
        self.hub._draw = lambda: next(numbers)
        self.api = HttpApi(self.hub)
        self.cluster = Cluster(self.hub, self.api, name, lambda text: bus.waiting.append(text))
        self.space = self.hub.spaces["1"]

    def ask(self, query: dict[str, Any]) -> list[Any]:
        answers: list[Any] = []
        self.api.ask(self.space, query, self.now, answers.append)
        return answers


class Bus:
    """Carries every text to every node, the sender included."""

    def __init__(self, *names: str) -> None:
        self.waiting: list[str] = []
        self.nodes: dict[str, Node] = {}
        self.serial = 0
        for name in names:
            self.add(name)

    def add(self, name: str) -> Node:
        self.serial += 1
        node = self.nodes[name] = Node(self, name)
        node.now = max(n.now for n in self.nodes.values())
        node.cluster.joined(node.now)
        self.settle()
        return node

    def settle(self) -> None:
        while self.waiting:
            text = self.waiting.pop(0)
            for node in list(self.nodes.values()):
                node.cluster.receive(text, node.now)
        for node in self.nodes.values():
            node.outbox.flush()

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            for node in self.nodes.values():
                node.wait(0.5)
                node.cluster.tick(node.now)
            self.settle()


@pytest.fixture
def bus() -> Bus:
    return Bus("a", "b", "c")


def publish(node: Node, channel: str, name: str = "e", socket_id: str | None = None) -> None:
    node.api._publish(node.space, channel, messages.event(name, "{}", channel), socket_id, node.now)
    node.bus.settle()


def test_every_subscriber_of_every_node_gets_each_event_once(bus: Bus) -> None:
    peers = [node.member("news") for node in bus.nodes.values() for _ in range(2)]
    for node in bus.nodes.values():
        publish(node, "news")
    assert [peer.events() for peer in peers] == [["e"] * 3] * 6


def test_exclusion_and_client_events_work_across_nodes(bus: Bus) -> None:
    here, there = bus.nodes["a"].member("private-x"), bus.nodes["b"].member("private-x")
    publish(bus.nodes["a"], "private-x", "e", socket_id=there.socket_id)
    assert (here.events(), there.events()) == (["e"], [])
    bus.nodes["a"].send(here, messages.client_event("client-typing", {}, "private-x"))
    bus.settle()
    assert (here.events(), there.events()) == ([], ["client-typing"])


def test_a_roster_is_global_and_so_are_arrivals_and_departures(bus: Bus) -> None:
    a, b, c = bus.nodes.values()
    ada = a.member("presence-r", {"user_id": "1", "user_info": {"name": "Ada"}})
    bus.settle()
    bo = b.open()
    b.subscribe(bo, "presence-r", {"user_id": "2", "user_info": {"name": "Bo"}})
    assert bo.received()[1]["data"]["presence"]["ids"] == ["1", "2"]
    bus.settle()
    assert [(f["event"], f["data"]["user_id"]) for f in ada.received()] == [("pusher_internal:member_added", "2")]
    ada_elsewhere = c.member("presence-r", {"user_id": "1", "user_info": {"name": "Ada"}})
    bus.settle()
    a.hub.closed(ada)
    bus.settle()
    assert bo.received() == []  # still present through another node
    c.hub.closed(ada_elsewhere)
    bus.settle()
    assert [(f["event"], f["data"]["user_id"]) for f in bo.received()] == [("pusher_internal:member_removed", "1")]


def test_after_a_time_without_a_bus_the_others_get_a_fresh_chance_to_be_heard(bus: Bus) -> None:
    a, b = bus.nodes["a"], bus.nodes["b"]
    ada = a.member("presence-r", {"user_id": "1"})
    b.member("presence-r", {"user_id": "2"})
    bus.settle()
    ada.received()
    for node in bus.nodes.values():
        node.cluster.lost()
        node.wait(NODE_SECONDS * 3)
    a.cluster.joined(a.now)
    a.cluster.tick(a.now)  # before any of the others has spoken
    assert set(a.cluster.nodes) == {"b", "c"}
    assert ada.received() == [], "nobody has left"
    for node in (b, bus.nodes["c"]):
        node.cluster.joined(node.now)
    bus.settle()
    bus.wait(NODE_SECONDS)
    assert ada.received() == []


def test_a_question_does_not_wait_for_a_node_that_has_said_goodbye(bus: Bus) -> None:
    a, b, c = bus.nodes.values()
    b.member("news")
    answers = a.ask({"kind": "connections"})
    asked = bus.waiting.pop()
    b.cluster.receive(asked, b.now)
    c.cluster.leave()
    del bus.nodes["c"]
    bus.settle()
    assert answers == [1], "without waiting for the time-out"


def test_without_a_bus_a_node_answers_at_once_for_itself(bus: Bus) -> None:
    a = bus.nodes["a"]
    a.member("news")
    assert a.ask({"kind": "connections"}) == [], "the others are asked"
    a.cluster.lost()
    assert len(a.ask({"kind": "connections"})) == 1


def test_answers_are_merged_over_nodes(bus: Bus) -> None:
    a, b, c = bus.nodes.values()
    for node in (a, b):
        node.member("news")
        node.member("presence-r", {"user_id": "1"})
    bus.settle()
    answers = c.ask({"kind": "channels", "prefix": ""})
    bus.settle()
    assert answers == [{"news": {"subscriptions": 2}, "presence-r": {"subscriptions": 2, "users": ["1"]}}]
    answers = a.ask({"kind": "connections"})
    bus.settle()
    assert answers == [4]


def test_terminate_reaches_every_node(bus: Bus) -> None:
    peers = [node.member("presence-r", {"user_id": "1"}) for node in bus.nodes.values()]
    bus.settle()
    bus.nodes["a"].api.announce(bus.nodes["a"].space, {"type": "terminate", "user_id": "1"})
    bus.nodes["a"].hub.terminate(bus.nodes["a"].space, "1")
    bus.settle()
    assert all(peer.ended for peer in peers)


def test_a_node_that_falls_silent_takes_its_users_with_it(bus: Bus) -> None:
    watcher = bus.nodes["a"].member("presence-r", {"user_id": "1"})
    bus.nodes["b"].member("presence-r", {"user_id": "2"})
    bus.settle()
    assert watcher.events() == ["pusher_internal:member_added"]
    del bus.nodes["b"]
    answers = bus.nodes["a"].ask({"kind": "connections"})
    bus.settle()
    assert answers == []
    bus.wait(QUERY_SECONDS)
    assert answers == [1]  # with what came in time
    bus.wait(NODE_SECONDS + 1)
    assert watcher.events() == ["pusher_internal:member_removed"]
    assert set(bus.nodes["a"].cluster.nodes) == {"c"}


def test_a_clean_end_is_known_at_once(bus: Bus) -> None:
    watcher = bus.nodes["a"].member("presence-r", {"user_id": "1"})
    bus.nodes["b"].member("presence-r", {"user_id": "2"})
    bus.settle()
    watcher.received()
    bus.nodes["b"].cluster.leave()
    bus.settle()
    assert watcher.events() == ["pusher_internal:member_removed"]


def test_who_joins_late_learns_who_is_present(bus: Bus) -> None:
    bus.nodes["a"].member("presence-r", {"user_id": "1"})
    bus.settle()
    late = bus.add("d")
    assert list(late.space.channels["presence-r"].members) == ["1"]
    node = bus.nodes["a"]
    assert node.cluster.state() == {"1": {"presence-r": [{"user_id": "1"}]}}
    node.hub.faithful = True
    assert node.cluster.state() == {}, "a node of Reverb tells the others of nobody"


def test_a_bus_that_was_away_is_no_dead_node_and_what_was_missed_is_made_up(bus: Bus) -> None:
    a, b, _ = bus.nodes.values()
    ada = a.member("presence-r", {"user_id": "1"})
    bo = b.member("presence-r", {"user_id": "2"})
    bus.settle()
    ada.received()
    for node in bus.nodes.values():
        node.cluster.lost()
    bus.wait(60)
    b.hub.closed(bo)
    cy = b.member("presence-r", {"user_id": "3"})
    bus.waiting.clear()  # lost with the bus
    assert ada.received() == []
    for node in bus.nodes.values():
        node.cluster.joined(node.now)
    bus.settle()
    assert sorted(ada.events()) == ["pusher_internal:member_added", "pusher_internal:member_removed"]
    assert set(a.space.channels["presence-r"].members) == {"1", "3"}
    assert cy.channels["presence-r"].members.keys() == {"1", "3"}


NONSENSE = ["", "5", "[]", "{}", '{"node":"x"}', '{"node":"x","type":"no"}', '{"node":"x","type":"message"}']
NONSENSE += ['{"node":"x","type":"hello","state":5}', '{"node":"x","type":"arrival","app":"9","channel":"c","user":{}}']


@pytest.mark.parametrize("text", NONSENSE)
def test_what_makes_no_sense_on_the_bus_is_ignored(bus: Bus, text: str) -> None:
    bus.nodes["a"].cluster.receive(text, 0)


class ClusterMachine(RuleBasedStateMachine):
    """Users come, go, and nodes die, in any order: once the bus is quiet, every node agrees on who is present."""

    def __init__(self) -> None:
        super().__init__()
        self.bus = Bus("a", "b")
        self.peers: list[tuple[Node, Peer, str]] = []
        self.told: dict[Peer, set[str]] = {}

    @rule(where=st.integers(0, 5), user=st.sampled_from("123"))
    def come(self, where: int, user: str) -> None:
        node = list(self.bus.nodes.values())[where % len(self.bus.nodes)]
        peer = node.open()
        node.subscribe(peer, "presence-r", {"user_id": user})
        self.told[peer] = set(peer.received()[1]["data"]["presence"]["ids"])
        self.peers.append((node, peer, user))
        self.bus.settle()

    @precondition(lambda self: self.peers)
    @rule(index=st.integers(0, 20))
    def go(self, index: int) -> None:
        node, peer, _ = self.peers.pop(index % len(self.peers))
        node.hub.closed(peer)
        self.bus.settle()

    @precondition(lambda self: len(self.bus.nodes) < 4)
    @rule()
    def node_joins(self) -> None:
        self.bus.add(f"n{self.bus.serial}")

    @precondition(lambda self: len(self.bus.nodes) > 1)
    @rule(index=st.integers(0, 5))
    def node_dies(self, index: int) -> None:
        name = list(self.bus.nodes)[index % len(self.bus.nodes)]
        dead = self.bus.nodes.pop(name)
        self.peers = [entry for entry in self.peers if entry[0] is not dead]
        self.bus.wait(NODE_SECONDS + 2)

    @invariant()
    def all_agree(self) -> None:
        present = {user for _, _, user in self.peers}
        for node in self.bus.nodes.values():
            channel = node.space.channels.get("presence-r")
            assert (set(channel.members) if channel else set()) == present

    @invariant()
    def clients_know_as_well(self) -> None:
        """What a client was told (its roster, then arrivals and departures) is who is present."""
        for node, peer, _ in self.peers:
            known = self.told[peer]
            for frame in peer.received():
                change = known.add if frame["event"].endswith("added") else known.discard
                change(frame["data"]["user_id"])
            assert known == set(node.space.channels["presence-r"].members)


TestCluster = ClusterMachine.TestCase
TestCluster.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def said(bus: Bus) -> list[str]:
    """What waits on the bus, by its type."""
    return [json.loads(text)["type"] for text in bus.waiting]


def test_a_node_beats_once_in_its_time(bus: Bus) -> None:
    node = next(iter(bus.nodes.values()))
    node.cluster.joined(node.now)
    bus.settle()
    node.cluster.tick(node.now)
    assert said(bus) == [], "it has just said hello"
    later = node.now + BEAT_SECONDS * SECOND
    for _ in range(3):
        node.cluster.tick(later)
    assert said(bus) == ["alive"]


def test_who_is_not_known_is_greeted(bus: Bus) -> None:
    node = next(iter(bus.nodes.values()))
    bus.settle()
    node.cluster.receive(json.dumps({"type": "alive", "node": "stranger"}), node.now)
    assert said(bus) == ["hello"]


def test_two_questions_at_once_get_an_answer_each(bus: Bus) -> None:
    node = next(iter(bus.nodes.values()))
    answers = [node.ask({"kind": "connections"}) for _ in range(2)]
    bus.settle()
    assert [len(found) for found in answers] == [1, 1]
