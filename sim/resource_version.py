"""How new an answer is: what stands at a path of its JSON, and with what it can be compared.

The publisher reads the versions that changes bring, the load client those that pages show: both here, so that like is compared
with like.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

LARGEST = 1 << 63
"""From here on no table holds it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Version(NamedTuple):
    """Versions of one kind can be compared: counters and times are ordered, texts are equal or not."""

    kind: Literal["counter", "time", "text"]
    number: int
    """A time as microseconds since 1970; of a text a hash."""

    @property
    def order(self) -> int | None:
        """The number by which tables order it; None: it has no order."""
        return None if self.kind == "text" else self.number


def version_at(tree: Any, path: Sequence[str]) -> Version | None:
    """What stands at *path* (`("data", "updated_at")`) of a JSON tree: a whole number (also in quotes), a time in ISO 8601 (UTC
    where it does not say), or any other text or number, of which only equality is known. None: nothing that could be one."""
    try:
        for name in path:
            tree = tree[int(name)] if type(tree) is list else tree[name]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    if type(tree) is str:
        text = tree.strip()
        if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 25:
            tree = int(text)
        else:
            try:
                at = datetime.fromisoformat(text)
            except ValueError:
                pass
            else:
                at = at if at.tzinfo else at.replace(tzinfo=UTC)
                return Version("time", (at - _EPOCH) // timedelta(microseconds=1))
    if type(tree) is int and -LARGEST <= tree < LARGEST:
        return Version("counter", tree)
    if type(tree) not in (str, int, float) or tree == "":
        return None
    return Version("text", int.from_bytes(hashlib.blake2b(str(tree).encode(), digest_size=8).digest(), "big") >> 1)
