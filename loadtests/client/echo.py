"""What Laravel Echo and pusher-js do in a browser: connect, authorise, subscribe, stay alive, come back.

An `Echo` gets the time from a `sim.clock.Scheduler` and its socket from a function, so a test can run it on a virtual clock with
a list of frames, and a load test on the mux. It behaves as pusher-js 8.6 was seen to behave: what a close code leads to, when an
attempt is repeated, when it pings, what it forgets. It leaves out the second transport that pusher-js tries beside the first (wss
beside ws), and the browser's `online` and `offline`.

    initialized -> connecting -> connected        a lost connection goes back to connecting
                   connecting -> unavailable      after 10 s; the attempts go on
                   any        -> disconnected     by `disconnect()`, or when the application refuses this client
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from loadtests.client.reader import Event, EventReader
from sim.clock import SECOND, Entry, Scheduler
from sim.pusher import messages
from sim.pusher.messages import Malformed

ACTIVITY_TIMEOUT = 120 * SECOND
"""Silence after which pusher-js pings by its own option; the server's `activity_timeout` is usually shorter."""
PONG_TIMEOUT = 30 * SECOND
UNAVAILABLE_AFTER = 10 * SECOND
RECONNECT_DELAY = SECOND
"""No jitter and no growth: clients that were dropped together come back together."""
FIRST_SLOT, LAST_SLOT = 15 * SECOND, 60 * SECOND
"""An attempt that cannot even open a socket waits out its slot: 15 s, 30 s, then 60 s each."""
SHORTEST_ACTIVITY = 10 * SECOND
SLACK = SECOND // 16
"""The watch on silence (10 s and more) may end this much late. Thousands of pages then wake the hub together, where each would
cost a wake-up of its own (35 us)."""

NEVER = -1
AT_ONCE = 0

RECONNECTS: tuple[tuple[int, int], ...] = (
    # codes below, delay of the reconnect
    (4000, RECONNECT_DELAY),
    (4001, AT_ONCE),  # TLS only (pusher-js then uses wss; here the user has to give a wss URL)
    (4100, NEVER),  # refused: application unknown, disabled, over quota ...
    (4200, RECONNECT_DELAY),  # over capacity
    (4300, AT_ONCE),  # reconnect now
)
"""What a close code leads to, or the code of a `pusher:error` in place of the first frame. The first row that fits counts; a
higher code is a refusal. An error's code is what the peer writes, so it may be any whole number."""


def delay_after(code: int) -> int:
    """Nanoseconds until the reconnect. `NEVER`: the application has refused this client."""
    return next((delay for below, delay in RECONNECTS if code < below), NEVER)


class State(Enum):
    INITIALIZED = "initialized"
    CONNECTING = "connecting"
    UNAVAILABLE = "unavailable"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


class Subscription(Enum):
    """Where one channel stands."""

    WANTED = "wanted"
    AUTHORISING = "authorising"
    SENT = "sent"
    SUBSCRIBED = "subscribed"
    REFUSED = "refused"
    """By the application or the broadcaster. It is not tried again before the next connection."""


class Socket(Protocol):
    """What *dial* returns: `loadtests.client.link.Link`, or a stand-in."""

    @property
    def heard_at(self) -> int:
        """When the last frame came that was recorded without a call of the echo."""

    def send(self, text: str) -> None: ...

    def close(self, code: int = 1000) -> None: ...

    def pause(self) -> None: ...


Authorised = Callable[[str | None, str | None, str], None]
"""Answer of an authorisation: (auth, channel_data, ""), or (None, None, why not)."""


class Client(Protocol):
    """The owner of the connection, which is a page. No call may block."""

    def authorize(self, channel: str, socket_id: str, done: Authorised) -> None:
        """Find the signature of a private or presence channel, and call *done* with it, now or later."""

    def connected(self, at: int, took: int) -> None: ...

    def dropped(self, at: int, code: int, reason: str) -> None:
        """The connection is lost, or an attempt failed; subscriptions are void from here on."""

    def subscribed(self, channel: str, at: int, took: int) -> None: ...

    def refused(self, channel: str, at: int, reason: str) -> None: ...

    def heard(self, event: Event, arrived_at: int, read_at: int, stamp: int) -> None: ...

    def complained(self, code: int, message: str) -> None:
        """A `pusher:error` came, or something that is no frame of the protocol (code 0)."""


