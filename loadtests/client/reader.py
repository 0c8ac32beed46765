"""From frames to events: a frame that thousands of pages receive is read once, for all of them.

A broadcast sends every page the same bytes, or bytes that differ in digits only (a payload that names an instant or an update).
So frames that came together are read together: equal frames are one event, and the numbers in frames of one `FrameShape` are read
by the places of their digits, all at once.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import orjson

from loadtests.client.frames import is_one
from sim.pusher import messages
from sim.pusher.messages import Malformed
from sim.results.parts import event_keys, keys_of
from sim.target.keys import EXACT

BLANK = bytes(ord("0") if ord("0") <= i <= ord("9") else i for i in range(256))
"""For `bytes.translate`: makes each digit a 0, so that frames of one shape become equal."""
MEASURES = ("update", "sent_at", "published_at")
RESOURCES = ("server_id", "site_id", "id")
END = 1 << 63
"""Tables hold numbers below this one."""
FEW = 8
"""Different frames of one length that are looked for among frames that came together, before the rest is read one by one."""

UNREAD: Any = object()
Facts = tuple[int, int, int, int | None, bytes]
Frames = npt.NDArray[np.uint8]
"""Frames of one length, a row each."""

_TOKEN = re.compile(r'"[^"]*"|-?\d[-+.\deE]*')


class Event:
    """One published event as heard."""

    __slots__ = ("_data", "_facts", "came", "channel", "code", "name")

    def __init__(self, name: str, channel: str, came: Any) -> None:
        """*came*: the payload as it came, nearly always a JSON text, which is parsed when `data` is first read."""
        self.name, self.channel, self.came = name, channel, came
        self._data = UNREAD
        self._facts: Facts | None = None
        self.code = 0
        """The recorder's number for it, times four."""

    @property
    def data(self) -> Any:
        """The payload, parsed."""
        if self._data is UNREAD:
            self._data = decoded(self.came)
        return self._data

    @property
    def sent_at(self) -> int:
        """Intended time of the update; -1 where the payload has none."""
        return (self._facts or self.facts())[1]

    def facts(self) -> Facts:
        """(update, sent_at, published_at, resource, content) for the tables. The first three are the members for measuring, -1
        where the payload has none. *resource*: the id of what changed (`server_id`, `site_id`, `id`); None where the payload
        names none, or tables number it otherwise (`sim.target.keys`). *content*: the same on every channel of the event
        (`sim.results.parts.event_keys`)."""
        came, data = self.came, self.data
        measures: tuple[Any, ...] = (-1, -1, -1)
        resource_id = None
        if type(data) is dict:
            if "update" in data:
                measures = update, sent_at, published_at = data["update"], data.get("sent_at"), data.get("published_at")
                # One test of all three: it is made for each different event.
                if not (
                    type(update) is type(sent_at) is type(published_at) is int and 0 <= update | sent_at | published_at < END
                ):
                    measures = tuple(_whole(value, END, -1) for value in measures)
            for name in RESOURCES:
                if name in data and (resource_id := _whole(data[name], EXACT, None)) is not None:
                    break
        content = f"{self.name} {came if type(came) is str and came else repr(data)}".encode()
        self._facts = facts = cast(Facts, (*measures, resource_id, content))
        return facts


