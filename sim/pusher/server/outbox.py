"""Fan-out: one frame to many subscribers, made once, sent in bounded steps.

Frames that are published to a channel before its turn to send comes join one *run* and leave as one write per subscriber;
that is how several publishes in flight cost less than one send each. What a subscriber may rely on:

* one channel's frames arrive in the order in which they were published, each exactly once;
* a run is for those subscribed when its first frame was published: a subscriber that comes or goes closes it to more frames;
* runs leave one after the other, so a frame whose publisher has its answer is ahead of anything published after that;
* frames of different channels that wait at the same moment may change places, unless a `barrier` stands between them.

Nothing is sent in `publish`. `flush` makes a bounded number of writes, so that the loop that calls it serves its other
sockets as well while five thousand subscribers get one event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from sim.pusher.server.state import Channel, Connection

RUN_BYTES = 65536
"""A run takes no more frames beyond this size: joined, they must stay far below what a subscriber's buffer may hold."""
FULL_BYTES = 1 << 26
"""Bytes that wait to be written, to all subscribers together, from which on no more should be published: what comes faster than
it can leave would fill the memory. It bounds the wait as well: a tenth of a second or so."""


class FrameRun:
    """Frames for one channel's subscribers, except `excluded`."""

    __slots__ = ("channel", "excluded", "frames", "position", "size", "subscribers")

    def __init__(self, channel: Channel, excluded: Connection | None) -> None:
        self.channel = channel
        self.subscribers = channel.snapshot()
        self.excluded = excluded
        self.frames: list[bytes] = []
        self.size = 0
        self.position = 0


def write_each(connections: Sequence[Connection], frame: bytes) -> None:
    """The same whole frames to each."""
    for connection in connections:
        connection.write(frame)


class Outbox:
    """The runs that wait. *wake* is called when the first one arrives; its owner must `flush` until that returns False.
    *write* does what `write_each` does."""

    def __init__(
        self, wake: Callable[[], None] = lambda: None, write: Callable[[Sequence[Connection], bytes], None] = write_each
    ) -> None:
        self.wake, self._write = wake, write
        self._runs: deque[FrameRun] = deque()
        self._joinable: dict[Channel, FrameRun] = {}
        """The run that a channel's next frame may still join."""
        self.delivered = 0
        """Frames handed to subscribers since the start."""
        self.bytes = 0
        """Their bytes."""
        self.taken = 0
        """Frames for subscribers that were published since the start, sent or not."""
        self.taken_bytes = 0
        self.writes = 0

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def full(self) -> bool:
        return self.taken_bytes - self.bytes > FULL_BYTES

    def publish(self, channel: Channel, frame: bytes, excluded: Connection | None = None) -> None:
        run = self._joinable.get(channel)
        if run is None or run.subscribers is not channel.snapshot() or run.excluded is not excluded or run.size > RUN_BYTES:
            run = self._joinable[channel] = FrameRun(channel, excluded)
            self._runs.append(run)
            if len(self._runs) == 1:
                self.wake()
        self.taken += len(run.subscribers)
        self.taken_bytes += len(run.subscribers) * len(frame)
        run.frames.append(frame)
        run.size += len(frame)

    def barrier(self) -> None:
        """What is published from now on leaves after everything that waits, whatever its channel."""
        self._joinable.clear()

    def flush(self, writes: int = 1 << 30) -> bool:
        """Make at most *writes* writes. True while more is waiting."""
        runs = self._runs
        while runs and writes > 0:
            run = runs[0]
            if not run.position and self._joinable.get(run.channel) is run:
                del self._joinable[run.channel]
            frames, excluded, start = run.frames, run.excluded, run.position
            if len(frames) > 1 and not start:
                frames[0] = b"".join(frames)
            data = frames[0]
            batch = run.subscribers[start : start + writes]
            self._write(batch if excluded is None else [c for c in batch if c is not excluded], data)
            writes -= len(batch)
            self.writes += len(batch)
            self.delivered += len(batch) * len(frames)
            self.bytes += len(batch) * run.size
            run.position = start + len(batch)
            if run.position == len(run.subscribers):
                runs.popleft()
        return bool(runs)