class Echo:
    """One page's connection. Call `connect()` and `subscribe(...)`, in any order; `disconnect()` ends it."""

    __slots__ = (
        "_alarm",
        "_attempt_at",
        "_cap",
        "_channels",
        "_client",
        "_clock",
        "_dial",
        "_event_reader",
        "_latency",
        "_link",
        "_opened",
        "_pinged_at",
        "_quick",
        "_sent_at",
        "_server_timeout",
        "_slot",
        "_unavailable",
        "connected_at",
        "heard_at",
        "socket_id",
        "state",
    )

    def __init__(self, clock: Scheduler, dial: Callable[[Echo], Socket], reader: EventReader, client: Client) -> None:
        """*dial*(echo) begins to open a connection that reports to the echo; it may raise OSError."""
        self._clock, self._dial, self._event_reader, self._client = clock, dial, reader, client
        self._channels: dict[str, Subscription] = {}
        self._sent_at: dict[str, int] = {}
        self._link: Socket | None = None
        self._alarm: Entry | Any = None
        self._unavailable: Entry | Any = None
        self._attempt_at = self._pinged_at = 0
        self._slot = FIRST_SLOT
        self._latency = NEVER
        self._opened = self._quick = False
        self._server_timeout = self._cap = ACTIVITY_TIMEOUT
        self.state = State.INITIALIZED
        self.socket_id = ""
        self.connected_at = self.heard_at = 0

    # ---- what the page wants

    def connect(self) -> None:
        if self.state in (State.INITIALIZED, State.DISCONNECTED):
            self._enter_connecting()
            self._begin_slots()

    def subscribe(self, channel: str) -> None:
        """Subscribe now, or as soon as there is a connection, and again after each reconnect."""
        if self._channels.get(channel) in (None, Subscription.REFUSED):
            self._channels[channel] = Subscription.WANTED
            if self.is_open:
                self._ask(channel)

    @property
    def is_open(self) -> bool:
        """Whether there is an established connection. (The state stays `connected` for a while after a loss.)"""
        return self.state is State.CONNECTED and self._link is not None

    def disconnect(self) -> None:
        """Close, and do not come back. The client gets no call for it."""
        self.state = State.DISCONNECTED
        self._stop_waiting()
        self._hang_up()

    def hang(self) -> None:
        """Stop reading and pinging, without closing, as a page in a tab that has frozen."""
        self._stop_waiting()
        if self._link is not None:
            self._link.pause()

    def lose(self) -> None:
        """Drop the connection, and come back as after a loss."""
        self._hang_up()
        self._come_back(RECONNECT_DELAY)

    def _hang_up(self) -> bool:
        """Close the socket, if there is one. Whether there was one."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
        return link is not None

    # ---- attempts

    def _enter_connecting(self) -> None:
        self.state = State.CONNECTING
        self._channels = dict.fromkeys(self._channels, Subscription.WANTED)
        if self._unavailable is None:
            self._unavailable = self._clock.call_at(self._clock.now() + UNAVAILABLE_AFTER, self._become_unavailable)

    def _become_unavailable(self) -> None:
        self._unavailable = None
        self.state = State.UNAVAILABLE

    def _begin_slots(self) -> None:
        self._quick, self._slot = False, FIRST_SLOT
        self._attempt(FIRST_SLOT)

    def _reconnect(self) -> None:
        """After a connection was lost: one quick attempt, which may take a second more than twice what the last one took; then
        slots."""
        if self.state is not State.UNAVAILABLE:
            self._enter_connecting()
        if self._latency == NEVER:
            self._begin_slots()
        else:
            self._quick = True
            self._attempt(2 * self._latency + SECOND)

    def _attempt(self, patience: int) -> None:
        self._opened = False
        self._attempt_at = self._clock.now()
        self._set_alarm(self._attempt_at + patience, self._slot_over)
        try:
            self._link = self._dial(self)
        except OSError as error:
            self.closed(1006, f"connect: {(error.strerror or str(error)).lower()}")

    def _slot_over(self) -> None:
        self._alarm = None
        if self._hang_up():
            self._client.dropped(self._clock.now(), 1006, "connect: timed out")
        if self._quick:
            self._begin_slots()
        else:
            self._slot = min(2 * self._slot, LAST_SLOT)
            self._attempt(self._slot)

    # ---- the link's side

    def opened(self) -> None:
        self._opened = True
        self._cancel_alarm()

    def closed(self, code: int, reason: str) -> None:
        now, established = self._clock.now(), self.state is State.CONNECTED
        self._link = None
        if established:
            self._learn(now, clean=code != 1006)
        self._client.dropped(now, code, reason)
        if self.state is State.DISCONNECTED:
            return
        if not established and not self._opened:
            if self._quick:
                self._begin_slots()
            return  # The alarm of the slot is set already.
        self._come_back(delay_after(code))

    def _learn(self, now: int, clean: bool) -> None:
        """A connection that died soon, and without a close frame, makes later ones ping more often."""
        lived = now - self.connected_at
        if not clean and lived < 2 * ACTIVITY_TIMEOUT:
            self._cap = max(lived // 2, SHORTEST_ACTIVITY)

    def _come_back(self, delay: int) -> None:
        self._cancel_alarm()
        if delay == NEVER:
            self._stop_waiting()
            self.state = State.DISCONNECTED
        elif self.state is not State.DISCONNECTED:
            self._set_alarm(self._clock.now() + delay, self._reconnect)

    def again(self, event: Event, arrived_at: int, read_at: int, stamp: int) -> None:
        """A frame came with the bytes of an earlier one, of this page or another; *event* is what `text` made of those."""
        self.heard_at = read_at
        if event.channel in self._channels:
            self._client.heard(event, arrived_at, read_at, stamp)

    def text(self, payload: bytes, arrived_at: int, read_at: int, stamp: int) -> Event | None:
        """One message; the event, if it was one."""
        self.heard_at = read_at
        try:
            message = self._event_reader.hear(payload)
        except Malformed as error:
            self._client.complained(0, f"not a frame: {error}")
            if self.state is not State.CONNECTED:
                self._give_up_handshake()
            return None
        if isinstance(message, Event):
            if message.channel in self._channels:
                self._client.heard(message, arrived_at, read_at, stamp)
            return message
        if self.state is not State.CONNECTED:
            self._answer_to_handshake(message)
        elif react := REACTIONS.get(message.event):
            react(self, message, min(arrived_at, read_at))
        return None

    def _answer_to_handshake(self, message: messages.Message) -> None:
        """The first frame decides whether there is a connection."""
        data = message.data
        if type(data) is dict:
            timeout: Any = data.get("activity_timeout")
            if message.event == messages.ESTABLISHED and type(timeout) in (int, float):
                # The client's own is never longer, so a longer one has no meaning (and might not fit an instant).
                self._established(str(data.get("socket_id", "")), int(min(max(timeout, 0), ACTIVITY_TIMEOUT // SECOND) * SECOND))
                return
            if message.event == messages.ERROR:
                self._failed_by_error(data)
                return
        self._give_up_handshake()

    def _established(self, socket_id: str, activity_timeout: int) -> None:
        now = self._clock.now()
        self._stop_waiting()
        self.state, self.socket_id = State.CONNECTED, socket_id
        self.connected_at = self.heard_at = now
        self._latency = now - self._attempt_at
        self._server_timeout = activity_timeout
        self._watch_activity()
        self._client.connected(now, self._latency)
        for channel in sorted(self._channels, key=is_guarded):
            if self._channels.get(channel) is Subscription.WANTED:
                self._ask(channel)

    def _failed_by_error(self, data: dict[str, Any]) -> None:
        code, message = _code_of(data), str(data.get("message", ""))
        self._client.complained(code, message)
        self._drop(code, message)
        self._come_back(delay_after(code))

    def _give_up_handshake(self) -> None:
        """As pusher-js does: it closes, becomes unavailable, and makes no further attempt."""
        self._cancel_alarm()
        self._drop(1006, "no handshake of the Pusher protocol")

    def _drop(self, code: int, reason: str) -> None:
        self._hang_up()
        self._client.dropped(self._clock.now(), code, reason)

    # ---- subscriptions

    def _ask(self, channel: str) -> None:
        if is_guarded(channel):
            self._channels[channel] = Subscription.AUTHORISING
            asked_for = self.socket_id
            self._client.authorize(
                channel, asked_for, lambda auth, data, why: self._authorised(channel, asked_for, auth, data, why)
            )
        else:
            self._send_subscription(channel, "", None)

    def _authorised(self, channel: str, socket_id: str, auth: str | None, channel_data: str | None, why: str) -> None:
        if socket_id != self.socket_id or self._channels.get(channel) is not Subscription.AUTHORISING:
            return  # It was asked for on a connection that is lost.
        if auth is None:
            self._channels[channel] = Subscription.REFUSED
            self._client.refused(channel, self._clock.now(), why)
        elif self._link is not None:
            self._send_subscription(channel, auth, channel_data)

    def _send_subscription(self, channel: str, auth: str, channel_data: str | None) -> None:
        assert self._link is not None
        self._channels[channel] = Subscription.SENT
        self._sent_at[channel] = self._clock.now()
        self._link.send(messages.subscribe(channel, auth, channel_data))

    def _succeeded(self, message: messages.Message, at: int) -> None:
        channel = message.channel
        sent_at = self._sent_at.pop(channel, at)
        if not self._sent_at:
            self._sent_at.clear()  # An emptied dict keeps its memory until then, and each page has one.
        if channel in self._channels:
            self._channels[channel] = Subscription.SUBSCRIBED
            self._client.subscribed(channel, at, max(at - sent_at, 0))

    def _errored(self, message: messages.Message, at: int) -> None:
        data = message.data if type(message.data) is dict else {}
        code, text = _code_of(data), str(data.get("message", ""))
        self._client.complained(code, text)
        if code == UNAUTHORIZED:
            # The frame does not say for which channel; requests are answered in order.
            waiting = [channel for channel, standing in self._channels.items() if standing is Subscription.SENT]
            if waiting:
                channel = min(waiting, key=lambda name: self._sent_at.get(name, 0))
                self._sent_at.pop(channel, None)
                self._channels[channel] = Subscription.REFUSED
                self._client.refused(channel, at, f"{code} {text}")

    def _not_subscribed(self, message: messages.Message, at: int) -> None:
        channel, data = message.channel, message.data if type(message.data) is dict else {}
        if self._channels.get(channel) is Subscription.SENT:
            self._sent_at.pop(channel, None)
            self._channels[channel] = Subscription.REFUSED
            self._client.refused(channel, at, f"subscription_error {data.get('status')} {data.get('error')}")

    # ---- activity

    def _last_heard(self) -> int:
        return self.heard_at if self._link is None else max(self.heard_at, self._link.heard_at)

    def _watch_activity(self) -> None:
        self._set_alarm(_later(self._last_heard() + min(self._server_timeout, self._cap)), self._silence)

    def _silence(self) -> None:
        self._alarm = None
        if self._clock.now() - self._last_heard() < min(self._server_timeout, self._cap):
            self._watch_activity()  # Something came meanwhile. There is one timer for a connection, not one for each frame.
            return
        self._pinged_at = self._clock.now()
        if self._link is not None:
            self._link.send(messages.CLIENT_PING)
        timeout = min(self._server_timeout, self._cap, PONG_TIMEOUT)
        self._set_alarm(_later(self._pinged_at + timeout), self._await_pong)

    def _await_pong(self) -> None:
        self._alarm = None
        now = self._clock.now()
        if self._last_heard() > self._pinged_at:
            self._watch_activity()
            return
        if now < self._pinged_at + PONG_TIMEOUT:
            self._set_alarm(_later(self._pinged_at + PONG_TIMEOUT), self._await_pong)
            return
        self._learn(now, clean=False)
        self._drop(1006, "pong not received in time")
        self._reconnect()

    def _pong(self, message: messages.Message, at: int) -> None:
        if self._link is not None:
            self._link.send(messages.CLIENT_PONG)

    # ---- timers

    def _set_alarm(self, at: int, callback: Callable[[], None]) -> None:
        self._cancel_alarm()
        self._alarm = self._clock.call_at(at, callback)

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _stop_waiting(self) -> None:
        self._cancel_alarm()
        if self._unavailable is not None:
            self._unavailable.cancel()
            self._unavailable = None


UNAUTHORIZED = 4009

REACTIONS: dict[str, Callable[[Echo, messages.Message, int], None]] = {
    "pusher:ping": Echo._pong,
    messages.ERROR: Echo._errored,
    messages.SUBSCRIBED: Echo._succeeded,
    messages.SUBSCRIPTION_ERROR: Echo._not_subscribed,
}
"""What a connected client does about the protocol's own frames. Others (pongs, members, cache misses) only count as a sign of
life."""


def _later(at: int) -> int:
    """The next instant at which a watch on silence may end."""
    return -(-at // SLACK) * SLACK


def is_guarded(channel: str) -> bool:
    """Whether a subscription needs a signature (pusher-js's rule, with the dash)."""
    return channel.startswith(("private-", "presence-"))


def _code_of(data: dict[str, Any]) -> int:
    code = data.get("code")
    return code if type(code) is int else 0
