"""Metrics of processes and pages."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sim.live.measure.sampling import SCHEMA, Sampler, cpu_seconds, listeners, metric_columns, parse_metrics, read_samples
from sim.results.journal import Journal
from tests.live.servers import Behaviour, always, answer, serving

TEXT = """# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{method="GET",status="200"} 12
latency_seconds_bucket{le="0.1"} 3
latency_seconds_sum 1.5e-1
up NaN
broken
"""


def test_prometheus_text() -> None:
    found = dict(parse_metrics(TEXT))
    assert found.pop("up") != 0
    assert found == {'requests_total{method="GET",status="200"}': 12.0, "latency_seconds_sum": 0.15}


def test_a_local_process_and_one_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "sampled.arrows"
    assert read_samples(path) == []
    with Journal(path, SCHEMA) as journal:
        sampler = Sampler(journal)
        sampler.watch({"self": os.getpid(), "gone": 2**22 + 1})
        sampler.sample()
        assert read_samples(path) == sampler.rows, "what was sampled outlives this process"
    columns = metric_columns(sampler.rows, 0)
    assert set(columns["process"]) == {"self"}
    assert set(columns["metric"]) == {"cpu_seconds", "rss_bytes", "threads", "descriptors"}
    assert metric_columns([], 0) == {"at": [], "process": [], "metric": [], "value": []}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has clocks of other processes")
def test_processor_time_is_finer_than_a_tick() -> None:
    before = time.process_time()
    found = cpu_seconds(psutil.Process())
    assert before <= found <= time.process_time()


def test_the_nodes_of_a_broadcaster_are_its_children() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        sampler = Sampler()
        sampler.watch({"broadcaster": os.getpid(), "publisher": os.getpid()})
        sampler.sample()
        names = {process for _, process, _, _ in sampler.rows}
        assert {"broadcaster", "broadcaster-1", "publisher"} <= names
        assert "publisher-1" not in names
    finally:
        child.communicate(b"\n")


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("behave", "rows"),
    [(always(answer(TEXT.encode())), 6), (always(answer(status="404 Not Found")), 0), (always(b"what?\r\n\r\n"), 0)],
    ids=["page", "no page", "garbage"],
)
def test_pages(behave: Behaviour, rows: int) -> None:
    async def main() -> int:
        async with serving(behave) as port:
            sampler = Sampler()
            sampler.scrape({"target": f"http://127.0.0.1:{port}"})
            for _ in range(2):
                await asyncio.to_thread(sampler.sample)
            return len(sampler.rows)

    assert asyncio.run(main()) == rows


@pytest.mark.loopback
def test_who_listens_on_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listeners({"me": server.getsockname()[1], "nobody": 1}) == {"me": os.getpid()}
