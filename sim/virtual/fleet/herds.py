"""A herd: one refetch of every page of a group, and the states that the pages show then.

Pages are *members* of their group, in the order of their places in the fan-out. A herd's arrays are in the order in which its
requests began, so a state that was read by an instant is found by binary search, for all pages at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sim.arrays import Array
from sim.virtual.fleet import compiled
from sim.virtual.fleet.spread import Profile

NEVER = 1 << 61
"""An instant that no run reaches; adding durations to it does not overflow."""

FAILED = -(1 << 61)
ABORTED = FAILED + 1
"""In the place of `begun`: there is no answer, because the page gave up, or because its next refetch aborted this one."""


@dataclass(frozen=True, slots=True)
class Span:
    """Instants of a run, ns: updates and refetches count from `start`, updates and polls until `stop`, refetches until `end`."""

    start: int
    stop: int
    end: int


class Herd:
    """One refetch of each page of a group. All arrays are int64 ns counted from `base`, in the order in which requests began.

    `order[k]` is the member whose request began as the k-th; None where that is member k.
    """

    __slots__ = ("_by_member", "base", "begun", "heard", "order", "sent")

    def __init__(
        self,
        base: int,
        started: Array,
        begun: Array,
        finished: Array | Profile,
        order: Array | None,
        rising: bool = False,
        sent_in_order: bool = True,
    ) -> None:
        """*finished*: when the page hears the answer; `NEVER` where it has given up. *rising*: it is sorted; *sent_in_order*:
        *started* is."""
        self.base = base
        self.sent = Profile(started, sent_in_order)
        self.begun = begun
        self.heard = finished if isinstance(finished, Profile) else Profile(finished, rising)
        self.order = order
        self._by_member: Array | None = None

    @classmethod
    def of_members(cls, started: Array, begun: Array, finished: Array) -> Herd:
        """From columns in the order of members, instants of the run."""
        begun, order = in_order(begun)
        return cls(0, started[order], begun, finished[order], order, sent_in_order=False)

    def moved(self, base: int) -> Herd:
        """The same herd at another instant, sharing all arrays: what an idle queue makes of equal requests is equal."""
        other = Herd.__new__(Herd)
        other.base, other.sent, other.begun, other.heard, other.order = base, self.sent, self.begun, self.heard, self.order
        other._by_member = self._by_member
        return other

    @property
    def size(self) -> int:
        return self.begun.size

    @property
    def first_heard(self) -> int:
        return self.base + self.heard.least

    @property
    def last_heard(self) -> int:
        return self.base + self.heard.largest

    @property
    def reading(self) -> Reading:
        return Reading(self.base, self.begun, self.order)

    def heard_by(self, members: Array) -> Profile:
        """When some *members* hear the answer, from `base`."""
        if self._by_member is None:
            self._by_member = by_member(0, self.heard.values, self.order)
        return Profile(self._by_member[members])

    def columns(self) -> tuple[Array, Array, Array]:
        """(started, begun, finished) as instants of the run, in the order of members."""
        parts = (self.sent.values, self.begun, self.heard.values)
        started, begun, finished = (by_member(self.base, part, self.order) for part in parts)
        return started, begun, finished

    def columns_of(self, members: Array) -> tuple[Array, Array, Array]:
        """The same of some *members*."""
        ranks = members
        if self.order is not None:
            ranks = np.empty_like(self.order)
            ranks[self.order] = np.arange(self.order.size)
            ranks = ranks[members]
        return self.base + self.sent.values[ranks], self.base + self.begun[ranks], self.base + self.heard.values[ranks]


@dataclass(frozen=True, eq=False)
class Reading:
    """The instants at which the states that the pages show were read, in rising order: a herd's, or what is left of several."""

    base: int
    begun: Array
    order: Array | None

    @property
    def least(self) -> int:
        return self.base + int(self.begun[0])

    @property
    def largest(self) -> int:
        return self.base + int(self.begun[-1])

    @cached_property
    def members(self) -> Array:
        """In the order of members."""
        return by_member(self.base, self.begun, self.order)

    def reached(self, committed: Array, order: Array | None) -> Array:
        """How many of these sorted instants the state of each page contains. *order*: of the members (None: theirs).

        In as few bytes as it takes, because what is written here and there in memory should fit into a cache.
        """
        edges = np.searchsorted(self.begun, committed - self.base)
        counts = np.arange(committed.size + 1, dtype=np.min_scalar_type(committed.size))
        by_rank = np.repeat(counts, np.diff(np.concatenate(([0], edges, [self.begun.size]))))
        if order is self.order:
            return by_rank
        if compiled.ENABLED and order is not None and self.order is not None and by_rank.dtype == np.uint8:
            return compiled.rearranged(by_rank, self.order, order)
        counts = by_member(0, by_rank, self.order)
        return counts if order is None else counts[order]

    def reached_by(self, committed: Array, members: Array) -> Array:
        """The same of some members."""
        return np.searchsorted(committed, self.members[members], side="right")

    @classmethod
    def of_members(cls, begun: Array) -> Reading:
        return cls(0, *in_order(begun))


def by_member(base: int, values: Array, order: Array | None) -> Array:
    if order is None:
        return base + values
    sorted_back = np.empty_like(values)
    sorted_back[order] = values
    if base:
        sorted_back += base
    return sorted_back


def fits(span: int, count: int) -> bool:
    """Can an instant within *span* ns and one of *count* places be one integer?"""
    return span.bit_length() + count.bit_length() <= 62


def in_order(instants: Array) -> tuple[Array, Array]:
    """(sorted instants, their places before), equal ones in the order in which they came.

    Where instant and place fit into one integer they are sorted as one, for which NumPy has vector instructions. A million: 7 ms,
    with AVX2 13 ms, without either 57 ms, by a compiled radix sort 18 ms; indirectly 86 ms.
    """
    places = np.arange(instants.size)
    if not instants.size or (instants[1:] >= instants[:-1]).all():
        return instants, places
    least, bits = int(instants.min()), instants.size.bit_length()
    if not fits(int(instants.max()) - least, instants.size):
        places = np.argsort(instants, kind="stable")
        return instants[places], places
    keys = instants - least
    keys <<= bits
    keys |= places
    keys.sort()
    places = keys & ((1 << bits) - 1)
    keys >>= bits
    keys += least
    return keys, places
