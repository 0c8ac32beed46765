"""The hot loops, for Numba: imported by `compiled` when they are first used.

What takes most of a large run is its queue. The free times of up to `LONG` workers are a sorted row of 32-bit integers in two
vector registers (up to `SHORT` in one): the first leaves it, and the end of its request takes its place among the others by a
least and a largest of whole rows (as in `queueing._in_step`). Numba has no vectors, so this step is written for LLVM. Requests go
through in parts whose instants count from the part's first arrival, so that they fit into 32 bits; a part that does not fit takes
a heap, as do more workers. For each request: 1.7 ns in a short row, 2.2 ns in a long one, 5 ns with all that is observed.

Rejected: a row of 64 bits, 5 ns (a largest takes three cycles, of 32 bits one); the row in memory, 7 ns (each request waits for
the stores of the one before); a heap for all, 14 ns; the least three apart from the row, 0.4 ns more (two vector units have more
to do); steps of a part in loops of their own, or parts within the window without looking at its edges, no less. To count steps
with each count and what its values are above their steps in one integer, and their extremes by parts: 3.1 ns for 2.1; four
in turn in the place of two: 3.5 ns for 3.3. Starts drawn one by one in `pack`: 2.6 ns for 2.5. Starts dealt to 128
ranges before they are sorted: 7.8 ns for 6.0. An allocator that keeps all memory: no less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from sim.arrays import Array
from sim.clock import SECOND

SHORT, LONG = 16, 32
"""Lengths of a row of free times. With the least of all, which stands by itself, it holds one worker more; more are a heap."""

PART = 256
"""Requests whose instants have one base."""

LATEST = (1 << 31) - 1
"""The free time of a worker that does not exist, ns from the base."""

_INT = ir.IntType(32)
_ONE = ir.VectorType(_INT, 4)


def compiled(function: Callable[..., Any]) -> Any:
    try:
        return numba.njit(function, cache=True, nogil=True)
    except RuntimeError:  # a read-only checkout without a home: nowhere to keep it, so it is compiled each time
        return numba.njit(function, nogil=True)


def _in_turn(lanes: int) -> Any:
    """A function: *count* requests (int32 columns) go to workers whose sorted *free* times are the least and a row of *lanes*
    (int32); *arrivals* become begins.

    Of the end of a request and the least of the row the smaller is the next least, and the larger goes into the row. So the next
    request waits for one comparison, not for the row. Single numbers are the first of a vector of four, because to leave the
    vector registers takes longer than the arithmetic.
    """
    row_type = ir.VectorType(_INT, lanes)

    @intrinsic
    def in_turn(typing: Any, free: Any, arrivals: Any, needs: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            def choose(sign: str, one: Any, other: Any) -> Any:
                return builder.select(builder.icmp_signed(sign, one, other), one, other)

            def load(place: Any) -> Any:
                return builder.insert_element(ir.Constant(_ONE, ir.Undefined), builder.load(place), _INT(0))

            def store(one: Any, place: Any) -> None:
                builder.store(builder.extract_element(one, _INT(0)), place)

            def pick(one: Any, other: Any, places: Any) -> Any:
                places = list(places)
                return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_INT, len(places)), places))

            free_at, arrived_at, needed_at = (
                context.make_array(kind)(context, builder, array).data
                for kind, array in zip(signature.args[:3], given, strict=False)
            )
            row_at = builder.bitcast(builder.gep(free_at, [_INT(1)]), row_type.as_pointer())
            least = cgutils.alloca_once_value(builder, load(free_at))
            row = cgutils.alloca_once_value(builder, builder.load(row_at, align=4))
            never = ir.Constant(row_type, [LATEST] * lanes)
            with cgutils.for_range(builder, given[3]) as request:
                arrived = builder.gep(arrived_at, [request.index])
                begin = choose(">", load(arrived), builder.load(least))
                store(begin, arrived)
                end = builder.add(begin, load(builder.gep(needed_at, [request.index])))
                held = builder.load(row)
                first = pick(held, held, range(4))
                builder.store(choose("<", first, end), least)
                later = choose(">", first, end)
                others = pick(held, never, range(1, lanes + 1))
                builder.store(choose("<", others, choose(">", held, pick(later, later, [0] * lanes))), row)
            store(builder.load(least), free_at)
            builder.store(builder.load(row), row_at, align=4)
            return context.get_dummy_value()

        return types.none(free, arrivals, needs, count), generate

    return in_turn


_by_short, _by_long = _in_turn(SHORT), _in_turn(LONG)


@compiled
def _heaped(sent: Array, to: int, service: Array, free: Array, begins: Array, base: int) -> None:
    """The same by a heap. All int64; *sent* requests arrive *to* later, and *begins* count from *base*."""
    workers = free.size
    held = np.full(workers + 1, 1 << 62)  # one more that is never free
    held[:workers] = free
    for k in range(sent.size):
        begin = max(sent[k] + to, held[0])
        end = begin + service[k]
        begins[k] = begin - base
        hole, child = 0, 1
        while child < workers:
            child += held[child + 1] < held[child]  # no branch: it could not be predicted
            if held[child] >= end:
                break
            held[hole] = held[child]
            hole, child = child, 2 * child + 1
        held[hole] = end
    free[:] = np.sort(held[:workers])


@compiled
def serve(
    sent: Array,
    service: Array,
    begins: Array,
    free: Array,
    window: tuple[int, int],
    way: int,
    base: int,
    bits: int,
    order: Array,
    answers: Array,
) -> tuple[int, int, int, int, int, int]:
    """See `compiled.serve`."""
    workers, to, (start, stop) = free.size, base + way, window
    small, needs, row = np.empty(PART, np.int32), np.empty(PART, np.int32), np.full(1 + LONG, LATEST, np.int32)
    busy = count = waited = longest = 0
    least, largest = 1 << 62, -(1 << 62)
    for first in range(0, sent.size, PART):
        size = min(PART, sent.size - first)
        at, need, begin = sent[first : first + size], service[first : first + size], begins[first : first + size]
        if bits:
            number = order[first : first + size]
            for k in range(size):
                number[k] = at[k] & ((1 << bits) - 1)
                at[k] >>= bits
        since, work, most = max(at[0] + to, free[0]), 0, 0
        for k in range(size):
            work += need[k]
            most = max(most, need[k])
        # From the last arrival on all workers are busy, so none begins later than all the work takes them.
        if workers <= 1 + LONG and max(at[size - 1] + to, free[-1]) - since + work // workers + most < LATEST:
            for k in range(workers):
                row[k] = max(free[k] - since, 0)
            for k in range(size):
                small[k], needs[k] = max(at[k] + to - since, 0), need[k]
            if workers <= 1 + SHORT:
                _by_short(row, small, needs, size)
            else:
                _by_long(row, small, needs, size)
            for k in range(workers):
                free[k] = since + row[k]
            for k in range(size):
                begin[k] = small[k] + (since - base)
        else:
            _heaped(at, to, need, free, begin, base)
        for k in range(size):
            arrival, begun, end = at[k] + to, begin[k] + base, begin[k] + base + need[k]
            inside = start <= arrival < stop
            count += inside
            waited += (begun - arrival) * inside
            longest = max(longest, (begun - arrival) * inside)
            busy += max(0, min(end, stop) - max(begun, start))
        if bits:
            answer = answers[first : first + size]
            for k in range(size):
                answer[k] = begin[k] + need[k] + way
                least, largest = min(least, answer[k]), max(largest, answer[k])
    return busy, count, waited, longest, least, largest


@compiled
def scaled(shares: Array, scale: float, into: Array) -> None:
    for k in range(into.size):
        into[k] = np.int64(np.rint(shares[k] * scale * SECOND))


@compiled
def pack(shares: Array, most: float, earliest: Array, first: int, bits: int, into: Array) -> None:
    for k in range(shares.size):
        into[k] = ((earliest[k] + np.int64(shares[k] * most)) << bits) | (first + k)


@compiled
def rearranged(values: Array, order: Array, other: Array) -> Array:
    by_member, found = np.empty_like(values), np.empty_like(values)
    for k in range(values.size):
        by_member[order[k]] = values[k]
    for k in range(values.size):
        found[k] = by_member[other[k]]
    return found


@compiled
def count_steps(values: Array, kinds: Array, number: int, shift: int, first: int, size: int) -> tuple[Array, Array, Array, Array]:
    # Neighbours are often of one kind and step, and would wait for each other's sums: even and odd ones have their own.
    counts = np.zeros((number, 2, size), np.int64)
    total = np.zeros((number, 2), np.int64)
    least, largest = np.full((number, 2), 1 << 62), np.full((number, 2), -(1 << 62))
    for i in range(values.size):
        value, kind, turn = values[i], kinds[i], i & 1
        counts[kind, turn, (value >> shift) - first] += 1
        total[kind, turn] += value
        least[kind, turn] = min(least[kind, turn], value)
        largest[kind, turn] = max(largest[kind, turn], value)
    return (
        counts[:, 0] + counts[:, 1],
        total[:, 0] + total[:, 1],
        np.minimum(least[:, 0], least[:, 1]),
        np.maximum(largest[:, 0], largest[:, 1]),
    )


@compiled
def count_bins(durations: Array, shift: int, first: int, counts: Array) -> None:
    """See `Histogram.bins_of`."""
    reals = np.empty(PART)
    bins = reals.view(np.int64)
    for low in range(0, durations.size, PART):
        part = durations[low : low + PART]
        for k in range(part.size):
            reals[k] = part[k]
        for k in range(part.size):
            bins[k] = max((bins[k] >> shift) - first, 0)
        for k in range(part.size):
            counts[bins[k]] += 1
