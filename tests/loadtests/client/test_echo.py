"""The connection of a page in virtual time, against what pusher-js was seen to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadtests.client.echo import SLACK, Authorised, Echo, State
from loadtests.client.reader import Event, EventReader, decoded, parse
from sim.clock import SECOND, EventList
from sim.pusher import messages
from sim.pusher.messages import Malformed
from sim.results.parts import event_keys

ESTABLISHED = messages.connection_established("1.1", 30)


class Wire:
    """What a dial gave: frames sent, and whether it was closed."""

    heard_at = 0

    def __init__(self, at: int) -> None:
        self.at, self.sent, self.open, self.paused = at, [], True, False

    def send(self, text: str) -> None:
        assert self.open
        self.sent.append(json.loads(text))

    def close(self, code: int = 1000) -> None:
        self.open = False

    def pause(self) -> None:
        self.paused = True


class World:
    """An echo, its clock, and the wires it has dialled. `server(wire)` is called after each dial."""

    def __init__(self, server: Any = None) -> None:
        self.clock = EventList()
        self.wires: list[Wire] = []
        self.log: list[tuple[Any, ...]] = []
        self.took: list[int] = []
        self.server = server
        self.auths: list[tuple[str, str, Authorised]] = []
        self.answer_auth = True
        self.echo = Echo(self.clock, self.dial, EventReader(lambda _: 0), self)

    def dial(self, echo: Echo) -> Wire:
        wire = Wire(self.clock.now())
        self.wires.append(wire)
        if self.server is not None:
            self.clock.call_at(self.clock.now() + 1_000_000, self.server, self, wire)
        return wire

    # the client's side
    def authorize(self, channel: str, socket_id: str, done: Authorised) -> None:
        self.auths.append((channel, socket_id, done))
        if self.answer_auth:
            done(f"key:{channel}:{socket_id}", None, "")

    def connected(self, at: int, took: int) -> None:
        self.log.append(("connected", at))

    def dropped(self, at: int, code: int, reason: str) -> None:
        self.log.append(("dropped", at, code))

    def subscribed(self, channel: str, at: int, took: int) -> None:
        self.log.append(("subscribed", channel))
        self.took.append(took)

    def refused(self, channel: str, at: int, reason: str) -> None:
        self.log.append(("refused", channel))

    def heard(self, event: Event, arrived_at: int, read_at: int, stamp: int) -> None:
        self.log.append(("heard", event.name, event.channel))

    def complained(self, code: int, message: str) -> None:
        self.log.append(("complained", code))

    # helpers
    def say(self, text: str) -> None:
        now = self.clock.now()
        self.echo.text(text.encode(), now, now, 0)

    def at(self, seconds: float) -> None:
        self.clock.run(round(seconds * SECOND))

    def dials(self) -> list[float]:
        return [round(wire.at / SECOND, 3) for wire in self.wires]

    def pings(self) -> int:
        return sum(frame["event"] == "pusher:ping" for wire in self.wires for frame in wire.sent)


def accept(world: World, wire: Wire) -> None:
    world.echo.opened()
    world.say(ESTABLISHED)


def refuse(world: World, wire: Wire) -> None:
    wire.open = False
    world.echo.closed(1006, "connect: connection refused")


def connected_world() -> World:
    world = World(accept)
    world.echo.connect()
    world.at(1)
    assert world.echo.state is State.CONNECTED
    return world


def drop(world: World, code: int = 1006) -> None:
    world.wires[-1].open = False
    world.echo.closed(code, "lost")


def test_a_server_that_refuses_is_tried_in_slots() -> None:
    world = World(refuse)
    world.echo.connect()
    world.at(9.9)
    assert world.echo.state is State.CONNECTING
    world.at(240)
    assert world.echo.state is State.UNAVAILABLE
    assert world.dials() == [0, 15, 45, 105, 165, 225]


def test_a_server_that_swallows_everything_is_tried_in_the_same_slots() -> None:
    world = World()
    world.echo.connect()
    world.at(110)
    assert world.dials() == [0, 15, 45, 105]
    assert [wire.open for wire in world.wires] == [False, False, False, True]
    assert world.log == [("dropped", at * SECOND, 1006) for at in (15, 45, 105)]


def test_after_a_loss_one_quick_attempt_and_then_slots() -> None:
    world = World(accept)
    world.echo.connect()
    world.at(10)
    world.server = refuse
    drop(world)
    world.at(200)
    assert world.dials() == [0, 11, 11.001, 26.001, 56.001, 116.001, 176.001]
    world.server = accept
    world.at(237)
    assert world.echo.state is State.CONNECTED
    assert world.dials()[-1] == 236.001


@pytest.mark.parametrize(
    ("code", "delay"),
    [
        (1000, 1),
        (1001, 1),
        (1006, 1),
        (3999, 1),
        (4000, 0),
        (4001, None),
        (4009, None),
        (4100, 1),
        (4199, 1),
        (4200, 0),
        (4299, 0),
        (4300, None),
        (4999, None),
        (70_000, None),
        (-1, 1),
    ],
)
def test_what_a_close_code_leads_to(code: int, delay: float | None) -> None:
    world = connected_world()
    drop(world, code)
    assert world.echo.state is (State.DISCONNECTED if delay is None else State.CONNECTED)
    world.at(300 if delay is None else 1 + delay)
    assert world.dials() == [0] if delay is None else world.dials() == [0, 1 + delay]


@pytest.mark.parametrize(
    ("code", "state", "dials"),
    [(4001, State.DISCONNECTED, 1), (4009, State.DISCONNECTED, 1), (4100, State.CONNECTING, 2), (10**9, State.DISCONNECTED, 1)],
)
def test_an_error_in_place_of_the_first_frame(code: int, state: State, dials: int) -> None:
    def server(world: World, wire: Wire) -> None:
        world.echo.opened()
        world.say(messages.error(code, "no"))

    world = World(server)
    world.echo.connect()
    world.at(1.5)
    assert not world.wires[0].open
    assert world.echo.state is state
    assert len(world.wires) == dials


@pytest.mark.parametrize(
    "first", ["garbage", '{"event":"other"}', '{"event":"pusher:connection_established","data":"{\\"socket_id\\":\\"1.1\\"}"}']
)
def test_a_handshake_that_is_none_is_the_end(first: str) -> None:
    def server(world: World, wire: Wire) -> None:
        world.echo.opened()
        world.say(first)

    world = World(server)
    world.echo.connect()
    world.at(600)
    assert world.dials() == [0]
    assert world.echo.state is State.UNAVAILABLE


@pytest.mark.parametrize("timeout", ["1e300", "-1e300", "0", "0.5"])
def test_an_activity_timeout_of_any_size_makes_a_connection_that_pings(timeout: str) -> None:
    def server(world: World, wire: Wire) -> None:
        data = json.dumps({"socket_id": "1.1", "activity_timeout": json.loads(timeout)})
        world.echo.opened()
        world.say(json.dumps({"event": "pusher:connection_established", "data": data}))

    world = World(server)
    world.echo.connect()
    world.at(1)
    assert world.echo.state is State.CONNECTED
    world.at(123)
    assert world.pings() >= 1


def test_closed_before_the_first_frame_is_tried_each_second() -> None:
    def server(world: World, wire: Wire) -> None:
        world.echo.opened()
        drop(world)

    world = World(server)
    world.echo.connect()
    world.at(4.5)
    assert world.dials() == [0, 1.001, 2.002, 3.003, 4.004]


def test_private_channels_are_authorised_public_ones_go_first() -> None:
    world = World(accept)
    for channel in ("private-servers", "news", "presence-room"):
        world.echo.subscribe(channel)
    world.echo.connect()
    world.at(1)
    sent = [frame["data"]["channel"] for frame in world.wires[0].sent]
    assert sent == ["news", "private-servers", "presence-room"]
    assert world.wires[0].sent[0]["data"]["auth"] == ""
    assert world.wires[0].sent[1]["data"]["auth"] == "key:private-servers:1.1"
    world.say(messages.subscription_succeeded("news"))
    assert [entry for entry in world.log if entry[0] == "subscribed"] == [("subscribed", "news")]


def test_a_subscription_takes_from_its_request_to_its_answer_and_never_less_than_nothing() -> None:
    world = connected_world()
    for early, took in ((0, 2), (3, 0)):  # The kernel's clock may be behind.
        world.echo.subscribe(f"c{early}")
        now = world.clock.now() + 2 * SECOND
        world.clock.run(now)
        world.echo.text(messages.subscription_succeeded(f"c{early}").encode(), now - early * SECOND, now, 1)
        assert world.took.pop() == took * SECOND


def test_a_reconnect_subscribes_again_with_fresh_auth() -> None:
    world = connected_world()
    world.echo.subscribe("private-servers")
    world.say(messages.subscription_succeeded("private-servers"))
    drop(world)
    world.server = lambda world, wire: (world.echo.opened(), world.say(messages.connection_established("2.2", 30)))
    world.at(3)
    assert [socket_id for _, socket_id, _ in world.auths] == ["1.1", "2.2"]
    assert world.log.count(("subscribed", "private-servers")) == 1
    world.say(messages.subscription_succeeded("private-servers"))
    assert world.log.count(("subscribed", "private-servers")) == 2


def test_a_refused_authorisation_is_not_tried_again_before_the_next_connection() -> None:
    world = connected_world()
    world.answer_auth = False
    world.echo.subscribe("private-x")
    world.auths[0][2](None, None, "HTTP 403")
    assert ("refused", "private-x") in world.log
    world.at(60)
    assert len(world.auths) == 1
    drop(world)
    world.at(63)
    assert len(world.auths) == 2


def test_an_authorisation_for_a_lost_connection_is_void() -> None:
    world = connected_world()
    world.answer_auth = False
    world.echo.subscribe("private-x")
    drop(world)
    world.server = lambda world, wire: (world.echo.opened(), world.say(messages.connection_established("2.2", 30)))
    world.at(3)
    world.auths[0][2]("key:old", None, "")
    assert world.wires[-1].sent == []
    world.auths[1][2]("key:new", None, "")
    assert world.wires[-1].sent[0]["data"]["auth"] == "key:new"


def test_a_bad_signature_refuses_the_oldest_subscription_and_keeps_the_connection() -> None:
    world = connected_world()
    world.echo.subscribe("private-a")
    world.at(2)
    world.echo.subscribe("private-b")
    world.say(messages.error(4009, "Connection is unauthorized"))
    assert ("refused", "private-a") in world.log
    assert world.echo.state is State.CONNECTED
    world.say(messages.subscription_succeeded("private-b"))
    assert ("subscribed", "private-b") in world.log


def test_a_subscription_that_soketi_refuses_is_refused_by_name() -> None:
    world = connected_world()
    world.echo.subscribe("private-a")
    world.echo.subscribe("private-b")
    refusal = {"type": "AuthError", "error": "The connection is unauthorized.", "status": 401}
    world.say(messages.event("pusher:subscription_error", refusal, "private-b"))
    world.say(messages.event("pusher:subscription_error", refusal, "private-none"))
    assert [entry for entry in world.log if entry[0] == "refused"] == [("refused", "private-b")]
    world.say(messages.subscription_succeeded("private-a"))
    assert [entry for entry in world.log if entry[0] == "subscribed"] == [("subscribed", "private-a")]


def test_events_reach_the_page_on_its_channels_only() -> None:
    world = connected_world()
    world.echo.subscribe("news")
    world.say(messages.event("App\\Events\\X", {"id": 1}, "news"))
    world.say(messages.event("App\\Events\\X", {"id": 1}, "others"))
    world.say("{broken")
    assert [entry for entry in world.log if entry[0] in ("heard", "complained")] == [
        ("heard", "App\\Events\\X", "news"),
        ("complained", 0),
    ]


def test_an_idle_connection_pings_every_thirty_seconds_and_dies_thirty_later() -> None:
    world = connected_world()
    world.at(29.9)
    assert world.pings() == 0
    world.at(30.1)
    assert world.pings() == 1
    world.say(messages.PONG)
    world.at(60.2)
    assert world.pings() == 2
    world.at(90.0)
    assert world.dials() == [0]
    world.at(90.2)
    assert len(world.wires) == 2
    assert not world.wires[0].open


def test_what_came_as_the_ping_was_sent_does_not_answer_it() -> None:
    world = connected_world()
    while not world.pings():
        world.clock.run(world.clock.now() + SLACK - world.clock.now() % SLACK)
    world.say(messages.PONG)
    world.at(61)
    assert len(world.wires) == 2


def test_pages_that_connect_one_after_the_other_watch_for_silence_together() -> None:
    pinged = []
    for late in range(1, 60, 7):
        world = World(accept)
        world.at(late / 1000)
        world.echo.connect()
        world.at(30)
        while not world.pings():
            world.at(world.clock.now() / SECOND + 0.001)
        pinged.append(world.clock.now())
        since = 30 * SECOND + (late + 1) * 1_000_000
        assert since <= pinged[-1] <= since + SLACK + 1_000_000
    assert len(set(pinged)) <= 2


def test_any_frame_puts_the_ping_off() -> None:
    world = connected_world()
    for second in range(1, 100, 20):
        world.at(second)
        world.say(messages.PING)
    assert world.pings() == 0
    assert [frame["event"] for frame in world.wires[0].sent] == ["pusher:pong"] * 5


@pytest.mark.parametrize(("lived", "every"), [(20, 10), (50, 25), (300, 30), (4, 10)])
def test_a_connection_that_died_soon_makes_later_ones_ping_more_often(lived: float, every: float) -> None:
    world = World(accept)
    world.echo.connect()
    while world.clock.now() < lived * SECOND:
        world.at(world.clock.now() / SECOND + 1)
        world.say(messages.PONG)
    drop(world)
    reconnected = lived + 1
    world.at(reconnected + 0.5)
    before = world.pings()
    world.at(reconnected + every - 0.5)
    assert world.pings() == before
    for second in range(40):
        world.at(reconnected + every + 0.5 + second)
        if world.pings() > before:
            break
    assert second == 0
    world.say(messages.PONG)
    world.at(reconnected + 2 * every + 1.5)
    assert world.pings() == before + 2


def test_disconnect_is_for_good_and_connect_begins_anew() -> None:
    world = connected_world()
    world.echo.disconnect()
    world.at(300)
    assert world.dials() == [0]
    assert not world.wires[0].open
    world.echo.connect()
    world.at(302)
    assert world.echo.state is State.CONNECTED


def test_a_system_that_refuses_the_socket_counts_as_a_refused_connection() -> None:
    world = World()

    def dial(echo: Echo) -> Wire:
        world.wires.append(Wire(world.clock.now()))
        raise OSError(24, "Too many open files")

    world.echo = Echo(world.clock, dial, EventReader(lambda _: 0), world)
    world.echo.connect()
    world.at(50)
    assert world.dials() == [0, 15, 45]
    assert world.log[0] == ("dropped", 0, 1006)


def test_lose_comes_back_and_hang_does_not_move() -> None:
    world = connected_world()
    world.echo.lose()
    world.at(3)
    assert world.dials() == [0, 2]
    world.echo.hang()
    world.at(300)
    assert world.wires[-1].paused
    assert world.dials() == [0, 2]
    assert world.pings() == 0


def test_frames_are_read_as_the_shared_vocabulary_reads_them() -> None:
    texts = [messages.event("E", {"a": 1}, "c"), messages.event("E", "plain", "c"), messages.PING, ESTABLISHED]
    for line in (Path(__file__).parents[2] / "data" / "reverb-transcripts.jsonl").read_text().splitlines():
        texts += [text for text in _texts(json.loads(line)) if text.startswith("{")]
    # How deeply a server lets a client nest is the server's business.
    texts = [text for text in texts if "[[[[" not in text]
    assert len(texts) > 20
    for text in texts:
        try:
            expected = messages.parse(text)
        except Malformed:
            with pytest.raises(Malformed):
                parse(text.encode())
        else:
            event, channel, data = parse(text.encode())
            assert (event, channel, decoded(data)) == (expected.event, expected.channel, expected.data)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"1", b"{}", b'{"event":""}', b'{"event":5}', b"\xff", b'{"event":"x"', b'{"event":NaN}']
)
def test_what_is_no_frame(payload: bytes) -> None:
    with pytest.raises(Malformed):
        parse(payload)
    with pytest.raises((Malformed, UnicodeDecodeError)):
        messages.parse(payload.decode())


def _texts(node: Any) -> list[str]:
    if isinstance(node, str):
        return [node]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [text for child in children for text in _texts(child)]


def test_each_event_gets_a_number_and_frames_are_remembered_as_long_as_their_events_are_recent() -> None:
    told: list[Event] = []

    def number(event: Event) -> int:
        told.append(event)
        return 7

    reader = EventReader(number)
    payload = messages.event("E", {"update": 3, "sent_at": 10, "published_at": 12}, "a").encode()
    event = reader.hear(payload)
    assert isinstance(event, Event)
    assert (event.code, event.facts()[:3], event.sent_at) == (7 << 2, (3, 10, 12), 10)
    assert told == [event]
    other = EventReader(lambda _: 9).hear(payload)
    assert isinstance(other, Event)
    assert other.facts() == event.facts()  # Whoever hears a broadcast, in whatever process, gives it the same key.
    for i in range(3000):
        reader.frames[b"%d" % i] = reader.hear(messages.event("E", {"update": i}, "a").encode())  # type: ignore[assignment]
        oldest = min(told.index(event) for event in reader.frames.values()) if i % 100 == 0 else i
        assert len(told) - oldest <= EventReader.REMEMBERED
    assert len(set(event_keys(event.facts()[4] for event in told).tolist())) == 3001


def test_an_event_says_which_resource_it_is_of_as_far_as_its_payload_does() -> None:
    for data, expected in (
        ({"server_id": 5, "timestamp": "2026"}, 5),
        ({"site_id": 6}, 6),
        ({"id": "7"}, None),
        ({"server_id": (1 << 53) - 1}, (1 << 53) - 1),
        ({"server_id": 1 << 53, "id": 8}, 8),
        ({"server_id": True, "site_id": 1.0}, None),
        ([5], None),
        (None, None),
    ):
        assert Event("E", "private-servers", data).facts()[3] == expected


def test_members_for_measuring_are_whole_numbers_that_tables_hold_or_not_there() -> None:
    for data, expected in (
        ('{"update": 3, "sent_at": 10, "published_at": 12}', (3, 10, 12)),
        ('{"update": 3, "sent_at": 10}', (3, 10, -1)),
        ('{"sent_at": 10, "published_at": 12}', (-1, -1, -1)),
        ('{"update": true, "sent_at": 1.5, "published_at": "12"}', (-1, -1, -1)),
        (f'{{"update": {(1 << 63) - 1}, "sent_at": {1 << 63}, "published_at": {-1 << 63}}}', ((1 << 63) - 1, -1, -1 << 63)),
        ({"update": 1 << 70, "sent_at": 0, "published_at": 0}, (-1, 0, 0)),
        ("[3]", (-1, -1, -1)),
        (None, (-1, -1, -1)),
    ):
        assert Event("E", "private-servers", data).facts()[:3] == expected, data