class FrameShape:
    """What frames have in common that differ only in the digits of their payload."""

    __slots__ = ("_came", "_firsts", "_lowest", "_measures", "_resource", "_span", "channel", "name")

    def __init__(self, frame: bytes, name: str, channel: str, came: Any) -> None:
        """From one *frame*, whose payload is the text *came*. Raises ValueError where others cannot be read like it: the JSON
        must be written in the shortest way, and its numbers must be whole."""
        written = orjson.dumps(came)[1:-1] if type(came) is str else b""
        data = orjson.loads(came) if type(came) is str else None
        if type(data) is not dict or "\\" in came or orjson.dumps(data).decode() != came or frame.count(written) != 1:
            raise ValueError
        numbers = {found.start(): found[0] for found in _TOKEN.finditer(came) if found[0][0] != '"'}
        if not all(number.isdigit() for number in numbers.values()):
            raise ValueError
        self.name, self.channel = name, channel
        start = frame.index(written)
        self._came = [start + i for i, byte in enumerate(written) if byte != ord("\\")]
        # Each byte of a frame of this shape lies between `_lowest` and `_lowest + _span`.
        self._lowest, self._span = np.frombuffer(frame, np.uint8).copy(), np.zeros(len(frame), np.uint8)
        digits = [i for i in self._came if chr(frame[i]).isdigit()]
        self._lowest[digits], self._span[digits] = ord("0"), 9
        # First digits: a number that begins with 0 is not JSON.
        self._firsts = [start for start, number in numbers.items() if len(number) > 1]

        def place(member: str, digits: int) -> tuple[int, int] | None:
            if type(data.get(member)) is not int:
                return None
            key = f'"{member}":'
            start = came.index(key) + len(key)
            if came.count(key) != 1 or len(number := numbers[start]) > digits:
                raise ValueError
            return start, start + len(number)

        self._measures = [place(member, len(str(END))) if "update" in data else None for member in MEASURES]
        self._resource = next(filter(None, (place(member, len(str(EXACT)) - 1) for member in RESOURCES)), None)

    @property
    def is_timed(self) -> bool:
        """Whether payloads hold the intended time of their update."""
        return self._measures[1] is not None

    def fits(self, frames: Frames) -> npt.NDArray[np.bool_]:
        """Which of *frames* have this shape. All have its length."""
        return np.all(frames - self._lowest <= self._span, axis=1)

    def event(self, frame: npt.NDArray[np.uint8]) -> Event:
        return Event(self.name, self.channel, frame[self._came].tobytes().decode())

    def facts(self, frames: Frames) -> tuple[npt.NDArray[np.bool_], list[npt.NDArray[np.int64]], Frames]:
        """Of frames of this shape: which of them are not JSON, because a number begins with 0, and must be read one by one; of
        the others the columns of `Event.facts` (resource -1: none), and their contents."""
        came = frames[:, self._came]
        digits = came - np.uint8(ord("0"))

        def values(place: tuple[int, int] | None) -> npt.NDArray[np.int64]:
            if place is None:
                return np.full(len(frames), -1)
            start, end = place
            found = digits[:, start:end].astype(np.uint64) @ np.uint64(10) ** np.arange(end - start, dtype=np.uint64)[::-1]
            return np.where(found < END, found, np.uint64(2 * END - 1)).astype(np.int64)  # Beyond: -1.

        prefix = np.frombuffer(f"{self.name} ".encode(), np.uint8)
        contents = np.concatenate([np.broadcast_to(prefix, (len(frames), len(prefix))), came], axis=1)
        return (digits[:, self._firsts] == 0).any(axis=1), [*map(values, self._measures), values(self._resource)], contents


class EventSeries:
    """Events of one shape, with consecutive numbers in the order of their *frames*."""

    __slots__ = ("channel", "frames", "shape")

    def __init__(self, shape: FrameShape, frames: Frames) -> None:
        self.shape, self.frames, self.channel = shape, frames, shape.channel


