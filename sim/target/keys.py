"""Ids of the target's own, of any kind (`17`, `"7303141234567"`, a UUID), and the whole numbers that stand for them in tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

Key = int | str
"""An id as the target writes it: a whole number that every table and JavaScript hold exactly, anything else as text."""

EXACT = 2**53
"""From here on JSON numbers are no longer exact everywhere."""


def key_of(value: Any) -> Key:
    """The id in a JSON or CSV value; a number in quotes is that number. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError(f"an id must be a whole number or a text, got {value!r}")
    text = str(value).strip()
    exact = text.isascii() and text.isdigit() and len(text) < 17 and str(int(text)) == text and int(text) < EXACT
    return int(text) if exact else text


class Keys:
    """Ids of one kind and their numbers: whole numbers stand for themselves, texts get the smallest that are free, in the order
    in which they come. The same ids always get the same numbers."""

    def __init__(self, keys: Iterable[Key]) -> None:
        distinct = list(dict.fromkeys(keys))
        taken = {key for key in distinct if isinstance(key, int)}
        free = (number for number in itertools.count(1) if number not in taken)
        self._numbers = {key: next(free) for key in distinct if isinstance(key, str)}
        self._keys = {number: key for key, number in self._numbers.items()}
        self.count = len(distinct)
        """Different ids."""

    def number(self, key: Key) -> int:
        """The number that tables hold for *key*. Raises KeyError for a text that was not given."""
        return key if isinstance(key, int) else self._numbers[key]

    def has(self, text: str) -> bool:
        """Whether *text* is an id that tables hold by another number."""
        return text in self._numbers

    def key(self, number: int) -> Key:
        """The target's own id for a number of a table."""
        return self._keys.get(number, number)

    def to_dict(self) -> dict[str, str]:
        """Number -> id, of those that differ: what a run bundle keeps to be read."""
        return {str(number): key for number, key in self._keys.items()}


def list_of(channel: str) -> str:
    """What the ids of a channel's template are: `private-orders.{id}` -> orders."""
    return channel.partition(".{id}")[0].rpartition("-")[2]


def renamed(channel: str, keys: Mapping[str, Keys]) -> str:
    """The name of a channel in tables, with numbers in place of the target's own ids: `private-servers.0193-...` is
    `private-servers.1`. *keys*: by the word before the id, as `servers`."""
    words = channel.split(".")
    for i, word in enumerate(words[:-1]):
        known = keys.get(word.rpartition("-")[2])
        if known is not None and known.has(words[i + 1]):
            words[i + 1] = str(known.number(words[i + 1]))
    return ".".join(words)
