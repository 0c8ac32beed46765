"""What the processes of a run cost: CPU, memory and descriptors of local processes, and the target's `/metrics`, once a second.

A sample is a row of the bundle's `metrics` table. What cannot be read (a process that has ended, a target without `/metrics`) is
left out; the table then simply has no such rows.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from sim.clock import SECOND
from sim.live.client import HttpOrigin
from sim.results import journal
from sim.results.journal import Journal

TIMEOUT = 0.5
"""Seconds for one `/metrics` answer; a target that is slower than this under load is asked again a second later."""

SERVERS = ("broadcaster", "application")
"""Processes whose children are sampled as well."""

SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^}]*\})?)\s+(\S+)")
"""A line of Prometheus' text format: name with labels, value."""


MetricSample = tuple[int, str, str, float]
"""(ns since 1970, process, metric, value)."""

SCHEMA = pa.schema([("at", pa.int64()), ("process", pa.string()), ("metric", pa.string()), ("value", pa.float64())])
"""Of a sampler's journal: `MetricSample`."""


class Sampler:
    """Collects rows; call `sample` about once a second."""

    def __init__(self, journal: Journal | None = None) -> None:
        """*journal* (of `SCHEMA`): also gets the rows, so that they outlive this process."""
        self.rows: list[MetricSample] = []
        self._journal = journal
        self._processes: dict[str, psutil.Process] = {}
        self._pages: dict[str, HttpOrigin] = {}

    def watch(self, pids: Mapping[str, int]) -> None:
        """Add local processes, by the name they get in the table; a server's children by its name and a number."""
        for name, pid in pids.items():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                children = process.children() if name in SERVERS else []
                self._processes |= {name: process} | {f"{name}-{n}": child for n, child in enumerate(children, 1)}

    def scrape(self, pages: Mapping[str, str]) -> None:
        """Add `/metrics` below these URLs, by process name; a page that is not there is dropped at once."""
        self._pages |= {name: HttpOrigin.parse(url) for name, url in pages.items()}

    def sample(self) -> None:
        """Raises `OSError` where the journal cannot be written."""
        known = len(self.rows)
        self._look(time.time_ns())
        if self._journal is not None:
            self._journal.append(_columns(self.rows[known:]))

    def _look(self, now: int) -> None:
        for name, process in tuple(self._processes.items()):
            try:
                with process.oneshot():
                    memory = process.memory_info()
                    values = {"cpu_seconds": cpu_seconds(process), "rss_bytes": memory.rss, "threads": process.num_threads()}
                    values["descriptors"] = process.num_fds() if hasattr(process, "num_fds") else 0
            except psutil.Error:
                del self._processes[name]
                continue
            self.rows += [(now, name, metric, float(value)) for metric, value in values.items()]
        for name, origin in tuple(self._pages.items()):
            status, text = _get(origin, "/metrics")
            if status == 200:
                self.rows += [(now, name, metric, value) for metric, value in parse_metrics(text)]
            elif status:
                del self._pages[name]


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time of a process until now, user and system. By Linux's clock of that process, which counts nanoseconds: the
    times that psutil reads are whole ticks of 10 ms, and an idle broadcaster takes a few of them in a run."""
    with contextlib.suppress(OSError, AttributeError):
        return time.clock_gettime(~process.pid << 3 | 2)  # CPUCLOCK_SCHED: clock_getcpuclockid(3)
    times = process.cpu_times()
    return float(times.user + times.system)


def _columns(rows: Sequence[MetricSample]) -> dict[str, Any]:
    return {name: [row[i] for row in rows] for i, name in enumerate(SCHEMA.names)}


def metric_columns(rows: Sequence[MetricSample], epoch: int) -> dict[str, Any]:
    """Columns of the bundle's `metrics` table, seconds since *epoch*."""
    columns = _columns(rows)
    return columns | {"at": [(at - epoch) / SECOND for at in columns["at"]]}


def read_samples(path: Path) -> list[MetricSample]:
    """The rows of a journal; none where there is none."""
    if not path.exists():
        return []
    return list(zip(*journal.read(path, SCHEMA).to_pydict().values(), strict=True))


def parse_metrics(text: str) -> Iterator[tuple[str, float]]:
    """(name with labels, value) of each sample in Prometheus' text format; histogram buckets are left out."""
    for line in text.splitlines():
        found = SAMPLE.match(line)
        if found and "_bucket{" not in found[1]:
            with contextlib.suppress(ValueError):
                yield found[1], float(found[2])


def _get(origin: HttpOrigin, path: str) -> tuple[int, str]:
    """(status, text), or (0, "") when no answer came in time."""
    kind = http.client.HTTPSConnection if origin.tls else http.client.HTTPConnection
    connection = kind(origin.host, origin.port, timeout=TIMEOUT)
    try:
        connection.request("GET", origin.prefix + path)
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 20).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def listeners(ports: Mapping[str, int]) -> dict[str, int]:
    """Process ids of local programs that listen on these ports, by name: a target that was started by hand."""
    found: dict[str, int] = {}
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.pid:
                found |= {name: connection.pid for name, port in ports.items() if connection.laddr.port == port}
    return found
