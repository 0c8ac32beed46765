"""Processes that simulate: those of this machine, or of a Dask cluster."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sim.errors import BadInput, Unreachable

CONNECT_TIMEOUT = 10.0
"""Seconds in which a Dask scheduler has to answer."""

MOST_PROCESSES = 1024
"""At a time, on one machine."""


def _in_worker() -> None:
    """In a worker: Ctrl-C goes to the whole group, and is the parent's to answer. When the parent has gone, the worker goes."""
    import multiprocessing
    from multiprocessing.connection import wait as ready

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        ready([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@dataclass(frozen=True)
class WorkerPool:
    """Where simulations run."""

    executor: Executor
    parallel: int
    """Simulations at a time."""
    alive: Callable[[], bool] = lambda: True
    """Is there still a worker?"""


@contextmanager
def workers(count: int | None = None, scheduler: str | None = None) -> Iterator[WorkerPool]:
    """Processes on this machine (default: one per core), or a Dask cluster by its address.

    Raises `Unreachable` where no scheduler answers, `BadInput` where Dask is not installed, here or this package there.
    """
    if scheduler is None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        count = count or os.cpu_count() or 1
        # Not forked: compiled loops and drawing threads do not survive it.
        pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_in_worker)
        try:
            yield WorkerPool(pool, count)
        except BaseException:
            # What still runs is not waited for: it is simulated again when the sweep goes on.
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise BadInput("--scheduler needs Dask: pip install 'notify-refetch-workbench[cluster]'") from error
    try:
        client = Client(scheduler, timeout=CONNECT_TIMEOUT)
    except (OSError, ValueError) as error:
        raise Unreachable(f"scheduler {scheduler}: no Dask scheduler answers there ({error})") from error
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise Unreachable(f"scheduler {scheduler}: it has no workers (start some: dask worker {scheduler})")
        _require_package(client, scheduler)
        with client.get_executor(pure=False, retries=1) as executor:
            yield WorkerPool(executor, threads, alive=lambda: bool(client.nthreads()))


def _require_package(client: Any, scheduler: str) -> None:
    """Raise `BadInput` where a worker, or the scheduler, cannot import this package: its tasks would wait for ever."""
    from importlib.util import find_spec

    found = client.run(find_spec, "sim", on_error="return")
    without = [address for address, spec in found.items() if spec is None or isinstance(spec, Exception)]
    if client.run_on_scheduler(find_spec, "sim") is None:
        without.append("the scheduler itself")
    if without:
        raise BadInput(
            f"scheduler {scheduler}: {without[0]}{f' and {len(without) - 1} more' if len(without) > 1 else ''} cannot import sim "
            "(install notify-refetch-workbench there, in this version)"
        )