def facts_of(
    events: Sequence[Event | EventSeries],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """`Event.facts` of all events, as columns: measures (a row for each of the three), resources, whether there is one, and keys
    of contents (`sim.results.parts.event_keys`)."""
    alone: list[tuple[int, Event]] = []
    shapes: dict[FrameShape, list[tuple[int, Frames]]] = {}
    count = 0
    for event in events:
        if isinstance(event, Event):
            alone.append((count, event))
            count += 1
        else:
            shapes.setdefault(event.shape, []).append((count, event.frames))
            count += len(event.frames)
    found, named, keys = np.full((len(MEASURES) + 1, count), -1), np.zeros(count, bool), np.empty(count, np.int64)
    for shape, series in shapes.items():
        at = np.concatenate([np.arange(first, first + len(frames)) for first, frames in series])
        frames = np.concatenate([frames for _, frames in series])
        odd, found[:, at], contents = shape.facts(frames)
        named[at], keys[at] = found[-1, at] >= 0, keys_of(contents)
        alone += [(int(at[i]), shape.event(frames[i])) for i in np.flatnonzero(odd)]
    if alone:
        which, rows = [i for i, _ in alone], [event.facts() for _, event in alone]
        found[:, which] = np.array([[*row[:3], row[3] or 0] for row in rows]).T
        named[which], keys[which] = [row[3] is not None for row in rows], event_keys([row[4] for row in rows])
    return found[:-1], found[-1], named, keys


def _whole(value: Any, end: int, otherwise: Any) -> Any:
    return value if type(value) is int and -end <= value < end else otherwise


def parse(payload: bytes) -> tuple[str, Any, Any]:
    """(event, channel, data): with `decoded` data as `sim.pusher.messages.parse` has them, several times as fast. Raises
    `Malformed`."""
    try:
        tree = orjson.loads(payload)
    except ValueError as error:
        raise Malformed(str(error)) from error
    if type(tree) is not dict:
        raise Malformed("not an object")
    event = tree.get("event")
    if type(event) is not str or not event:
        raise Malformed("no event name")
    return event, tree.get("channel"), tree.get("data")


def decoded(data: Any) -> Any:
    """*data*, parsed where it is a text that holds JSON; else as it is."""
    if type(data) is str:
        try:  # At half the cost of `contextlib.suppress`, for each different event.
            return orjson.loads(data)
        except ValueError:
            pass
    return data


class EventReader:
    """Reads frames, for all subscribers of a process."""

    REMEMBERED = 1024
    """Frames that are kept. A broadcast has fewer on their way at a time, and a frame that was forgotten is only read again."""

    def __init__(self, number: Callable[[Event | EventSeries], int]) -> None:
        """*number*(event) is called for each different event on a channel, and returns its number; of a series, the number of
        the first."""
        self.frames: dict[bytes, Event] = {}
        """Whole frame, head included -> event, of the latest frames; `loadtests.client.link` adds to it."""
        self._number = number
        self._seen: set[bytes] = set()
        self._shapes: dict[bytes, FrameShape | None] = {}
        """Frame without its digits (`BLANK`) -> its shape; None: such frames must be read one by one."""
        self._audiences: dict[tuple[frozenset[str], frozenset[str]], int] = {}
        self._traits: list[tuple[frozenset[str], frozenset[str]]] = []
        self._heard = 0
        """Events since `frames` was emptied, so that those in it are among the last `REMEMBERED` events."""

    def audience(self, channels: frozenset[str], names: frozenset[str]) -> int:
        """One number for all pages with the same *channels* that listen to the same *names* of events (empty: any)."""
        traits = channels, names
        if traits not in self._audiences:
            self._audiences[traits] = len(self._traits)
            self._traits.append(traits)
        return self._audiences[traits]

    def _listen_to(self, name: str, channel: str, audiences: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of the *audiences* listen to such an event."""
        kinds, places = audiences[:1], np.zeros(len(audiences), int)
        if (audiences != kinds).any():
            kinds, places = np.unique(audiences, return_inverse=True)
        traits = [self._traits[kind] for kind in kinds.tolist()]
        return np.array([channel in channels and (not names or name in names) for channels, names in traits], bool)[places]

    def codes(self, frames: Frames, audiences: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The code of each frame's event; -1 where the page itself must read the frame, or does not listen to the event.

        *frames*: whole frames of one length. *audiences*: of the page that each of them came to."""
        codes = np.full(len(frames), -1)
        left = np.arange(len(frames))
        for _ in range(FEW):
            if not len(left):
                return codes
            data = frames[0].tobytes()
            event = self.frames.get(data) or self.read(data)
            alike = (frames == frames[0]).all(axis=1)
            if event is not None:
                mine = left[alike]
                codes[mine[self._listen_to(event.name, event.channel, audiences[mine])]] = event.code
            left, frames = left[~alike], frames[~alike]
            shape = self._shapes.get(data.translate(BLANK)) if len(left) > FEW * alike.sum() else None
            if (
                shape is not None and shape.is_timed
            ):  # Else latencies count from the first arrival, and each frame would have its own.
                fit = shape.fits(frames) & self._listen_to(shape.name, shape.channel, audiences[left])
                count = int(fit.sum())
                if count:
                    first = self._numbered(EventSeries(shape, frames[fit]), count)
                    codes[left[fit]] = np.arange(first, first + count) << 2
                left, frames = left[~fit], frames[~fit]
        for place, frame in zip(left.tolist(), frames, strict=True):
            data = frame.tobytes()
            event = self.frames.get(data) or self.read(data)
            if event is not None and self._listen_to(event.name, event.channel, audiences[place : place + 1])[0]:
                codes[place] = event.code
        return codes

    def read(self, frame: bytes) -> Event | None:
        """The event of a whole frame, which is in `frames` from now on; None: the page's link must read it."""
        payload = frame[4:]
        if not is_one(frame) or not payload.isascii():
            return None
        try:
            heard = self.hear(payload)
        except Malformed:
            return None
        if not isinstance(heard, Event):
            return None
        self.frames[frame] = heard
        blank = frame.translate(BLANK)
        if blank in self._shapes:
            return heard
        if blank in self._seen:  # A shape is made of the second frame that has it.
            self._shapes[blank] = None
            with contextlib.suppress(ValueError):
                self._shapes[blank] = FrameShape(frame, heard.name, heard.channel, heard.came)
        if len(self._seen) == self.REMEMBERED:
            self._seen.clear()
            self._shapes.clear()
        self._seen.add(blank)
        return heard

    def hear(self, payload: bytes) -> Event | messages.Message:
        """An `Event` on a channel, or a `Message` of the protocol itself. Raises `Malformed`."""
        name, channel, data = parse(payload)
        if type(channel) is not str or (name[:6] == "pusher" and name.startswith(("pusher:", "pusher_internal:"))):
            return messages.Message(name, channel, decoded(data))
        event = Event(name, channel, data)
        event.code = self._numbered(event) << 2
        return event

    def _numbered(self, event: Event | EventSeries, count: int = 1) -> int:
        self._heard += count
        if self._heard > self.REMEMBERED:
            self._heard = count
            self.frames.clear()
        return self._number(event)
