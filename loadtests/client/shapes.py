"""Frames that differ in digits only: read once, the others by where their digits stand.

A payload that names an instant or an update is a different frame each time, and yet the same but for its numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from sim.target.keys import EXACT

BLANK = bytes(ord("0") if ord("0") <= i <= ord("9") else i for i in range(256))
"""For `bytes.translate`: what it leaves of a frame is the same for all of a shape."""
MEASURES = ("update", "sent_at", "published_at")
RESOURCES = ("server_id", "site_id", "id")
END = 1 << 63
"""Of the numbers that tables hold."""

_TOKEN = re.compile(r'"[^"]*"|-?\d[-+.\deE]*')


class Shape:
    """What frames of one shape have in common: event and channel to the letter, the payload but for its digits."""

    __slots__ = ("_after", "_before", "_end", "_firsts", "_measures", "_resource", "_start", "audiences", "channel", "name")

    def __init__(self, frame: bytes, name: str, channel: str, came: Any) -> None:
        """By a frame whose payload is the text *came*. Raises ValueError where others cannot be read by it: all is to be written
        in the shortest way, with whole numbers only."""
        written = orjson.dumps(came)[1:-1] if type(came) is str else b""
        data = orjson.loads(came) if type(came) is str else None
        if type(data) is not dict or "\\" in came or orjson.dumps(data).decode() != came or frame.count(written) != 1:
            raise ValueError
        numbers = {found.start(): found[0] for found in _TOKEN.finditer(came) if found[0][0] != '"'}
        if not all(number.isdigit() for number in numbers.values()):
            raise ValueError
        self.name, self.channel = name, channel
        self.audiences = frozenset[int]()
        self._start = frame.index(written)
        self._end = self._start + len(written)
        self._before, self._after = frame[: self._start], frame[self._end :]
        # Where leading zeros would make a number none.
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

    def fits(self, frame: bytes) -> bool:
        """Whether a frame that is the same but for digits differs in its payload only."""
        return frame[: self._start] == self._before and frame[self._end :] == self._after

    def came(self, frame: bytes) -> bytes:
        """Its payload's text."""
        return frame[self._start : self._end].replace(b'\\"', b'"')

    def told(self, payloads: Sequence[bytes]) -> tuple[npt.NDArray[np.bool_], list[npt.NDArray[np.int64]], list[int | None]]:
        """Of payloads that fit: which of them hold numbers that are none, and are to be read one by one; `Event.told`'s measures
        and resources of the others."""
        digits = np.frombuffer(b"".join(payloads), np.uint8).reshape(len(payloads), -1) - np.uint8(ord("0"))

        def values(place: tuple[int, int] | None) -> npt.NDArray[np.int64]:
            if place is None:
                return np.full(len(payloads), -1)
            start, end = place
            found = digits[:, start:end].astype(np.uint64) @ np.uint64(10) ** np.arange(end - start, dtype=np.uint64)[::-1]
            return np.where(found < END, found, np.uint64(2 * END - 1)).astype(np.int64)  # Beyond: -1.

        resources = [None] * len(payloads) if self._resource is None else values(self._resource).tolist()
        return (digits[:, self._firsts] == 0).any(axis=1), [values(place) for place in self._measures], resources
