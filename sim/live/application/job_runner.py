"""Runs the application's jobs in real time, a thread per running job; and a provisioning run that never ends."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from sim.brokeforge.domain.models import Server
from sim.brokeforge.domain.statuses import IllegalMove
from sim.brokeforge.jobs import Forge, Gone, Job, ProvisionServer
from sim.workload import Trace

log = logging.getLogger("jobs")

MOST = 64
"""Jobs that may run at once; each is a thread that mostly sleeps."""


class JobRunner:
    """Runs jobs on *forge* until `close`."""

    def __init__(self, forge: Forge, most: int = MOST) -> None:
        self._forge = forge
        self._most = most
        self._stopped = threading.Event()
        self._running: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def start(self, job: Job) -> bool:
        """Begin *job*; False when it was refused because as many run as may."""
        with self._lock:
            if len(self._running) >= self._most or self._stopped.is_set():
                return False
            thread = threading.Thread(target=self._work, args=(job,), name=type(job).__name__, daemon=True)
            self._running.add(thread)
        thread.start()
        return True

    def __len__(self) -> int:
        return len(self._running)

    def close(self) -> None:
        """Stop: each job ends at its next wait, its present change committed."""
        self._stopped.set()
        for thread in list(self._running):
            thread.join(timeout=2.0)

    def _work(self, job: Job) -> None:
        try:
            self.run(job)
        finally:
            self._forge.release()
            with self._lock:
                self._running.discard(threading.current_thread())

    def run(self, job: Job) -> None:
        """Run *job* in this thread. What it cannot do is logged: there is nobody to answer to."""
        try:
            for wait in job.handle(self._forge):
                if self._stopped.wait(wait):
                    return
        except Gone:
            log.info("%s: its model is gone", type(job).__name__)
        except IllegalMove as error:
            log.warning("%s: %s", type(job).__name__, error)
        except OperationalError as error:
            self._forge.database_outage.failed(f"{type(job).__name__}: database: {error.orig}")
        except Exception:
            log.exception("%s", type(job).__name__)


class ProvisionForever:
    """A job that provisions the same server again and again, each time by the next of the recorded *traces*."""

    def __init__(self, position: int, traces: tuple[Trace, ...], speed: float) -> None:
        """*position*: among the servers by id, so that several never meet on one, and the first user's come first."""
        self._position = position
        self._traces, self._speed = traces, speed

    def handle(self, forge: Forge) -> Iterator[float]:
        for trace in itertools.islice(itertools.cycle(self._traces), self._position % len(self._traces), None):
            # The next customer does not come in the same millisecond; where there is no such server, none comes for now.
            yield 1.0 / self._speed
            with forge.transaction() as session:
                id = session.scalar(select(Server.id).order_by(Server.id).offset(self._position).limit(1))
            if id is None:
                continue
            try:
                yield from ProvisionServer(id, trace, self._speed).handle(forge)
            except (Gone, IllegalMove) as error:
                log.info("server %d: %s", id, error or "gone")
