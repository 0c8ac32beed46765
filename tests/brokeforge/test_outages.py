"""What is away is said once, and once that it is back."""

from __future__ import annotations

import logging
import threading

import pytest

from sim.brokeforge.outages import OutageLog

LOG = logging.getLogger("test.outages")


def test_once_away_and_once_back(caplog: pytest.LogCaptureFixture) -> None:
    outage = OutageLog("the database", LOG)
    outage.worked()
    for n in range(5):
        outage.failed(f"GET /{n}: database: refused\n\tIs it running?")
    outage.worked()
    outage.worked()
    outage.failed("again")
    assert caplog.messages == [
        "GET /0: database: refused Is it running?",
        "the database answers again (5 failed in between)",
        "again",
    ]


def test_many_threads_say_it_once(caplog: pytest.LogCaptureFixture) -> None:
    outage = OutageLog("redis", LOG)
    threads = [threading.Thread(target=lambda: [outage.failed("away") for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outage.worked()
    assert caplog.messages == ["away", "redis answers again (1600 failed in between)"]
